"""Layers of N independent modes: the equations that the LRU, its diagonal ablations and S5 share.

    h_k = Lambda h_{k-1} + B u_k,   y_k = Re[C h_k] + D * u_k          Lambda diagonal, complex

Complex matrices are stored as real and imaginary parts, such as `B_re` and `B_im`. A product with a
complex matrix is one real product with both parts side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lru.layers.hippo import Discretization, uneven_steps
from lru.layers.mixers import Direction
from lru.ops.array_typing import Array, Complex, Float, Num, Real, Resets, Shape, Timesteps
from lru.ops.dtypes import at_least_float32, result_type
from lru.ops.matmul import matmul
from lru.ops.pairs import from_pairs, to_pairs
from lru.ops.recurrence import Method, recur, resolve_method
from lru.ops.sharding import recur_sharded

Parameters = Mapping[str, Array]


class Modes(NamedTuple):
    """The modes of one direction of a layer: h_k = lam h_{k-1} + into u_k, y_k = Re[out h_k].

    The skip term D u_k is left out. If a layer computes only one mode of each conjugate pair, `out`
    is doubled.

    Attributes:
      lam: the eigenvalues, complex `(N,)`; `(N/2,)` for S5; `(H, N/2)` for S4D.
      into: B, multiplied by gamma or by the scale of the discretization if the layer has either,
        complex `(N, H)`; `(N/2, H)` for S5; `(H, N/2)` for S4D.
      out: C, complex `(H, N)`; `(H, N/2)` for S5 and S4D.
    """

    lam: Any
    into: Any
    out: Any


class DiagonalDirection(Direction):
    """One direction of a diagonal complex layer.

    The carry is complex, `(..., N)`. Inside the direction, states have real and imaginary parts
    side by side, `(..., 2N)`, as the input product writes them and the output product reads them.
    In an `S5`, N/2 takes the place of N.

    Attributes:
      lam: the eigenvalues, complex `(N,)`; with timesteps, those of each step, `(T, ..., N)`.
      b: the transposes of Re B and Im B side by side, `(H, 2N)`; see `Modes.into`.
      c: the transposes of Re C and -Im C, one above the other, `(2N, H)`; see `Modes.out`.
      d: D, `(H,)`; None if the layer's other direction adds the skip term D * u.
      rate: the continuous-time eigenvalues times the regular step, complex `(N,)`; None if the
        layer takes no timesteps.
      factor: the factors of B u with timesteps, complex `(T, ..., N)`; None if they are 1.
      discretization: the method of `lru.layers.hippo.discretize`, by which timesteps change the
        factors of the inputs; None if those factors are constant, as in the LRU.
      dtype: the type of the factors of matrix products, and of the outputs.
      method, chunk_size, sequence_axis: see `lru.LRU`.
    """

    lam: Complex[Array, "*TB N"]
    b: Float[Array, "H N2"]
    c: Float[Array, "N2 H"]
    d: Float[Array, "H"] | None
    rate: Complex[Array, "N"] | None = None
    factor: Complex[Array, "*TB N"] | None = None
    discretization: Discretization | None = struct.field(pytree_node=False, default=None)
    dtype: Any = struct.field(pytree_node=False, default=jnp.float32)
    method: Method = struct.field(pytree_node=False, default="auto")
    chunk_size: int | None = struct.field(pytree_node=False, default=None)
    sequence_axis: str | None = struct.field(pytree_node=False, default=None)

    @property
    def d_model(self) -> int:
        return len(self.b)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return diagonal_state(self.lam.shape[-1], self.lam.dtype, self.dtype)

    def chunk_steps(self, time_and_batch: Shape, reset: Resets, timesteps: Timesteps) -> int:
        if self.sequence_axis:  # each device computes its whole shard of time at once
            return 0
        return super().chunk_steps(time_and_batch, reset, timesteps)

    def with_timesteps(self, timesteps: Float[Array, "*TB"]) -> Any:
        if self.rate is None:
            return super().with_timesteps(timesteps)
        durations = timesteps[..., None]
        rate = with_rank(self.rate, durations.ndim)
        if self.discretization is None:
            return self.replace(lam=jnp.exp(durations.astype(rate.dtype) * rate))
        log_lam, factor = uneven_steps(rate, durations, self.discretization)
        return self.replace(lam=jnp.exp(log_lam), factor=factor)

    def encode(self, carry: Num[Array, "*B N"]) -> Float[Array, "*B N2"]:
        return to_pairs(carry)

    def decode(self, h: Float[Array, "*B N2"]) -> Complex[Array, "*B N"]:
        return from_pairs(h)

    def stored(self, steps: Any) -> Any:
        """Returns the type of B u and h in memory: `dtype` with Pallas, else at least float32.

        The Pallas kernel computes in at least float32, and rounds the states h that it stores to
        `dtype`, as the output product would. The carry is one of these states, so it is rounded
        too.

        Args:
          steps: the shape of the inputs, `(T, ..., H)`.
        """
        kernel = self.sequence_axis is None and resolve_method(self.method, steps) == "pallas"
        return self.dtype if kernel else at_least_float32(self.dtype)

    def input_projection(self, u: Real[Array, "*B H"]) -> Float[Array, "*B N2"]:
        x = matmul(u, self.b, self.dtype, self.stored(u.shape))
        return x if self.factor is None else to_pairs(self.factor * from_pairs(x)).astype(x.dtype)

    def transition(self, h: Float[Array, "*B N2"]) -> Float[Array, "*TB N2"]:
        lam = with_rank(self.lam, h.ndim)
        return to_pairs(lam * with_rank(from_pairs(h), lam.ndim))

    def recurrence(self, x: Any, h0: Any, clear: Any, reverse: bool) -> tuple[Any, Any]:
        lam, h0 = with_rank(self.lam, x.ndim), None if h0 is None else h0[None]
        if self.sequence_axis is None:
            return recur(to_pairs(lam), x, h0, clear, reverse, self.method, pairs=True)
        x, h0 = from_pairs(x), from_pairs(h0)
        h = recur_sharded(lam, x, h0, clear, reverse, self.method, self.sequence_axis)
        return to_pairs(h[0]), to_pairs(h[1])

    def output_projection(
        self, h: Float[Array, "*B N2"], u: Real[Array, "*B H"]
    ) -> Float[Array, "*B H"]:
        return add_skip(matmul(h, self.c, self.dtype, h.dtype), self.d, u).astype(self.dtype)

    def modes(self) -> Modes:
        """Returns the modes of this direction."""
        (b_re, b_im), (c_re, minus_c_im) = jnp.split(self.b.T, 2), jnp.split(self.c.T, 2, axis=1)
        return Modes(self.lam, b_re + 1j * b_im, c_re - 1j * minus_c_im)

    def step(
        self, carry: Num[Array, "*B N"], u: Real[Array, "*B H"]
    ) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
        """Maps a carry `(..., N)` and inputs `(..., H)` to the new carry and outputs `(..., H)`."""
        # `nn.RNN` scans over the steps, so the carry must keep its type.
        dtype = result_type(carry, self.lam)
        h = self.transition(self.encode(carry.astype(dtype))) + matmul(u, self.b, self.dtype)
        return self.decode(h).astype(dtype), self.output_projection(h, u)


def pack(
    params: Parameters,
    lam: Complex[Array, "N"],
    b_re: Float[Array, "N H"],
    b_im: Float[Array, "N H"],
    scale: float = 1.0,
    **options: Any,
) -> tuple[DiagonalDirection, ...]:
    """Returns the direction of `C`, which adds the skip term, and the direction of `C2`, if any.

    Args:
      params: the layer's parameters, including `C_re C_im (H, N)`, `D (H,)` and, in a bidirectional
        layer, `C2_re C2_im (H, N)`.
      lam: the eigenvalues.
      b_re, b_im: the real and imaginary parts of the input matrix.
      scale: the factor of the output matrices: 2 if each mode represents a conjugate pair.
      options: the directions' other attributes.
    """
    b = jnp.concatenate([b_re, b_im]).T
    directions = []
    for name in readouts("C2_re" in params):
        parts = [scale * params[f"{name}_re"], -scale * params[f"{name}_im"]]
        d = params["D"] if name == "C" else None
        c = jnp.concatenate(parts, axis=-1).T
        directions.append(DiagonalDirection(lam, b, c, d, **options))
    return tuple(directions)


def readouts(bidirectional: bool) -> tuple[str, ...]:
    """Returns the names of the output matrices, one per direction."""
    return ("C", "C2") if bidirectional else ("C",)


def add_skip(
    y: Real[Array, "*B H"], skip: Real[Array, "H"] | None, u: Real[Array, "*B H"]
) -> Real[Array, "*B H"]:
    """Returns y + D * u, where D is `skip`, or y if `skip` is None."""
    if skip is None:
        return y
    return y + skip.astype(y.dtype).reshape((1,) * (u.ndim - 1) + (-1,)) * u.astype(y.dtype)


def modes_of(make: Callable[[Any], Sequence[Any]], params: Mapping[str, Any]) -> tuple[Modes, ...]:
    """Returns the modes of each direction, as NumPy arrays in double precision.

    Args:
      make: a function from the parameters to the directions.
      params: the layer's parameters.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> layer = lru.LRU(64)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> modes, = layer.modes(variables["params"])
      >>> modes.lam.shape, modes.into.shape, modes.out.shape
      ((64,), (64, 16), (16, 64))
    """
    with jax.enable_x64(True), jax.default_device(_cpu()):
        wide = {name: jnp.asarray(np.float64(value)) for name, value in params.items()}
        return tuple(Modes(*map(np.asarray, direction.modes())) for direction in make(wide))


def _cpu() -> jax.Device | None:
    """Returns the CPU, because some devices have no float64; None if JAX may not use the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def diagonal_state(d_state: int, *dtypes: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of one sequence's state of N modes, at least complex64."""
    return jax.ShapeDtypeStruct((d_state,), result_type(jnp.complex64, *dtypes))


def with_rank(x: Num[Array, "*N"], ndim: int) -> Num[Array, "..."]:
    """Reshapes x, such as Lambda, to `(1, ..., 1, *N)`, with at least `ndim` axes."""
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
