"""Saves and loads the config in a run's work directory, and compares it with another config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lru.errors import UserError
from lru.io.files import read_object, write_atomically
from lru.training.names import current_name
from lru.training.optimizer import is_constant
from lru.training.speed import BY_PLATFORM


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`, unless it exists and agrees with the config; see `differences`."""
    file = workdir / "config.json"
    if not file.exists() or differences(load_run_config(workdir).to_dict(), config.to_dict()):
        write_atomically(file, json.dumps(config.to_dict(), indent=2) + "\n")


# A run may be continued with other values of these options.
_NO_EFFECT_ON_RESULTS = {
    *BY_PLATFORM,
    "train.steps_per_call",
    "train.device_data_mb",
    "train.tensorboard",
    "train.time_devices",
    "train.wandb",
    "model.mixer.sequence_axis",
}


def on_one_device(config: ConfigDict) -> ConfigDict:
    """Returns the config for a model that does not divide the time among devices."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        if time_devices(config) > 1:
            config.train.time_devices = 1
        if "sequence_axis" in (mixer := section(section(config, "model"), "mixer")):
            mixer.sequence_axis = None
    return config


def time_devices(config: ConfigDict) -> int:
    """Returns `config.train.time_devices`; 1 if it is missing or not a whole number above 1.

    The config may be damaged; `lru.training.experiment.Experiment` checks it.
    """
    number = section(config, "train").get("time_devices")
    return number if type(number) is int and number > 1 else 1


def section(config: ConfigDict, name: str) -> ConfigDict:
    """Returns a section of a config; an empty one if it is missing or not a section."""
    found = config.get(name)
    return found if isinstance(found, ConfigDict) else ConfigDict()


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Checks that a work directory is new or belongs to a run with this config.

    Options that affect the results at most by rounding may differ. If the learning rates are
    constant, the config may have more steps or epochs than that of the run.

    Raises:
      UserError: the work directory belongs to a run with another config, or its config is damaged.
    """
    if not (workdir / "config.json").exists():
        return
    found = differences(load_run_config(workdir).to_dict(), config.to_dict())
    if _is_longer(found):
        return _check_constant(config, workdir, found)
    for key, (there, here) in found.items():
        raise UserError(
            f"work directory {workdir} was made with another config: config.{key} is "
            f"{there!r} there, {here!r} here; choose another --workdir"
        )


_LENGTHS = ("train.steps", "train.epochs")


def _is_longer(found: Mapping[str, tuple[Any, Any]]) -> bool:
    """Returns whether the only difference is that the second config has more steps or epochs."""
    if len(found) != 1 or not found.keys() <= set(_LENGTHS):
        return False
    (there, here), *_ = found.values()
    return type(there) is int and type(here) is int and 0 < there < here


def _check_constant(config: ConfigDict, workdir: Path, found: Mapping[str, Any]) -> None:
    try:
        constant = is_constant(**config.optimizer)
    except (TypeError, ValueError):
        constant = True  # `Experiment` reports what is wrong with the optimizer
    if not constant:
        (key, (there, here)), *_ = found.items()
        raise UserError(
            f"the run in {workdir} has config.{key}={there}, and its learning rate is scheduled "
            f"over all of them, so {here} would change the rates from the start; train in a new "
            f"--workdir, with --init_from={workdir} to start from these weights"
        )


def is_extended(config: ConfigDict, workdir: Path) -> bool:
    """Returns whether the config differs from the record's only by more steps or epochs.

    Options that do not affect the results are not compared. If there is no readable record, the
    result is False.
    """
    try:
        there = json.loads((workdir / "record.json").read_text())["config"]
        return _is_longer(differences(there, config.to_dict()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False  # a damaged record is reported when it is read


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns both values of each option that affects the results and differs between two configs.

    The keys are dotted, such as "train.steps". The value is None in a config that lacks the key.

    Example:
      >>> differences({"seed": 0, "data": {"pad_to": 4}}, {"seed": 1, "data": {"pad_to": 4}})
      {'seed': (0, 1)}
    """
    mine, others = (_flat(json.loads(json.dumps(config))) for config in (one, other))
    return {
        key: (mine.get(key), others.get(key))
        for key in sorted((mine.keys() | others.keys()) - _NO_EFFECT_ON_RESULTS)
        if mine.get(key) != others.get(key)
    }


def load_run_config(workdir: Path) -> ConfigDict:
    """Loads the config of the run in a work directory, without resolving its names.

    Raises:
      UserError: there is no config, or it cannot be read.
    """
    file = workdir / "config.json"
    if not file.exists():
        raise UserError(
            f"{workdir} holds no run: {file} is missing; give a --workdir that "
            "lru.train has written"
        )
    remedy = "restore it, or train in a new --workdir"
    try:
        return ConfigDict(read_object(file, {}, remedy))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error}); {remedy}") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            items |= _flat(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = current_name(value) if key == "type" else value
    return items
