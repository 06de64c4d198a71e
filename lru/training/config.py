"""Finds, loads, checks and saves configs, and builds objects from their sections.

A config file has a function `get_config(variant)` that returns a `ConfigDict`. A section with a
`type`, such as `"lru.models:SequenceClassifier"`, names a class or a function. The other keys of
the section are its arguments. A key that is not an argument raises an error.
"""

from __future__ import annotations

import functools
import inspect
import json
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from lru.errors import UserError, did_you_mean
from lru.io.files import read_object, write_atomically
from lru.training.names import check_names, current_name, resolve
from lru.training.optimizer import is_constant
from lru.training.overrides import override
from lru.training.ranges import check_ranges
from lru.training.speed import BY_PLATFORM

PACKAGE = Path(__file__).resolve().parents[1]


def load_config(argument: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Loads the config of `path/to/file.py` or `path/to/file.py:variant`.

    The file is executed as the user's own program, and its types may come from any package.

    Args:
      argument: the file and, after a colon, the variant to pass to its `get_config`. A relative
        path is looked up in the current directory, then among the configs of the package.
      overrides: `--config.key.subkey=value`, see `lru.training.overrides`.

    Returns:
      The config, not locked: it may be changed further.

    Raises:
      UserError: the file, variant or key does not exist, or a value has the wrong type.
    """
    path, _, variant = argument.partition(":")
    file = find_config(path)
    if file.suffix != ".py":
        raise UserError(f"config {path} is not a Python file; expected e.g. configs/lra_listops.py")
    try:
        config = _run(file)["get_config"](variant)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"config {argument} failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config {argument} is a {type(config).__name__}; expected a ConfigDict")
    return override(config, overrides)


def _run(file: Path) -> dict[str, Any]:
    """Runs a config file and returns its names; like a script, it may import from its folder."""
    before, modules = sys.path, set(sys.modules)
    sys.path = [str(file.parent), *before]
    try:
        return runpy.run_path(str(file))
    finally:
        sys.path = before
        for name in set(sys.modules) - modules:  # another folder may have modules of the same names
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == file.parent:
                del sys.modules[name]


def find_config(path: str) -> Path:
    """Returns the file at `path`, or the config of that name in the package."""
    # An installed package contains the configs; in a checkout they are beside it.
    for file in (Path(path), PACKAGE / path, PACKAGE.parent / path):
        if file.is_file():
            return file
    known = sorted(
        f"configs/{file.name}"
        for folder in (PACKAGE / "configs", PACKAGE.parent / "configs")
        for file in folder.glob("[!_]*.py")
    )
    raise UserError(f"config file {path} does not exist; {did_you_mean(path, known)}")


def build(
    section: ConfigDict | Mapping[str, Any],
    where: str,
    later: Sequence[str] = (),
    allow: Sequence[str] | None = None,
) -> Callable[..., Any]:
    """Returns a partial of the object that `section.type` names, with the other keys as arguments.

    A sub-section becomes a partial in the same way.

    Args:
      section: a section whose `type` is `"module:name"`.
      where: the section's path in the config, for messages.
      later: arguments that will be passed to the partial.
      allow: the packages, besides `lru` and `flax`, that a config of a work directory or an export
        may name, see `lru.training.names`; None for a config that the user wrote.

    Raises:
      UserError: `type` does not exist or is not accepted, a key is not an argument, or a value has
        the wrong type.
    """
    section = section.to_dict() if isinstance(section, ConfigDict) else dict(section)
    if allow is not None:
        check_names(section, where, allow)  # all sub-sections, before anything is imported
    if "type" not in section:
        raise UserError(f"{where} has no key 'type'; expected \"module:name\"")
    target = resolve(section.pop("type"), where, allow)
    check_arguments(target, section, where, later)
    check_ranges(target, section, where)
    for key, value in section.items():
        if isinstance(value, Mapping):
            section[key] = build(value, f"{where}.{key}", allow=allow)
    return functools.partial(target, **section)


_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def check_arguments(
    target: Callable[..., Any],
    section: Mapping[str, Any],
    where: str,
    later: Sequence[str] = (),
) -> None:
    """Checks that `target` can be called with the keys of a section.

    A value is checked if its argument is annotated with int, float, bool, str or a `Literal`.

    Raises:
      UserError: a key is not an argument, a required key is missing, a value does not match its
        annotation, or the program fills in the key.
    """
    parameters, choices = inspect.signature(target).parameters, _choices(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in section.items():
        if key in later:
            raise UserError(f"{where}.{key} is filled in by the program; delete it")
        if key in choices and value not in choices[key]:
            known = ", ".join(map(repr, choices[key]))
            raise UserError(f"{where}.{key} is {value!r}; expected one of {known}")
        if key in parameters:
            _check_type(parameters[key].annotation, value, f"{where}.{key}")
        elif not open_ended:
            raise UserError(f"{where} has no key {key!r}; {did_you_mean(key, parameters)}")
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if needed and key not in section and key not in later:
            raise UserError(f"{where} lacks the key {key!r}, which {target.__name__} needs")


def _choices(target: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """Returns the values of each argument that is annotated with a `Literal`."""
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):  # an annotation that only a type checker can read
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _check_type(annotation: Any, value: Any, where: str) -> None:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kind, _, rest = text.partition(" | ")
    if kind not in _TYPES or (value is None and rest == "None"):
        return
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise UserError(f"{where} is {value!r}; expected {text}")


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the config into the work directory if there is none, or if the run is extended."""
    file = workdir / "config.json"
    if not file.exists() or differences(load_run_config(workdir).to_dict(), config.to_dict()):
        write_atomically(file, json.dumps(config.to_dict(), indent=2) + "\n")


# A run may be continued with other values of these, and counts for its row whatever they are. Those
# of `lru.training.speed` change rounding at most.
_NO_EFFECT_ON_RESULTS = {
    *BY_PLATFORM,
    "train.steps_per_call",
    "train.device_data_mb",
    "train.tensorboard",
}


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Checks that a work directory is new or belongs to a run with this config.

    The config may have more steps or epochs than the run if its learning rates are constant.

    Raises:
      UserError: the work directory belongs to a run with another config.
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
    """Returns whether the only difference is a larger number of steps or epochs."""
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
            f"the run in {workdir} has config.{key}={there}, and its learning rate changes until "
            f"the last of them, so {here} would need other rates from the start; train in a new "
            f"--workdir, from these weights with --init_from={workdir}"
        )


def is_extended(config: ConfigDict, workdir: Path) -> bool:
    """Returns whether a work directory's record has fewer steps or epochs than the config."""
    try:
        there = json.loads((workdir / "record.json").read_text())["config"]
        return _is_longer(differences(there, config.to_dict()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False  # reading the record reports the damage


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns both values of each key in which two configs differ, if it affects the results.

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
    remedy = "restore it or start a new --workdir"
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
