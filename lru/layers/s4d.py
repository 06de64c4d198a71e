"""S4D (Gu et al. 2022): H state-space models of one input each, diagonal, as a convolution.

    x' = Lambda x + u,   y = 2 Re[C x] + D u          for each of H channels by itself

In steps of Delta a channel is a recurrence, and also a convolution of its inputs with the kernel
K_k = 2 Re[C scale exp(k log_lam)]; scale and log_lam are those of `lru.layers.hippo.discretize`.
Without resets the convolution is used, by FFT, and the final state is a sum by itself, which a
compiler leaves out where nobody uses it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim

from lru.layers.arguments import check_sizes
from lru.layers.hippo import Discretization, check_even, discretize, hippo_modes, log_steps
from lru.layers.mixers import Mixer, System, flip, full_state, mix, recurrent, zero_padding
from lru.layers.state_space import Modes, Parameters, add_skip, in_float64, readouts, solve, times
from lru.ops.array_typing import Array, Complex, Float, Real
from lru.ops.chunks import scan_chunks, steps_at_once
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import scaled_normal
from lru.ops.recurrence import Method

Frequencies = Literal["lin", "inv", "legs"]


class Weights(NamedTuple):
    """One direction's discretized weights, those of each channel in a row.

    Attributes:
      log_lam: the logarithms of the discrete eigenvalues, complex `(H, N/2)`.
      into: scale, complex `(H, N/2)`.
      out: C, complex `(H, N/2)`.
      skip: D, `(H,)`; None if another read-out of the same inputs has it.
    """

    log_lam: Complex[Array, "H N"]
    into: Complex[Array, "H N"]
    out: Complex[Array, "H N"]
    skip: Float[Array, "H"] | None

    @property
    def lam(self) -> Complex[Array, "H N"]:
        """The discrete eigenvalues."""
        return jnp.exp(self.log_lam)


class S4D(Mixer):
    """The S4D layer, with the call of `lru.LRU`.

    x_k = exp(Lambda Delta) x_{k-1} + Lambda^-1 (exp(Lambda Delta) - 1) u_k
    y_k = 2 Re[C x_k] + D u_k          with Lambda = -exp(nu_log) + i Lambda_im

    of Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models"
    (NeurIPS 2022). As there, B is 1: C stands for both. The published layer ends with GELU and a
    gated linear unit that mixes the channels; here the block around the layer does that.

    Parameters, for N/2 pairs of modes: `nu_log Lambda_im (H, N/2)`, `log_step (H,)`,
    `C_re C_im (H, N/2)`, `D (H,)`; a bidirectional layer adds `C2_re C2_im`.

    Attributes:
      d_state: N, even: each channel has N/2 modes and their conjugates.
      frequencies: Lambda_im to begin with, n = 0 ... N/2 - 1; real parts begin with -1/2.
        `"lin"`: pi n; `"inv"`: N / pi (N / (2n + 1) - 1); `"legs"`: HiPPO-N's eigenvalues.
      dt_min, dt_max: the channels' step sizes are drawn log-uniformly between them.
      discretization: `"zoh"`, as above, or `"bilinear"`.
      method, chunk_size: of the recurrence, which is used where there are resets.
      bidirectional, dtype, param_dtype: as of `lru.LRU`. Only outputs have the type `dtype`.

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
        """The modes of each direction, `(H, N/2)`, discretized as the layer's option says."""
        make = functools.partial(s4d_weights, discretization=self.discretization)
        directions = in_float64(make, params)
        return tuple(Modes(np.exp(log_lam), into, 2 * out) for log_lam, into, out, _ in directions)

    def mix_time(self, inputs: Any, **call: Any) -> Any:
        params = self._parameters(inputs.shape[-1])
        directions = s4d_weights(params, self.discretization)
        dtype = compute_dtype(inputs, params["C_re"], self.dtype)
        state = jax.ShapeDtypeStruct(directions[0].out.shape, directions[0].out.dtype)
        system = System(
            drive,
            lambda weights, x: times(weights.lam, x),
            functools.partial(solve, method=self.method),
            functools.partial(read_out, dtype=dtype),
        )
        run = functools.partial(_run, recurrent(system, state, self.chunk_size), dtype)
        d_model = inputs.shape[-1]
        return mix(run, directions, inputs, d_model=d_model, state_shape=state.shape, **call)

    def _parameters(self, d_model: int) -> Parameters:
        check_sizes(d_model=d_model)
        imaginary = initial_frequencies(self.frequencies, self.d_state)
        shape = d_model, len(imaginary)

        def same(value):
            return lambda _: jnp.broadcast_to(jnp.asarray(value, self.param_dtype), shape)

        params = {
            "nu_log": self.param("nu_log", same(math.log(0.5))),
            "Lambda_im": self.param("Lambda_im", same(imaginary)),
        }
        steps = log_steps(self.dt_min, self.dt_max)
        params["log_step"] = self.param("log_step", steps, (d_model,), self.param_dtype)
        for name in readouts(self.bidirectional):  # E|C|^2 = 1
            for part in (f"{name}_re", f"{name}_im"):
                params[part] = self.param(part, scaled_normal(0.5), shape, self.param_dtype)
        return params | {"D": self.param("D", scaled_normal(1.0), (d_model,), self.param_dtype)}


