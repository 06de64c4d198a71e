"""Finds the modes of a model's layers, by a layer's method `modes` or its parameters' names."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lru.layers.diagonal import diagonal_directions
from lru.layers.linear import lru_directions
from lru.layers.state_space import Modes, modes_of

__all__ = [
    "Modes", "eigenvalues", "find_layers", "layer_modes", "model_eigenvalues", "model_modes"
]  # fmt: skip

# Layers whose modes depend on the parameters alone; the keys are the parameters' names.
_REST = {"B_re", "B_im", "C_re", "C_im", "D"}
_DIRECTIONS: dict[frozenset[str], Callable[[Any], tuple[Any, ...]]] = {
    frozenset({"nu_log", "theta_log", "gamma_log"} | _REST): lru_directions,
    frozenset({"a", "b"} | _REST): diagonal_directions,
    frozenset({"nu", "theta"} | _REST): diagonal_directions,
    frozenset({"nu_log", "theta"} | _REST): diagonal_directions,
}
# Parameter names of eigenvalues and read-outs, in layers of this package and of others.
_EIGENVALUES, _READ_OUT = {"nu_log", "nu", "a", "Lambda_re", "Lambda_im"}, {"C_re", "C_im", "C"}

_NO_LAYER = object()  # marks a path where the model has no layer with a method `modes`


def find_layers(model: nn.Module, inputs: Any) -> dict[str, nn.Module]:
    """Returns the layers that a model calls and that have a method `modes`, by path.

    No outputs are computed.

    Args:
      model: any Flax Linen module.
      inputs: an example of the model's inputs, or their shape and type.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> find_layers(nn.Sequential([nn.Dense(8), lru.LRU(4)]), jnp.ones((1, 2, 8))).keys()
      dict_keys(['layers_1'])
    """
    with noted_layers() as found:
        # A new function in each call: JAX would not trace the same function again, and so not call
        # the layers.
        jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), inputs)
    return found


@contextlib.contextmanager
def noted_layers() -> Iterator[dict[str, nn.Module]]:
    """Yields a dict of layers by path, filled during the `with` block.

    A layer with a method `modes` is added when it is called.
    """
    found = {}

    def record(call, args, kwargs, context):
        if context.method_name == "__call__" and hasattr(type(context.module), "modes"):
            found["/".join(context.module.path)] = context.module.clone(parent=None, name=None)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        yield found


def layer_modes(params: Mapping[str, Any], layer: Any = None) -> tuple[Modes, ...]:
    """Returns the modes of each direction of a layer; `()` if it has no modes, or they are unknown.

    Args:
      params: the layer's parameters.
      layer: the layer itself, whose method `modes` is called. Without it, the names of the
        parameters must identify the layer. They do for `lru.LRU` and `lru.baselines.DiagonalRNN`,
        but not for `S5` and `S4D`, whose discretization is an option.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> modes, = layer_modes(variables["params"])
      >>> modes.lam.shape, modes.into.shape, modes.out.shape
      ((64,), (64, 16), (16, 64))
    """
    if np.ndim(params.get("D", [0])) != 1:  # parameters of several layers, stacked by `nn.scan`
        return ()
    if layer is not None:
        return layer.modes(params) if hasattr(type(layer), "modes") else ()
    make = _DIRECTIONS.get(frozenset(params) - {"C2_re", "C2_im"})
    return () if make is None else modes_of(make, params)


def eigenvalues(params: Mapping[str, Any], layer: Any = None) -> np.ndarray:
    """Returns the complex eigenvalues of a layer's modes, in an array with one axis.

    An S4D has modes for each channel. An S4D or S5 computes one mode of each conjugate pair.

    Args:
      params, layer: see `layer_modes`.

    Raises:
      ValueError: if `layer_modes` returns no modes.
    """
    modes = layer_modes(params, layer)
    if not modes:
        raise ValueError(
            f"the parameters {', '.join(params)} alone do not determine the modes of a layer; "
            "give the layer"
            if layer is None
            else f"a {type(layer).__name__} has no modes; expected a layer such as lru.LRU"
        )
    return modes[0].lam.ravel()


def model_modes(
    params: Mapping[str, Any], layers: Mapping[str, Any] | None = None, prefix: str = ""
) -> dict[str, tuple[Modes, ...]]:
    """Returns `layer_modes` of every layer with modes in a tree of parameters, by path.

    If a layer seems to have modes, but they cannot be determined, a warning names the layer.

    Args:
      params: the tree of parameters.
      layers: the result of `find_layers` for the model. Without it, the names of the parameters
        must identify the layers.
      prefix: the path of this tree within a larger tree.

    Example:
      >>> one = np.ones((1, 1))
      >>> layer = {"a": one[0], "b": one[0], "B_re": one, "B_im": one, "C_re": one, "C_im": one}
      >>> layer["D"] = one[0]
      >>> list(model_modes({"blocks_0": {"mixer": layer}, "head": {}}))
      ['blocks_0/mixer']
    """
    layer = None if layers is None else layers.get(prefix, _NO_LAYER)
    if modes := layer_modes(params, layer):
        return {prefix: modes}
    if not (_EIGENVALUES.isdisjoint(params) or _READ_OUT.isdisjoint(params)):
        _warn(prefix, known=layer is not None)
    found: dict[str, tuple[Modes, ...]] = {}
    for name, child in params.items():
        if isinstance(child, Mapping):
            found |= model_modes(child, layers, f"{prefix}/{name}".lstrip("/"))
    return found


def _warn(path: str, known: bool) -> None:
    reason = (
        "the layer has no method `modes` that returns them"
        if known
        else "the parameters alone do not determine them; give the layer"
    )
    warnings.warn(f"the eigenvalues of {path or 'the layer'} are left out: {reason}", stacklevel=3)


def model_eigenvalues(
    params: Mapping[str, Any], layers: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Returns the `eigenvalues` of every layer that `model_modes` finds, by path."""
    return {name: modes[0].lam.ravel() for name, modes in model_modes(params, layers).items()}
