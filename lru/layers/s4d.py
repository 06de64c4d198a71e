"""S4D (Gu et al. 2022): H diagonal state-space models of one input each, as a convolution.

    h' = Lambda h + u,   y = 2 Re[C h] + D u          for each of H channels separately

Discretized with step size Delta, a channel without its skip D u is a recurrence, and also a
convolution of its inputs with the kernel K_k = 2 Re[C scale exp(k log_lam)], where
`lru.layers.hippo.discretize` gives scale and log_lam. For a known number of steps above 1, without
resets or timesteps, the layer computes the convolution by FFT. The final state is then a separate
sum, which the compiler removes if the state is not used.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.export import is_symbolic_dim

from lru.layers.hippo import (
    Discretization,
    check_even,
    discretize,
    hippo_modes,
    log_steps,
    uneven_steps,
)
from lru.layers.mixers import Direction, Mixer
from lru.layers.padding import flip, zero_padding
from lru.layers.state_space import Modes, Parameters, add_skip, modes_of, readouts, with_rank
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Complex, Float, Lengths, Real, Resets, Shape, Timesteps
from lru.ops.chunks import resolve_chunk_size, scan_chunks
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import scaled_normal
from lru.ops.recurrence import Method, recur

Frequencies = Literal["lin", "inv", "legs"]


class S4DDirection(Direction):
    """One direction of an `S4D`, discretized: the weights of H separate channels.

    Attributes:
      log_lam: the logarithms of the discrete eigenvalues, complex `(H, N/2)`; with timesteps, those
        of each step, `(T, ..., H, N/2)`.
      scale: the factors of the inputs, with the shape of `log_lam`.
      c: C or C2, complex `(H, N/2)`.
      d: D, `(H,)`; None if the layer's other direction adds the skip term D u.
      rate: Lambda Delta, complex `(H, N/2)`.
      discretization: see `S4D`.
      dtype: the type of the outputs.
      method, chunk_size: see `S4D`.
    """

    log_lam: Complex[Array, "*TB H N"]
    scale: Complex[Array, "*TB H N"]
    c: Complex[Array, "H N"]
    d: Float[Array, "H"] | None
    rate: Complex[Array, "H N"]
    discretization: Discretization = struct.field(pytree_node=False, default="zoh")
    dtype: Any = struct.field(pytree_node=False, default=jnp.float32)
    method: Method = struct.field(pytree_node=False, default="auto")
    chunk_size: int | None = struct.field(pytree_node=False, default=None)

    @property
    def d_model(self) -> int:
        return len(self.c)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.c.shape, self.c.dtype)

    def chunk_steps(self, time_and_batch: Shape, reset: Resets, timesteps: Timesteps) -> int:
        if timesteps is None and self._convolves(time_and_batch[0], reset):
            return 0
        return super().chunk_steps(time_and_batch, reset, timesteps)

    def with_timesteps(self, timesteps: Float[Array, "*TB"]) -> Any:
        durations = timesteps[..., None, None]
        rate, scale = (with_rank(v, durations.ndim) for v in (self.rate, self.scale))
        log_lam, factor = uneven_steps(rate, durations, self.discretization)
        return self.replace(log_lam=log_lam, scale=scale * factor)

    def input_projection(self, u: Real[Array, "*B H"]) -> Complex[Array, "*B H N"]:
        u = u[..., None].astype(result_type(self.scale, u))
        return with_rank(self.scale, u.ndim) * u

    def transition(self, h: Complex[Array, "*B H N"]) -> Complex[Array, "*TB H N"]:
        lam = with_rank(jnp.exp(self.log_lam), h.ndim)
        return lam * with_rank(h, lam.ndim)

    def recurrence(self, x: Any, h0: Any, clear: Any, reverse: bool) -> tuple[Any, Any]:
        lam, h0 = with_rank(jnp.exp(self.log_lam), x.ndim), None if h0 is None else h0[None]
        return recur(lam, x, h0, clear, reverse, self.method)

    def output_projection(
        self, h: Complex[Array, "*B H N"], u: Real[Array, "*B H"]
    ) -> Real[Array, "*B H"]:
        y = 2 * jnp.sum((with_rank(self.c, h.ndim) * h).real, axis=-1)
        return add_skip(y, self.d, u).astype(self.dtype)

    def chunk(
        self, carry: Any, inputs_and_reset: Any, seq_lengths: Lengths, *, reverse: bool
    ) -> tuple[Any, Any]:
        """Computes a convolution, or the recurrence where no convolution is possible or useful.

        The recurrence is for resets, for timesteps, for a single step, and for a symbolic T.
        """
        inputs, reset = inputs_and_reset
        if not self._convolves(inputs.shape[0], reset):
            return super().chunk(carry, inputs_and_reset, seq_lengths, reverse=reverse)
        mirror = functools.partial(flip, seq_lengths=seq_lengths)
        u = zero_padding(inputs, seq_lengths)
        u = u.astype(at_least_float32(u))
        first_to_last, last_to_first = (mirror(u), u) if reverse else (u, mirror(u))
        y = convolve(kernel(self, len(u)), first_to_last)
        if carry is not None:
            y += decay(self, carry, len(u))
        y = add_skip(mirror(y) if reverse else y, self.d, u).astype(self.dtype)
        return final_state(self, carry, last_to_first, seq_lengths), zero_padding(y, seq_lengths)

    def modes(self) -> Modes:
        """Returns the modes of each channel."""
        return Modes(jnp.exp(self.log_lam), self.scale, 2 * self.c)

    def _convolves(self, time: Any, reset: Resets) -> bool:
        varying = self.log_lam.ndim > self.c.ndim
        return reset is None and not varying and not is_symbolic_dim(time) and time > 1


class S4D(Mixer):
    """The S4D layer, with the call signature of `lru.LRU`.

    h_k = exp(Lambda Delta) h_{k-1} + Lambda^-1 (exp(Lambda Delta) - 1) u_k
    y_k = 2 Re[C h_k] + D u_k          with Lambda = -exp(nu_log) + i Lambda_im

    This is the layer of Gu et al., "On the Parameterization and Initialization of Diagonal State
    Space Models" (NeurIPS 2022). As in the paper, B is 1, because C can absorb it; S4's own code
    starts `"legs"` from the B of HiPPO-LegS instead. The published layer ends with GELU and a gated
    linear unit that mixes the channels; here, both are in the block around the layer. The call's
    argument `timesteps` multiplies Delta at each step, in both factors.

    Parameters, for N/2 pairs of modes: `nu_log Lambda_im (H, N/2)`, `log_step (H,)`,
    `C_re C_im (H, N/2)`, `D (H,)`; a bidirectional layer adds `C2_re C2_im`.

    Attributes:
      d_state: N, an even number: each channel has N/2 modes and their conjugates.
      frequencies: the initial Lambda_im, for n = 0 ... N/2 - 1: `"lin"`: pi n; `"inv"`:
        N / pi (N / (2n + 1) - 1); `"legs"`: the imaginary parts of HiPPO-N's eigenvalues. The
        initial real parts are -1/2.
      dt_min, dt_max: the bounds between which each channel's step size is drawn log-uniformly.
      discretization: `"zoh"`, as above, or `"bilinear"`.
      method, chunk_size: options of the recurrence, which is used only with resets or timesteps,
        for a single step, or for a symbolic number of steps; see `lru.LRU`.
      bidirectional, dtype, param_dtype: see `lru.LRU`. Here, only the outputs have type `dtype`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import S4D
      >>> u = jnp.ones((8, 100, 16))  # (B, T, H)
      >>> layer = S4D(64, "lin")
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> carry, y = layer.apply(variables, u, return_carry=True)
      >>> y.shape, carry.shape
      ((8, 100, 16), (8, 16, 32))
    """

    d_state: int
    frequencies: Frequencies = "legs"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    discretization: Discretization = "zoh"
    bidirectional: bool = False
    method: Method = "auto"
    chunk_size: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def causal(self) -> bool:
        return not (self.bidirectional or self.reverse)

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Modes, ...]:
        """Returns the modes of each direction, `(H, N/2)`, with the layer's discretization."""
        make = functools.partial(s4d_directions, discretization=self.discretization)
        return modes_of(make, params)

    def directions(self, inputs: Any) -> tuple[S4DDirection, ...]:
        params = self._parameters(inputs.shape[-1])
        dtype = compute_dtype(inputs, params["C_re"], self.dtype)
        return s4d_directions(
            params, self.discretization,
            dtype=dtype, method=self.method, chunk_size=self.chunk_size,
        )  # fmt: skip

    def _parameters(self, d_model: int) -> Parameters:
        check_sizes(d_model=d_model)
        imaginary = initial_frequencies(self.frequencies, self.d_state)
        shape = d_model, len(imaginary)

        def constant(value):
            return lambda _: jnp.broadcast_to(jnp.asarray(value, self.param_dtype), shape)

        params = {
            "nu_log": self.param("nu_log", constant(math.log(0.5))),
            "Lambda_im": self.param("Lambda_im", constant(imaginary)),
        }
        steps = log_steps(self.dt_min, self.dt_max)
        params["log_step"] = self.param("log_step", steps, (d_model,), self.param_dtype)
        for name in readouts(self.bidirectional):  # E|C|^2 = 1
            for part in (f"{name}_re", f"{name}_im"):
                params[part] = self.param(part, scaled_normal(0.5), shape, self.param_dtype)
        return params | {"D": self.param("D", scaled_normal(1.0), (d_model,), self.param_dtype)}


