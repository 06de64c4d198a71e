"""Factories of inner layers, made from a class, a function, or a layer to copy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax


def as_factory(name: str, module: Any, cells: bool = False) -> Callable[..., nn.Module]:
    """Returns a factory of Linen layers, such as `functools.partial(lru.LRU, 64)`.

    Args:
      name: the argument's name, for the error message.
      module: a class or function that makes a Linen layer, or an instance to copy, such as
        `lru.LRU(64)`.
      cells: whether the layer may be a recurrent cell.

    Raises:
      ValueError: if `module` is neither callable nor a Linen layer, belongs to Flax NNX, or is a
        recurrent cell although `cells` is False.

    Example:
      >>> as_factory("mixer", nn.Dense(4))().features
      4
    """
    made = module.func if isinstance(module, functools.partial) else module
    kind = made if isinstance(made, type) else type(made)
    is_nnx = any(base.__module__.startswith("flax.nnx") for base in kind.__mro__)
    is_cell = issubclass(kind, nn.RNNCellBase) and not cells
    if is_nnx or is_cell or not (callable(module) or isinstance(module, nn.Module)):
        raise ValueError(
            f"{name} is a {kind.__module__}.{kind.__name__}; expected a Flax Linen layer such as "
            "lru.LRU(64) or nn.RNN(cell), or a function that makes one, such as "
            "functools.partial(lru.LRU, 64)"
        )
    if isinstance(module, nn.Module):
        fields = [f.name for f in dataclasses.fields(module) if f.init]
        attributes = {f: getattr(module, f) for f in fields if f not in ("parent", "name")}
        module = functools.partial(type(module), **attributes)
    if isinstance(module, functools.partial):
        return functools.partial(_make, module) if _holds_modules(module) else module
    return module


def _holds_modules(factory: functools.partial) -> bool:
    leaves = jax.tree.leaves((factory.args, factory.keywords))
    return any(isinstance(leaf, nn.Module) for leaf in leaves)


def _make(factory: functools.partial, **options: Any) -> nn.Module:
    """Calls `factory` with copies of the modules among its arguments.

    Without copies, two layers made with the same module would share its parameters.
    """
    copies: dict[int, nn.Module] = {}

    def copied(value):
        if not isinstance(value, nn.Module):
            return value
        if id(value) not in copies:
            copies[id(value)] = as_factory("module", value, cells=True)(parent=None)
        return copies[id(value)]

    arguments, keywords = jax.tree.map(copied, (factory.args, factory.keywords))
    return factory.func(*arguments, **(keywords | options))
