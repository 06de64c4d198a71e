"""Configs: found, loaded, overridden, checked, turned into objects, kept beside their run.

A config file has a function `get_config(variant)` that returns a `ConfigDict`. In it, a section
with a `type`, such as `"lru.models:SequenceClassifier"`, names a class or a function, and its other
keys are that one's arguments: a key that is no argument is an error, not a number ignored.
"""

from __future__ import annotations

import functools
import inspect
import json
import pkgutil
import runpy
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from absl import flags
from ml_collections import ConfigDict, config_flags

from lru.errors import UserError, did_you_mean
from lru.files import read_object, write_whole

# Arguments that the program fills in.
OF_MODELS, OF_DATA = ("num_classes", "vocab_size"), ("data_dir", "manual_dir")
PACKAGE = Path(__file__).resolve().parents[1]


def load_config(argument: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The config of `path/to/file.py` or `path/to/file.py:variant`.

    Args:
      argument: the file and, after a colon, the variant handed to its `get_config`. A relative
        path is looked up from here, then among the configs that come with the package.
      overrides: `--config.key.subkey=value`, each for a key that the config has.

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


def override(config: ConfigDict, overrides: Iterable[str]) -> ConfigDict:
    """The config with `--config.key.subkey=value` applied, types as they are in the config."""
    arguments = list(overrides)
    for argument in arguments:
        _check_key(config, argument)
    flag_values = flags.FlagValues()
    argv = ["", *arguments]
    config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv)
    try:
        flag_values(argv)
    except flags.Error as error:
        raise UserError(f"{error}; give a value of the type that the config has") from error
    return flag_values.config


def _check_key(config: ConfigDict, argument: str) -> None:
    key, equals, _ = argument.removeprefix("--config.").partition("=")
    if not equals:
        raise UserError(f"{argument} has no value; write --config.{key}=VALUE")
    node, path = config, "config"
    for name in key.split("."):
        names = node.keys() if isinstance(node, ConfigDict) else []
        if name not in names and name in _arguments(node):
            raise UserError(
                f"{path} has no key {name!r} yet, which {node.type} takes: it has to be in the "
                "config file"
            )
        if name not in names:
            raise UserError(f"{path} has no key {name!r}; {did_you_mean(name, names)}")
        node, path = node[name], f"{path}.{name}"


def _arguments(section: Any) -> Collection[str]:
    """What a section's `type` takes and a config may give; if that is nothing, `build` says so."""
    try:
        parameters = inspect.signature(pkgutil.resolve_name(section.type)).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return ()
    named = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    return named - {"parent", "name", *OF_MODELS, *OF_DATA}  # the first two are Flax's own


def build(
    section: ConfigDict | Mapping[str, Any], where: str, later: Sequence[str] = ()
) -> Callable[..., Any]:
    """A partial of what `section.type` names, with the section's other keys as arguments.

    A sub-section that has a `type` becomes a partial in the same way.

    Args:
      section: `type` is `"module:name"`.
      where: the section's place in the config, for messages.
      later: arguments that the partial will be called with.

    Raises:
      UserError: `type` names nothing, a key is not an argument, or a value has the wrong type.
    """
    section = dict(section)
    if "type" not in section:
        raise UserError(f"{where} has no key 'type'; expected \"module:name\"")
    name = section.pop("type")
    try:
        target = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}.type is {name!r}, which is not there: {error}") from error
    if hasattr(target, "create"):
        raise UserError(f"{where}.type is {name!r}; expected what makes one, {name + '.create'!r}")
    if not callable(target):
        raise UserError(
            f'{where}.type is {name!r}, a {type(target).__name__}; expected "module:name"'
        )
    check_arguments(target, section, where, later)
    for key, value in section.items():
        if isinstance(value, ConfigDict | Mapping):
            section[key] = build(value, f"{where}.{key}")
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


def remember(config: ConfigDict, workdir: Path) -> None:
    """Writes the config into the work directory, where it stays."""
    file = workdir / "config.json"
    if not file.exists():
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

    Raises:
      UserError: it belongs to a run with another config.
    """
    if not (workdir / "config.json").exists():
        return
    for key, (there, here) in differences(recall(workdir).to_dict(), config.to_dict()).items():
        raise UserError(
            f"work directory {workdir} was made with another config: config.{key} is "
            f"{there!r} there, {here!r} here; choose another --workdir"
        )


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


def recall(workdir: Path) -> ConfigDict:
    """The config of the run in a work directory.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    file = workdir / "config.json"
    try:
        advice = "restore it or start a new --workdir"
        return ConfigDict(read_object(file, {}, advice))
    except FileNotFoundError as error:
        raise UserError(
            f"{workdir} holds no run: {file} is missing; give a --workdir that "
            "lru.train has written"
        ) from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error}); {advice}") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            items |= _flat(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = value
    return items