def initial_frequencies(kind: Frequencies, d_state: int) -> np.ndarray:
    """Im Lambda `(N/2,)` of S4D-Lin, S4D-Inv or S4D-LegS.

    Raises:
      ValueError: if there is no such initialisation, or N is not even.

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


def s4d_weights(params: Parameters, discretization: Discretization = "zoh") -> tuple[Weights, ...]:
    """The weights of each direction: that of `C`, which has the skip, and that of `C2`, if any."""
    p = {name: v.astype(at_least_float32(v)) for name, v in params.items()}
    lam = lax.complex(-jnp.exp(p["nu_log"]), p["Lambda_im"])
    log_lam, scale = discretize(lam, jnp.exp(p["log_step"])[:, None], discretization)
    return tuple(
        Weights(
            log_lam,
            scale,
            lax.complex(p[f"{name}_re"], p[f"{name}_im"]),
            params["D"] if name == "C" else None,
        )
        for name in readouts("C2_re" in params)
    )


def drive(weights: Weights, u: Real[Array, "*B H"]) -> Complex[Array, "*B H N"]:
    """scale * u: what each mode of a channel gets of its input."""
    return times(weights.into, u[..., None].astype(result_type(weights.into, u)))


def read_out(
    weights: Weights, x: Complex[Array, "*B H N"], u: Real[Array, "*B H"], dtype: Any
) -> Real[Array, "*B H"]:
    """2 Re[C x] + D u."""
    y = 2 * jnp.sum(times(weights.out, x).real, axis=-1)
    return add_skip(y, weights.skip, u).astype(dtype)


def kernel(weights: Weights, time: int) -> Float[Array, "T H"]:
    """K_k = 2 Re[C scale exp(k log_lam)] of each channel, k = 0 ... T - 1.

    In pieces, computed again for the backward pass: all powers together are N times as large.
    """

    def piece(weights, carry, steps, _):
        terms = (weights.out * weights.into)[None] * _powers(weights, steps[:, 0])
        return carry, 2 * jnp.sum(terms.real, axis=-1)

    chunk_size = steps_at_once(None, (time,), 2 * weights.out.size)
    steps = jnp.arange(time)[:, None]
    return scan_chunks(piece, weights, (), steps, chunk_size=chunk_size)[1]


def convolve(k: Float[Array, "T H"], u: Float[Array, "T *B H"]) -> Float[Array, "T *B H"]:
    """y_t = sum_s K_{t-s} u_s of each channel, by FFT on twice the length."""
    time = u.shape[0]
    transform = functools.partial(jnp.fft.rfft, n=2 * time, axis=0)
    k = k.reshape(time, *(1,) * (u.ndim - 2), -1)
    return jnp.fft.irfft(transform(k) * transform(u), n=2 * time, axis=0)[:time]


def decay(weights: Weights, x0: Complex[Array, "*B H N"], time: int) -> Float[Array, "T *B H"]:
    """2 Re[C Lambda^(t+1) x0]: what is left of a state in the outputs after it."""
    powers = weights.out[None] * _powers(weights, jnp.arange(1, time + 1))
    return 2 * jnp.einsum("thn,...hn->t...h", powers, x0).real


def final_state(
    weights: Weights, x0: Any, u: Float[Array, "T *B H"], seq_lengths: Any
) -> Complex[Array, "*B H N"]:
    """The state after the last valid step, of inputs that begin with it and go back from there.

    So each is multiplied by as many powers as steps lie behind it, whatever the lengths are.
    """
    powers = weights.into[None] * _powers(weights, jnp.arange(u.shape[0]))
    driven = [jnp.einsum("thn,t...h->...hn", part, u) for part in (powers.real, powers.imag)]
    state = lax.complex(*driven)
    if x0 is None:
        return state
    steps = jnp.full(u.shape[1:-1], len(u)) if seq_lengths is None else seq_lengths
    steps = steps[..., None, None].astype(weights.log_lam.dtype)
    return state + jnp.exp(times(weights.log_lam, steps)) * x0


def _powers(weights, steps):
    """exp(k log_lam) of some steps k: `(K, H, N/2)`."""
    steps = steps[:, None, None].astype(weights.log_lam.dtype)
    return jnp.exp(steps * weights.log_lam[None])


def _run(run_recurrence, dtype, weights, x0, inputs, reset, seq_lengths, backward):
    """A direction, as `lru.layers.mixers.mix` wants it: by convolution where that can be."""
    time = inputs.shape[0]
    if reset is not None or is_symbolic_dim(time) or time == 1:  # no FFT of a length to come
        return run_recurrence(weights, x0, inputs, reset, seq_lengths, backward)
    mirror = functools.partial(flip, seq_lengths=seq_lengths)
    inputs = zero_padding(inputs, seq_lengths)
    u = inputs.astype(at_least_float32(inputs))
    onward, back = (mirror(u), u) if backward else (u, mirror(u))
    y = convolve(kernel(weights, time), onward)
    if x0 is not None:
        x0 = full_state(x0, inputs, jax.ShapeDtypeStruct(weights.out.shape, weights.out.dtype))
        y += decay(weights, x0, time)
    y = add_skip(mirror(y) if backward else y, weights.skip, u).astype(dtype)
    return final_state(weights, x0, back, seq_lengths), zero_padding(y, seq_lengths)
