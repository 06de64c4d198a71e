"""The diagonal layers in a tree of parameters, told apart by the names of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lru.baselines.diagonal import diagonal_weights
from lru.baselines.s4d import s4d_weights
from lru.baselines.s5 import s5_weights
from lru.linear import lru_weights

# Which parameters a layer has, and no other one, and what makes weights of them.
_KINDS: dict[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] = {
    ("nu_log", "theta_log"): lru_weights,
    ("Lambda_re", "Lambda_im", "log_step"): s5_weights,
    ("nu_log", "Lambda_im", "log_step"): s4d_weights,
    ("a", "b", "B_re"): diagonal_weights,
    ("nu", "theta", "B_re"): diagonal_weights,
    ("nu_log", "theta", "B_re"): diagonal_weights,
}


class Modes(NamedTuple):
    """One direction of a layer, in double precision: x_k = lam x_{k-1} + into u_k, y = Re[out x].

    Without its skip. A layer that computes one of each pair of conjugate modes has `out` doubled.

    Attributes:
      lam: the eigenvalues, complex `(N,)`; of S4D `(H, N/2)`, those of a channel in a row.
      into: complex `(N, H)`: B with gamma, or discretized; of S4D `(H, N/2)`.
      out: complex `(H, N)`: C; of S4D `(H, N/2)`.
    """

    lam: np.ndarray
    into: np.ndarray
    out: np.ndarray


def layer_modes(params: Mapping[str, Any]) -> tuple[Modes, ...]:
    """The modes of each direction of a layer; `()` if these are not a diagonal layer's parameters.

    Layers are `lru.LRU`, `lru.baselines.DiagonalRNN`, `S5` and `S4D`; of the last two those that
    are discretized by `"zoh"`, and whose eigenvalues are not clipped: their parameters do not tell.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> modes, = layer_modes(variables["params"])
      >>> modes.lam.shape, modes.into.shape, modes.out.shape
      ((64,), (64, 16), (16, 64))
    """
    make = next((make for names, make in _KINDS.items() if set(names) <= set(params)), None)
    if make is None:
        return ()
    with jax.enable_x64(True), jax.default_device(_host()):
        weights = make({name: jnp.asarray(np.float64(value)) for name, value in params.items()})
        return tuple(_modes(jax.tree.map(np.asarray, direction)) for direction in weights)


def eigenvalues(params: Mapping[str, Any]) -> np.ndarray:
    """The eigenvalues `(N,)`, complex, of a layer; of S4D those of all channels, one by one.

    Raises:
      ValueError: these are not a diagonal layer's parameters.
    """
    modes = layer_modes(params)
    if not modes:
        raise ValueError(f"no diagonal layer has the parameters {', '.join(params)}")
    return modes[0].lam.ravel()


def model_modes(params: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Modes, ...]]:
    """`layer_modes` of every diagonal layer in a tree of parameters, by its path.

    Example:
      >>> one = np.ones((1, 1))
      >>> layer = {"a": one[0], "b": one[0], "B_re": one, "B_im": one, "C_re": one, "C_im": one}
      >>> layer["D"] = one[0]
      >>> list(model_modes({"blocks_0": {"mixer": layer}, "head": {}}))
      ['blocks_0/mixer']
    """
    if modes := layer_modes(params):
        return {prefix: modes}
    found: dict[str, tuple[Modes, ...]] = {}
    for name, child in params.items():
        if isinstance(child, Mapping):
            found |= model_modes(child, f"{prefix}/{name}".lstrip("/"))
    return found


def model_eigenvalues(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The eigenvalues `(N,)`, complex, of every diagonal layer in a tree, by its path."""
    return {name: modes[0].lam.ravel() for name, modes in model_modes(params).items()}


def _host() -> jax.Device | None:
    """The CPU, for there are devices without double precision; None if JAX was told to shun it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _modes(weights: Any) -> Modes:
    """Of weights as the products take them: real and imaginary parts abreast, or S4D's."""
    if hasattr(weights, "log_lam"):
        return Modes(np.exp(weights.log_lam), weights.into, 2 * weights.out)
    b_re, b_im = np.split(weights.into.T, 2)
    c_re, minus_c_im = np.split(weights.out.T, 2, axis=1)
    return Modes(weights.lam, b_re + 1j * b_im, c_re - 1j * minus_c_im)
