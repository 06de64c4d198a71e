"""Layers of N independent modes: the mathematics that the LRU, its ablations and S5 share.

    x_k = Lambda x_{k-1} + B u_k,   y_k = Re[C x_k] + D * u_k          Lambda diagonal, complex

Complex matrices are kept as real and imaginary parts, `B_re`, `B_im`; a product with them is one
real product with both parts side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lru.layers.mixers import System, mix, recurrent
from lru.ops.array_typing import Array, Complex, Float, Num, Real
from lru.ops.dtypes import result_type
from lru.ops.matmul import matmul
from lru.ops.recurrence import Method, recur
from lru.ops.sharding import recur_sharded

Parameters = Mapping[str, Array]


class Weights(NamedTuple):
    """The weights of one direction as its products take them, real and imaginary parts abreast.

    Attributes:
      lam: the eigenvalues, complex `(N,)`.
      into: B, `(H, 2N)`.
      out: C, `(2N, H)`.
      skip: D, `(H,)`; None if another read-out of the same inputs has it.
    """

    lam: Complex[Array, "N"]
    into: Float[Array, "H N2"]
    out: Float[Array, "N2 H"]
    skip: Float[Array, "H"] | None


def pack(
    params: Parameters,
    lam: Complex[Array, "N"],
    b_re: Float[Array, "N H"],
    b_im: Float[Array, "N H"],
    scale: float = 1.0,
) -> tuple[Weights, ...]:
    """The weights of each direction: that of `C`, which has the skip, and that of `C2`, if any.

    Args:
      params: the read-outs `C_re C_im (H, N)`, perhaps `C2_re C2_im`, and `D (H,)`.
      lam: the eigenvalues.
      b_re, b_im: what the input is multiplied by.
      scale: of the read-outs: 2 if each mode stands for a conjugate pair.
    """
    into = jnp.concatenate([b_re, b_im]).T
    packed = []
    for name in readouts("C2_re" in params):
        parts = [scale * params[f"{name}_re"], -scale * params[f"{name}_im"]]
        skip = params["D"] if name == "C" else None
        packed.append(Weights(lam, into, jnp.concatenate(parts, axis=-1).T, skip))
    return tuple(packed)


def readouts(bidirectional: bool) -> tuple[str, ...]:
    """The names of the read-outs, one a direction."""
    return ("C", "C2") if bidirectional else ("C",)


def project_in(weights: Weights, u: Real[Array, "*B H"], dtype: Any) -> Complex[Array, "*B N"]:
    """B u, complex.

    Args:
      weights: see `pack`.
      u: inputs `(..., H)`.
      dtype: of the product's operands; it is summed in float32 at least.
    """
    return lax.complex(*jnp.split(matmul(u, weights.into, dtype), 2, axis=-1))


def read_out(
    weights: Weights, x: Complex[Array, "*B N"], u: Real[Array, "*B H"], dtype: Any
) -> Float[Array, "*B H"]:
    """Re[C x] + D * u.

    Args:
      weights: see `pack`.
      x: states `(..., N)`.
      u: inputs `(..., H)`.
      dtype: of the product's operands, and of the result.
    """
    y = matmul(jnp.concatenate([x.real, x.imag], axis=-1), weights.out, dtype)
    return add_skip(y, weights.skip, u).astype(dtype)


def add_skip(
    y: Real[Array, "*B H"], skip: Real[Array, "H"] | None, u: Real[Array, "*B H"]
) -> Real[Array, "*B H"]:
    """y + D * u, or y if there is no D."""
    if skip is None:
        return y
    return y + skip.astype(y.dtype).reshape((1,) * (u.ndim - 1) + (-1,)) * u.astype(y.dtype)


class Modes(NamedTuple):
    """One direction of a layer in double precision: x_k = lam x_{k-1} + into u_k, y = Re[out x].

    The skip D u is left out. Where a layer computes one of each pair of conjugate modes, `out` is
    doubled.

    Attributes:
      lam: the eigenvalues, complex `(N,)`; of S4D `(H, N/2)`, a channel's in a row.
      into: complex `(N, H)`: B with gamma, or discretized; of S4D `(H, N/2)`.
      out: complex `(H, N)`: C; of S4D `(H, N/2)`.
    """

    lam: np.ndarray
    into: np.ndarray
    out: np.ndarray


def modes_of(make: Callable[[Any], Sequence[Any]], params: Mapping[str, Any]) -> tuple[Modes, ...]:
    """The modes of each direction, in double precision.

    Args:
      make: the weights of each direction, as a function of the parameters.
      params: the layer's.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> layer = lru.LRU(64)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> modes, = layer.modes(variables["params"])
      >>> modes.lam.shape, modes.into.shape, modes.out.shape
      ((64,), (64, 16), (16, 64))
    """
    return tuple(
        Modes(lam, b_re + 1j * b_im, c_re - 1j * minus_c_im)
        for lam, into, out, _ in in_float64(make, params)
        for (b_re, b_im), (c_re, minus_c_im) in [(np.split(into.T, 2), np.split(out.T, 2, axis=1))]
    )


def in_float64(make: Callable[[Any], Sequence[Any]], params: Mapping[str, Any]) -> Sequence[Any]:
    """What `make` gives for the parameters in float64, as NumPy arrays; computed on the CPU."""
    with jax.enable_x64(True), jax.default_device(_cpu()):
        wide = {name: jnp.asarray(np.float64(value)) for name, value in params.items()}
        return jax.tree.map(np.asarray, make(wide))


def _cpu() -> jax.Device | None:
    """The CPU, as some devices have no float64; None if JAX is not allowed to use it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def diagonal_step(
    weights: Weights, carry: Num[Array, "*B N"], inputs: Real[Array, "*B H"], dtype: Any
) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
    """One step: the state before `(..., N)` and inputs `(..., H)` to `(carry, outputs)`."""
    # The state's type must not change from step to step: `nn.RNN` scans over them.
    state_dtype = result_type(carry, weights.lam)
    carry = times(weights.lam, carry.astype(state_dtype)) + project_in(weights, inputs, dtype)
    carry = carry.astype(state_dtype)
    return carry, read_out(weights, carry, inputs, dtype)


