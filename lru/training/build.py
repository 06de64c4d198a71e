"""Checks the sections of a config, and returns functions that create the model and the data set.

The `type` of a section, such as `"lru.models:SequenceClassifier"`, names a class or a function. The
other keys are the arguments of this class or function. `Experiment` reads the two sections that
have no `type`: `optimizer` and `train`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from lru.errors import UserError, did_you_mean
from lru.training.names import check_names, current_options, resolve
from lru.training.ranges import check_ranges


def build(
    section: ConfigDict | Mapping[str, Any],
    where: str,
    later: Sequence[str] = (),
    allow: Sequence[str] | None = None,
) -> Callable[..., Any]:
    """Returns a partial of the object that `section.type` names, with the other keys as arguments.

    A subsection becomes a partial in the same way.

    Args:
      section: a section whose `type` is `"module:name"`.
      where: the section's path in the config, such as `"config.model"`.
      later: the names of arguments that will be passed to the partial.
      allow: the packages, besides `lru` and `flax.linen`, that a config of a work directory or an
        export may name (see `lru.training.names`); None for a config that the user wrote.

    Raises:
      UserError: `type` is missing or names an object that does not exist or is not accepted; a
        required argument is missing; a key is not an argument, or is in `later`; or a value has the
        wrong type or is out of range.
    """
    section = section.to_dict() if isinstance(section, ConfigDict) else dict(section)
    if allow is not None:
        check_names(section, where, allow)  # in all subsections, before any import
        section = current_options(section)
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
    """Checks that `target` can be called with the entries of a section as keyword arguments.

    A value is checked if its argument is annotated with int, float, bool or str, alone or followed
    by `| None`, or with a `Literal` (see `_choices`). For `where` and `later`, see `build`.

    Raises:
      UserError: a key is not an argument, a required key is missing, a value does not match its
        annotation, or a key is one of `later`, which the program fills in.
    """
    parameters, choices = inspect.signature(target).parameters, _choices(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in section.items():
        if key in later:
            raise UserError(f"{where}.{key} is set by the program; delete it")
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
    """Returns the allowed values of each argument annotated with a `Literal`, by name.

    The result is empty if an annotation cannot be resolved.
    """
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):  # an annotation that only a type checker resolves
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _check_type(annotation: Any, value: Any, where: str) -> None:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kind, _, rest = text.partition(" | ")
    if kind not in _TYPES or (value is None and rest == "None"):
        return
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise UserError(f"{where} is {value!r}; expected {text}")
