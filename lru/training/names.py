"""Resolves the names in a config's `type` keys, and restricts the names in untrusted configs.

A config file given with `--config` is the user's own program and may name anything. The
`config.json` of a work directory or an export is a data file whose source may be untrusted, so
reading it must not run foreign code. In such a file, the section `data` may name the `create` of a
data set of `lru`, the other sections may name Flax modules of `lru` and `flax.linen`, and every
section may name objects defined in the packages that the user allowed.
"""

from __future__ import annotations

import functools
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lru.errors import UserError

# Other modules of Flax import optional packages, and a file in the current directory could have the
# name of such a package.
TRUSTED = ("lru", "flax.linen")
_NOT_TRUSTED = ("lru.configs",)  # programs, which import modules from their folder


def check_allow(allow: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the packages that the user allowed, after checking them.

    Raises:
      UserError: an entry is not the dotted name of a package or module.
    """
    packages = (allow,) if isinstance(allow, str) else tuple(allow)
    for name in packages:
        if not _is_dotted(name):
            raise UserError(
                f"allow is {name!r}; expected the name of a package, such as my_package"
            )
    return packages


def check_names(tree: Any, where: str, allow: Sequence[str]) -> None:
    """Checks every `type` in a config, at any depth, by its text alone: nothing is imported.

    Args:
      tree: a config or a section of one.
      where: the path of `tree`, such as "config.model", for messages.
      allow: the packages that may be named besides `flax.linen` and `lru` (except `lru.configs`).

    Raises:
      UserError: a name is in a module that may not be named, or is not `"module:name"`.
    """
    if isinstance(tree, Mapping):
        if "type" in tree:
            _check_name(tree["type"], where, allow)
        for key, value in tree.items():
            check_names(value, f"{where}.{key}", allow)
    elif isinstance(tree, list | tuple):
        for value in tree:
            check_names(value, where, allow)


def check_config(config: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Checks every `type` in the config of a run or an export, whether or not it is used.

    Raises:
      UserError: see `check_names` and, for names in `lru` and `flax.linen`, `resolve`.
    """
    check_names(config, "config", allow)  # every name, before any import
    _check_trusted(config, "config", allow)


def _check_trusted(tree: Any, where: str, allow: Sequence[str]) -> None:
    if isinstance(tree, Mapping):
        if "type" in tree and _lies_in(tree["type"].partition(":")[0], TRUSTED):
            resolve(tree["type"], where, allow)
        for key, value in tree.items():
            _check_trusted(value, f"{where}.{key}", allow)
    elif isinstance(tree, list | tuple):
        for value in tree:
            _check_trusted(value, where, allow)


# Prefixes of names in configs of earlier versions, each with its replacement.
_MOVED = {"lru.baselines.recurrent:": "lru.baselines:"}


# Pairs (option, value) in configs of earlier versions, each with the value that replaces it.
_REPLACED = {("method", "chunked"): "auto"}


def current_options(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a section's options, with values of earlier versions replaced by current ones.

    Example:
      >>> current_options({"d_state": 4, "method": "chunked"})
      {'d_state': 4, 'method': 'auto'}
    """
    return {
        key: _REPLACED.get((key, value), value) if isinstance(value, str) else value
        for key, value in section.items()
    }


def current_name(name: Any) -> Any:
    """Translates the name of a class in a config of an earlier version to its current name.

    Example:
      >>> current_name("lru.baselines.recurrent:GRU"), current_name("lru:LRU")
      ('lru.baselines:GRU', 'lru:LRU')
    """
    for old, new in _MOVED.items():
        if isinstance(name, str) and name.startswith(old):
            return new + name.removeprefix(old)
    return name


def resolve(name: str, where: str, allow: Sequence[str] | None = None) -> Callable[..., Any]:
    """Returns the class, function or other callable that a name refers to.

    Args:
      name: `"module:name"`.
      where: the path, such as "config.model", of the section whose `type` is the name. If `allow`
        is given, an object of `lru` or Flax must be the `create` of a data set in the section
        `data`, and a Flax module elsewhere.
      allow: see `check_names`; None if the user wrote the config, so that any name is accepted.

    Raises:
      UserError: the object does not exist, cannot be called, has a method `create` that must be
        named instead, or is not accepted.
    """
    if allow is not None:
        _check_name(name, where, allow)
    name = current_name(name)
    try:
        target = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where}.type is {name!r}, which cannot be imported: {error}") from error
    if hasattr(target, "create"):
        raise UserError(f"{where}.type is {name!r}; expected {name + '.create'!r}")
    if not callable(target):
        raise UserError(
            f"{where}.type is {name!r}, a {type(target).__name__}; expected a class or a function, "
            'as "module:name"'
        )
    if allow is not None:
        _check_target(target, name, where, allow)
    return target


def _check_name(name: Any, where: str, allow: Sequence[str]) -> None:
    module, colon, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not (colon and _is_dotted(module) and _is_dotted(attribute)):
        raise UserError(f'{where}.type is {name!r}; expected "module:name"')
    package = module.partition(".")[0]
    if _lies_in(module, allow) or (
        _lies_in(module, TRUSTED) and not _lies_in(module, _NOT_TRUSTED)
    ):
        return
    if package in ("lru", "flax"):
        raise UserError(f"{where}.type is {name!r}; expected {_expected(where)}")
    raise UserError(
        f"{where}.type is {name!r}; the config of a work directory or an export may name only lru "
        f"and flax: if you trust {package}, add --allow={package} (in Python: "
        f'allow=("{package}",))'
    )


def _check_target(target: Any, name: str, where: str, allow: Sequence[str]) -> None:
    """Checks that an object is defined in an accepted module, and is of an accepted kind.

    An object defined in a package in `allow` may be of any kind. The module in `name` may have
    imported the object from another module.
    """
    modules = _modules_of(target)
    outside = [module for module in modules if not _lies_in(module, (*TRUSTED, *allow))]
    harmless = (_is_dataset if where.startswith("config.data") else _is_model)(target)
    if outside or not (harmless or any(_lies_in(module, allow) for module in modules)):
        defined = f", defined in {outside[0]}" if outside else ""
        raise UserError(f"{where}.type is {name!r}{defined}; expected {_expected(where)}")


def _expected(where: str) -> str:
    if where.startswith("config.data"):
        return "the `create` method of a data set of lru, such as 'lru.data.listops:ListOps.create'"
    return "a Flax module of lru or flax, such as 'lru:LRU'"


def _modules_of(target: Any) -> list[str]:
    """Returns the names of the modules that define an object.

    For a bound method, they include the module of its class. For a partial, they are the modules of
    its function and of its callable arguments.
    """
    if isinstance(target, functools.partial):
        inside = [x for x in (*target.args, *target.keywords.values()) if callable(x)]
        return [module for x in (target.func, *inside) for module in _modules_of(x)]
    owner = getattr(target, "__self__", None)
    owners = [] if owner is None else [owner if isinstance(owner, type) else type(owner)]
    return [str(getattr(x, "__module__", None)) for x in (target, *owners)]


def _is_model(target: Any) -> bool:
    import flax.linen as nn

    while isinstance(target, functools.partial):
        target = target.func
    return isinstance(target, type) and issubclass(target, nn.Module)


def _is_dataset(target: Any) -> bool:
    builder = sys.modules.get("lru.data.builder")  # loaded if the target is a data set
    owner = getattr(target, "__self__", None)
    return (
        builder is not None
        and isinstance(owner, type)
        and issubclass(owner, builder.SequenceDataset)
        and getattr(target, "__func__", None) is builder.SequenceDataset.create.__func__
    )


def _lies_in(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_dotted(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