def diagonal_layer(
    directions: Sequence[Weights],
    inputs: Real[Array, "..."],
    *,
    dtype: Any,
    method: Method = "auto",
    chunk_size: int | None = None,
    sequence_axis: str | None = None,
    **call: Any,
) -> Any:
    """The layer as a function of its weights.

    Args:
      directions: see `pack`.
      inputs: `(..., T, H)`.
      dtype: of the matrix products and the outputs.
      method, chunk_size, sequence_axis: as of `lru.LRU`.
      call: the rest of `lru.layers.mixers.Mixer.__call__`, which explains it.
    """
    first = directions[0]
    state = diagonal_state(len(first.lam), first.lam.dtype, dtype)
    system = System(
        functools.partial(project_in, dtype=dtype),
        lambda weights, x: times(weights.lam, x),
        functools.partial(solve, method=method, sequence_axis=sequence_axis),
        functools.partial(read_out, dtype=dtype),
    )
    run = recurrent(system, state, 0 if sequence_axis else chunk_size)
    return mix(run, directions, inputs, d_model=len(first.into), state_shape=state.shape, **call)


def diagonal_state(d_state: int, *dtypes: Any) -> jax.ShapeDtypeStruct:
    """One sequence's state of N modes: complex64 at least."""
    return jax.ShapeDtypeStruct((d_state,), result_type(jnp.complex64, *dtypes))


def times(lam: Complex[Array, "*N"], x: Num[Array, "..."]) -> Complex[Array, "..."]:
    """Lambda x for states `(..., *N)`."""
    return _rank(lam, x.ndim) * x


def solve(
    weights: Any,
    v: Any,
    x0: Any,
    reset: Any,
    reverse: bool,
    *,
    method: Method = "auto",
    sequence_axis: str | None = None,
) -> tuple[Any, Any]:
    """All states x_k = Lambda x_{k-1} + v_k and the last, as `lru.layers.mixers.System` wants them.

    Args:
      weights: whatever has Lambda's diagonal as `lam`, `(N,)`.
      v, x0, reset, reverse: see there.
      method, sequence_axis: as of `lru.LRU`.
    """
    run = functools.partial(recur, method=method)
    if sequence_axis is not None:
        run = functools.partial(recur_sharded, method=method, axis=sequence_axis)
    return run(_rank(weights.lam, v.ndim), v, None if x0 is None else x0[None], reset, reverse)


def _rank(lam, ndim):
    """`(1, ..., *N)`, of that many axes."""
    return lam.reshape((1,) * (ndim - lam.ndim) + lam.shape)
