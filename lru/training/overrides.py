"""Applies `--config.key.subkey=value` arguments to a config."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from lru.errors import UserError, did_you_mean

# Arguments that the program fills in.
MODEL_ARGUMENTS = ("num_classes", "num_outputs", "per_step", "vocab_size")
DATA_ARGUMENTS = ("data_dir", "manual_dir")
_FLAX_ARGUMENTS = ("parent", "name")


def override(config: ConfigDict, overrides: Iterable[str]) -> ConfigDict:
    """Applies `--config.key.subkey=value` arguments to a config, and returns the config.

    A value must have the type of the value that it replaces. A key that is missing from the config,
    or None there, is set if it is an argument of the section's target that the program does not
    fill in. The target is `Settings` for `train`, `OptimizerSettings` for `optimizer`, and the
    object named by `type` for other sections. The new value must have the type in the argument's
    annotation; for a `dtype`, it must be the name of a type, or None.

    Raises:
      UserError: a key does not exist, or its value is missing, has another type, or cannot be given
        on the command line.
    """
    arguments = list(overrides)
    new = [argument for argument in arguments if _is_new(config, argument)]
    config = _assign(config, [argument for argument in arguments if argument not in new])
    for argument in new:  # after the others, because one of them may change a section's `type`
        _add(config, argument)
    return _assign(config, [argument for argument in new if not argument.endswith("=None")])


def _assign(config: ConfigDict, arguments: list[str]) -> ConfigDict:
    flag_values, argv = flags.FlagValues(), ["", *arguments]
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=flag_values, sys_argv=argv, lock_config=False
    )
    try:
        flag_values(argv)
    except flags.Error as error:
        raise UserError(f"{error}; give a value of the type that the config has") from error
    return flag_values.config


def _is_new(config: ConfigDict, argument: str) -> bool:
    """Returns whether the key in `--config.KEY=VALUE` is missing from the config, or None there.

    Raises a UserError if the argument has no value.
    """
    key, equals, _ = argument.removeprefix("--config.").partition("=")
    if not equals:
        raise UserError(f"{argument} has no value; write --config.{key}=VALUE")
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, ConfigDict) or name not in node:
            return True
        node = node[name]
    return node is None


def _add(config: ConfigDict, argument: str) -> None:
    """Sets the key in `--config.KEY=VALUE` to a placeholder for a value of the right type.

    Raises a UserError if the key is unknown, or its value cannot be given on the command line.
    """
    key, _, value = argument.removeprefix("--config.").partition("=")
    node, path = config, "config"
    *sections, last = key.split(".")
    for name in sections:
        node, path = _descend(node, path, name), f"{path}.{name}"
    takes = _takes(node, path)
    if last not in takes:
        names = [*_keys(node), *(name for name in takes if name not in node)]
        raise UserError(f"{path} has no key {last!r}; {did_you_mean(last, names)}")
    kind, optional = _kind(takes[last], last)
    if kind is None:
        raise UserError(
            f"{path}.{last} has the type {inspect.formatannotation(takes[last])}, which cannot be "
            "given on the command line: set it in the config file"
        )
    if value == "None" and not optional:
        raise UserError(f"{path}.{last} is None; expected {kind.__name__}")
    node[last] = config_dict.placeholder(kind)


def _descend(node: Any, path: str, name: str) -> Any:
    if name not in _keys(node):
        raise UserError(f"{path} has no key {name!r}; {did_you_mean(name, _keys(node))}")
    return node[name]


def _keys(node: Any) -> list[str]:
    return list(node.keys()) if isinstance(node, ConfigDict) else []


def _takes(section: Any, path: str) -> Mapping[str, Any]:
    """Returns the annotation of each argument that a section may give to its target, by name.

    The result is empty if there is no such target.
    """
    if path == "config.train":
        from lru.training.settings import Settings

        return _annotations(Settings, ())
    if path == "config.optimizer":
        from lru.training.optimizer import OptimizerSettings

        return _annotations(OptimizerSettings, ())
    try:
        target = pkgutil.resolve_name(section.type)
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}  # `build` reports the error
    options = getattr(getattr(target, "__self__", None), "options_class", None)
    if dataclasses.is_dataclass(options):  # `create` takes the fields of the options as arguments
        target = options
    return _annotations(target, (*_FLAX_ARGUMENTS, *MODEL_ARGUMENTS, *DATA_ARGUMENTS))


def _annotations(target: Any, filled_in: Iterable[str]) -> Mapping[str, Any]:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    hints = _hints(target)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: hints.get(name, type(p.default) if p.annotation is p.empty else p.annotation)
        for name, p in parameters.items()
        if p.kind in named and name not in filled_in
    }


def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(target)
    except (NameError, TypeError):  # an annotation that only a type checker resolves
        return {}


def _kind(annotation: Any, name: str) -> tuple[Any, bool]:
    """Returns the type of an argument's value, and whether the value may be None.

    The type is None if the value cannot be given on a command line.
    """
    if name == "dtype" or name.endswith("_dtype"):
        return str, True
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        annotation = members[0] if len(members) == 1 else None
    if get_origin(annotation) is Literal:
        annotation = type(get_args(annotation)[0])
    return (annotation if annotation in (int, float, bool, str) else None), optional
