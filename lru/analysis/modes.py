"""The modes of a model's layers, each of which says itself what its modes are."""

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

# Layers whose parameters alone decide what the modes are.
_REST = {"B_re", "B_im", "C_re", "C_im", "D"}
_KINDS: dict[frozenset[str], Callable[[Any], tuple[Any, ...]]] = {
    frozenset({"nu_log", "theta_log", "gamma_log"} | _REST): lru_directions,
    frozenset({"a", "b"} | _REST): diagonal_directions,
    frozenset({"nu", "theta"} | _REST): diagonal_directions,
    frozenset({"nu_log", "theta"} | _REST): diagonal_directions,
}
# What such layers call their eigenvalues and their read-out, in this package and elsewhere.
_EIGENVALUES, _READ_OUT = {"nu_log", "nu", "a", "Lambda_re", "Lambda_im"}, {"C_re", "C_im", "C"}

_NO_LAYER = object()  # at a path where a model has no layer that says what its modes are


def find_layers(model: nn.Module, inputs: Any) -> dict[str, nn.Module]:
    """The layers of a model that have a method `modes`, by their paths; nothing is computed.

    Args:
      model: a Flax module of any kind.
      inputs: an example of what it takes, or its shape and type.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> find_layers(nn.Sequential([nn.Dense(8), lru.LRU(4)]), jnp.ones((1, 2, 8))).keys()
      dict_keys(['layers_1'])
    """
    with noted_layers() as found:
        # A new function: JAX would not call one again that it knows from before.
        jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), inputs)
    return found


@contextlib.contextmanager
def noted_layers() -> Iterator[dict[str, nn.Module]]:
    """Fills a dict with the layers that `find_layers` means, of a model that is called inside."""
    found = {}

    def note(call, args, kwargs, context):
        if context.method_name == "__call__" and hasattr(type(context.module), "modes"):
            found["/".join(context.module.path)] = context.module.clone(parent=None, name=None)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield found


def layer_modes(params: Mapping[str, Any], layer: Any = None) -> tuple[Modes, ...]:
    """The modes of each direction of a layer; `()` if it has none.

    Args:
      params: the layer's parameters.
      layer: the layer itself, which is asked for its `modes`. Without it, the names of the
        parameters must decide: those of `lru.LRU` and `lru.baselines.DiagonalRNN` do. Those of `S5`
        and `S4D` do not tell how the layer is discretized.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> modes, = layer_modes(variables["params"])
      >>> modes.lam.shape, modes.into.shape, modes.out.shape
      ((64,), (64, 16), (16, 64))
    """
    if np.ndim(params.get("D", [0])) != 1:  # of several layers at once, as `nn.scan` has them
        return ()
    if layer is not None:
        return layer.modes(params) if hasattr(type(layer), "modes") else ()
    make = _KINDS.get(frozenset(params) - {"C2_re", "C2_im"})
    return () if make is None else modes_of(make, params)


def eigenvalues(params: Mapping[str, Any], layer: Any = None) -> np.ndarray:
    """The eigenvalues `(N,)`, complex, of a layer; of S4D those of all channels, one by one.

    Args:
      params, layer: as `layer_modes` takes them.

    Raises:
      ValueError: the layer has no modes, or its parameters alone do not tell them.
    """
    modes = layer_modes(params, layer)
    if not modes:
        raise ValueError(
            f"no modes are known of a layer with the parameters {', '.join(params)}; give the layer"
            if layer is None
            else f"{type(layer).__name__} has no modes"
        )
    return modes[0].lam.ravel()


def model_modes(
    params: Mapping[str, Any], layers: Mapping[str, Any] | None = None, prefix: str = ""
) -> dict[str, tuple[Modes, ...]]:
    """`layer_modes` of every layer in a tree of parameters that has some, by its path.

    A warning names what looks like such a layer, and cannot be read.

    Args:
      params: the tree.
      layers: `find_layers` of the model. Without it, the names of parameters must decide.
      prefix: the path of the tree in a larger one.

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
        "the layer's `modes` do not tell them"
        if known
        else "parameters alone do not tell them; give the layer"
    )
    warnings.warn(f"the eigenvalues of {path or 'the layer'} are left out: {reason}", stacklevel=3)


def model_eigenvalues(
    params: Mapping[str, Any], layers: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """The eigenvalues `(N,)`, complex, of every layer that `model_modes` finds, by its path."""
    return {name: modes[0].lam.ravel() for name, modes in model_modes(params, layers).items()}