def initial_frequencies(kind: Frequencies, d_state: int) -> np.ndarray:
    """Returns Im Lambda `(N/2,)` of S4D-Lin, S4D-Inv or S4D-LegS.

    Raises:
      ValueError: if `kind` is unknown, or N is not an even integer of at least 2.

    Example:
      >>> (initial_frequencies("lin", 6) / math.pi).tolist()
      [0.0, 1.0, 2.0]
    """
    check_even(d_state)
    n = np.arange(d_state // 2)
    if kind == "lin":
        return math.pi * n
    if kind == "inv":
        return d_state / math.pi * (d_state / (2 * n + 1) - 1)
    if kind == "legs":
        return hippo_modes(d_state)[0].imag
    raise ValueError(f"frequencies={kind!r}; expected 'lin', 'inv' or 'legs'")


def s4d_directions(
    params: Parameters, discretization: Discretization = "zoh", **options: Any
) -> tuple[S4DDirection, ...]:
    """Returns the direction of `C`, which adds the skip term, and the direction of `C2`, if any.

    Args:
      params: the parameters of an `S4D`.
      discretization: see `S4D`.
      options: the directions' other attributes.
    """
    p = {name: v.astype(at_least_float32(v)) for name, v in params.items()}
    lam = lax.complex(-jnp.exp(p["nu_log"]), p["Lambda_im"])
    step = jnp.exp(p["log_step"])[:, None]
    log_lam, scale = discretize(lam, step, discretization)
    rate = lam * step.astype(lam.dtype)
    return tuple(
        S4DDirection(
            log_lam,
            scale,
            lax.complex(p[f"{name}_re"], p[f"{name}_im"]),
            params["D"] if name == "C" else None,
            rate,
            discretization,
            **options,
        )
        for name in readouts("C2_re" in params)
    )


def kernel(direction: S4DDirection, time: int) -> Float[Array, "T H"]:
    """Returns K_k = 2 Re[C scale exp(k log_lam)] of each channel, for k = 0 ... T - 1.

    Unless the device has ample memory, a long kernel is computed in chunks, and recomputed in the
    backward pass, because all powers together take N times the memory of the kernel.
    """

    def chunk(direction, carry, steps, _):
        terms = (direction.c * direction.scale)[None] * _powers(direction, steps[:, 0])
        return carry, 2 * jnp.sum(terms.real, axis=-1)

    chunk_size = resolve_chunk_size(None, (time,), 2 * direction.c.size)
    steps = jnp.arange(time)[:, None]
    return scan_chunks(chunk, direction, (), steps, chunk_size=chunk_size)[1]


def convolve(k: Float[Array, "T H"], u: Float[Array, "T *B H"]) -> Float[Array, "T *B H"]:
    """Returns y_t = sum_{s <= t} K_{t-s} u_s of each channel, by FFTs of length 2 T."""
    time = u.shape[0]
    transform = functools.partial(jnp.fft.rfft, n=2 * time, axis=0)
    k = k.reshape(time, *(1,) * (u.ndim - 2), -1)
    return jnp.fft.irfft(transform(k) * transform(u), n=2 * time, axis=0)[:time]


def decay(
    direction: S4DDirection, h0: Complex[Array, "*B H N"], time: int
) -> Float[Array, "T *B H"]:
    """Returns 2 Re[C exp((t + 1) log_lam) h0], the contribution of the state h0 to output t."""
    powers = direction.c[None] * _powers(direction, jnp.arange(1, time + 1))
    return 2 * jnp.einsum("thn,...hn->t...h", powers, h0).real


def final_state(
    direction: S4DDirection,
    h0: Complex[Array, "*B H N"] | None,
    u: Float[Array, "T *B H"],
    seq_lengths: Lengths,
) -> Complex[Array, "*B H N"]:
    """Returns the state after the last valid step consumed.

    Args:
      direction: a direction without timesteps.
      h0: the state before the first step consumed; None for zero.
      u: the inputs from the last valid step consumed to the first, followed by zeros. So
        the input at index k is multiplied by scale exp(k log_lam), whatever the length.
      seq_lengths: the number of valid steps of each sequence; None if all steps are valid.
    """
    powers = direction.scale[None] * _powers(direction, jnp.arange(u.shape[0]))
    sums = [jnp.einsum("thn,t...h->...hn", part, u) for part in (powers.real, powers.imag)]
    state = lax.complex(*sums)
    if h0 is None:
        return state
    steps = jnp.full(u.shape[1:-1], len(u)) if seq_lengths is None else seq_lengths
    steps = steps[..., None, None].astype(direction.log_lam.dtype)
    return state + jnp.exp(with_rank(direction.log_lam, steps.ndim) * steps) * h0


def _powers(direction, steps):
    """Returns exp(k log_lam) for each step k, `(K, H, N/2)`."""
    steps = steps[:, None, None].astype(direction.log_lam.dtype)
    return jnp.exp(steps * direction.log_lam[None])
