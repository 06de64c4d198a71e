"""Configs: found, loaded, overridden, checked, turned into objects, kept beside their run.

A config file has a function `get_config(variant)` that returns a `ConfigDict`. In it, a section
with a `type`, such as `"lru.models:SequenceClassifier"`, names a class or a function, and its other
keys are that one's arguments: a key that is no argument is an error, not a number ignored.
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
from lru.io.files import read_object, write_whole
from lru.training.names import check_names, resolve
from lru.training.optimizer import is_constant
from lru.training.overrides import override
from lru.training.ranges import check_ranges

PACKAGE = Path(__file__).resolve().parents[1]


def load_config(argument: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Returns the config of `path/to/file.py` or `path/to/file.py:variant`.

    The file is run as a program of the user's own, and its types may be of any package.

    Args:
      argument: the file and, after a colon, the variant handed to its `get_config`. A relative
        path is looked up from here, then among the configs that come with the package.
      overrides: `--config.key.subkey=value`, see `lru.training.overrides`.

    Returns:
      The config, not locked: it may be changed further.

    Raises:
      UserError: no such file, variant or key, or a value of the wrong type.
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
    """A config file's names. It may import from its folder, which is its own as a script's is."""
    before, modules = sys.path, set(sys.modules)
    sys.path = [str(file.parent), *before]
    try:
        return runpy.run_path(str(file))
    finally:
        sys.path = before
        for name in set(sys.modules) - modules:  # another folder's may have the same name
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == file.parent:
                del sys.modules[name]


def find_config(path: str) -> Path:
    """The file at `path`, or the one of that name that comes with the package."""
    # An installed package carries the configs inside; in a checkout they lie beside it.
    places = [Path(path), PACKAGE / path, PACKAGE.parent / path]
    for place in places:
        if place.is_file():
            return place
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
    """Returns a partial of what `section.type` names, with the other keys as arguments.

    A sub-section becomes a partial in the same way.

    Args:
      section: `type` is `"module:name"`.
      where: the section's place in the config, for messages.
      later: arguments that the partial will be called with.
      allow: the packages, besides `lru` and `flax`, that a config of a work directory or an export
        may name, see `lru.training.names`; None for a config that the user wrote.

    Raises:
      UserError: `type` names nothing or is not accepted, a key is not an argument, or a value has
        the wrong type.
    """
    section = section.to_dict() if isinstance(section, ConfigDict) else dict(section)
    if allow is not None:
        check_names(section, where, allow)  # of all sub-sections, before anything is imported
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
    """Checks that `target` can be called with what a section holds.

    Raises:
      UserError: a key is no argument, is missing, or has not the type int, float, bool or str
        or none of the choices, that the argument is annotated with; or the program fills it in.
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
    """What an argument annotated with a `Literal` may be."""
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
    """Writes the config into the work directory, where it stays unless the run is made longer."""
    file = workdir / "config.json"
    if not file.exists() or differences(load_run_config(workdir).to_dict(), config.to_dict()):
        write_whole(file, json.dumps(config.to_dict(), indent=2) + "\n")


# So a run may go on with other values of these.
_CHANGES_NO_NUMBER = {
    "model.mixer.method",  # but for their last bits
    "train.steps_per_call",
    "train.device_data_mb",
    "train.tensorboard",
}


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Checks that a work directory is new, or belongs to a run with this config.

    The config may have more steps or epochs than the run if its learning rates are constant.

    Raises:
      UserError: it belongs to a run with another config.
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
    """Whether the one difference is a larger number of steps or of epochs."""
    if len(found) != 1 or not found.keys() <= set(_LENGTHS):
        return False
    (there, here), *_ = found.values()
    return type(there) is int and type(here) is int and 0 < there < here


def _check_constant(config: ConfigDict, workdir: Path, found: Mapping[str, Any]) -> None:
    try:
        constant = is_constant(**config.optimizer)
    except (TypeError, ValueError):
        constant = True  # `Experiment` will report what is wrong with the optimizer
    if not constant:
        (key, (there, here)), *_ = found.items()
        raise UserError(
            f"the run in {workdir} has config.{key}={there}, and its learning rate changes until "
            f"their end, so {here} would need other rates from the start; train in a new "
            f"--workdir, from these weights with --init_from={workdir}"
        )


def is_extended(config: ConfigDict, workdir: Path) -> bool:
    """Whether the record in a work directory is of fewer steps or epochs than the config has."""
    try:
        there = json.loads((workdir / "record.json").read_text())["config"]
        return _is_longer(differences(there, config.to_dict()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False  # who reads the record will report it


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of each key in which two configs differ, but for those that change no number.

    Example:
      >>> differences({"seed": 0, "data": {"pad_to": 4}}, {"seed": 1, "data": {"pad_to": 4}})
      {'seed': (0, 1)}
    """
    mine, others = (_flat(json.loads(json.dumps(config))) for config in (one, other))
    return {
        key: (mine.get(key), others.get(key))
        for key in sorted((mine.keys() | others.keys()) - _CHANGES_NO_NUMBER)
        if mine.get(key) != others.get(key)
    }


def load_run_config(workdir: Path) -> ConfigDict:
    """Returns the config of the run in a work directory, whose names are not resolved.

    Raises:
      UserError: there is none, or it cannot be read.
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
            items[f"{prefix}{key}"] = value
    return items
