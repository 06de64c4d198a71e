"""Recurrent networks with a dense state matrix, where the ladder to the LRU begins.

    x_k = f(A x_{k-1} + B u_k),   y_k = C x_k + D * u_k        Eq. (1) of Orvieto et al. (2023)

All real, without biases, f a nonlinearity or none: Tables 1 and 2 of the paper.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lru.layers.arguments import check_sizes
from lru.layers.mixers import Mixer, System, mix, recurrent
from lru.layers.state_space import Parameters, add_skip, readouts
from lru.ops.array_typing import Array, Float
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import Initializer, scaled_normal
from lru.ops.matmul import matmul
from lru.ops.recurrence import unless

Activation = Literal["relu", "tanh", "linear"]

_ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh, "linear": lambda x: x}  # f(0) = 0, all of them


class Weights(NamedTuple):
    """One direction's matrices, to multiply rows from the right: A, B, C and D, transposed."""

    across: Float[Array, "N N"]
    into: Float[Array, "H N"]
    out: Float[Array, "N H"]
    skip: Float[Array, "H"] | None


def haiku_normal(fan_in: int) -> Initializer:
    """A normal distribution of deviation 1 / sqrt(fan_in), cut off at two deviations.

    That is how Haiku's vanilla RNN draws its matrices. Cutting off leaves 0.88 of the deviation,
    which is not corrected for: so a large square matrix has a spectral radius of about 0.88.

    Example:
      >>> import jax
      >>> float(abs(haiku_normal(4)(jax.random.key(0), (100, 4))).max()) <= 1
      True
    """
    return jax.nn.initializers.truncated_normal(1 / math.sqrt(fan_in))


def without_growth(draw: Initializer) -> Initializer:
    """Square matrices of another initializer, none of whose powers grow.

    Where the spectral radius is above 1, the matrix is divided by it: by ||A^1024||^(1/1024), to
    be exact, which is never less, and at most a few thousandths more.

    Example:
      >>> import jax
      >>> orthogonal = jax.nn.initializers.orthogonal
      >>> grown = without_growth(orthogonal(scale=3.0))(jax.random.key(0), (4, 4))
      >>> bool(abs(grown - orthogonal()(jax.random.key(0), (4, 4))).max() < 1e-2)
      True
    """

    def init(key, shape, dtype=jnp.float32):
        matrix = draw(key, shape, dtype)
        power, log_scale = matrix, 0.0
        for _ in range(10):  # the power is A^(2^i), but for its scale
            size = jnp.linalg.norm(power)
            power = jnp.matmul(power / size, power / size, precision=lax.Precision.HIGHEST)
            log_scale = 2 * (log_scale + jnp.log(size))
        log_radius = (log_scale + jnp.log(jnp.linalg.norm(power))) / 1024
        return matrix * jnp.exp(-jnp.maximum(log_radius, 0)).astype(dtype)

    return init


class DenseRNN(Mixer):
    """The vanilla RNN of Orvieto et al. (2023), with the call of `lru.LRU`.

    x_k = f(A x_{k-1} + B u_k),   y_k = C x_k + D * u_k        Eq. (1)

    Parameters: `A (N, N)`, `B (N, H)`, `C (H, N)`, drawn by `haiku_normal`; `D (H,)` from N(0, 1),
    elementwise as the LRU's, so that a rung of the ladder differs from the next by A alone; a
    bidirectional layer's `C2 (H, N)`. With few modes, an A in ten has an eigenvalue beyond the unit
    circle, which over a thousand steps is more than float32 can hold: that of a linear layer is
    drawn `without_growth`. (At the paper's N it makes no difference.)

    Attributes:
      d_state: N.
      activation: f: `"relu"`, `"tanh"` or `"linear"`, which is x.
      bidirectional, chunk_size, dtype, param_dtype: as of `lru.LRU`; the state is float32 at least.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import DenseRNN
      >>> u = jnp.ones((8, 100, 16))  # (B, T, H)
      >>> layer = DenseRNN(64, "tanh")
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> carry, y = layer.apply(variables, u, return_carry=True)
      >>> y.shape, carry.shape, carry.dtype.name
      ((8, 100, 16), (8, 64), 'float32')
    """

    d_state: int
    activation: Activation = "relu"
    bidirectional: bool = False
    chunk_size: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def causal(self) -> bool:
        return not (self.bidirectional or self.reverse)

    def mix_time(self, inputs: Any, **call: Any) -> Any:
        if self.activation not in _ACTIVATIONS:
            known = ", ".join(map(repr, _ACTIVATIONS))
            raise ValueError(f"activation={self.activation!r}; expected one of {known}")
        params = self._parameters(inputs.shape[-1])
        dtype = compute_dtype(inputs, params["A"], self.dtype)
        state = self.chunked_state(params["A"], dtype)
        run = recurrent(_system(_ACTIVATIONS[self.activation], dtype), state, self.chunk_size)
        d_model = inputs.shape[-1]
        return mix(run, pack(params), inputs, d_model=d_model, state_shape=state.shape, **call)

    @nn.nowrap
    def chunked_state(self, *types: Any) -> jax.ShapeDtypeStruct:
        """One sequence's state, in a type that holds those given."""
        return jax.ShapeDtypeStruct((self.d_state,), at_least_float32(*types))

    def _parameters(self, d_model: int) -> Parameters:
        check_sizes(d_model=d_model, d_state=self.d_state)
        shapes = {"A": (self.d_state, self.d_state), "B": (self.d_state, d_model)}
        shapes |= {name: (d_model, self.d_state) for name in readouts(self.bidirectional)}
        draws = {name: haiku_normal(shape[1]) for name, shape in shapes.items()}
        if self.activation == "linear":
            draws["A"] = without_growth(draws["A"])
        params = {
            name: self.param(name, draws[name], shape, self.param_dtype)
            for name, shape in shapes.items()
        }
        return params | {"D": self.param("D", scaled_normal(1.0), (d_model,), self.param_dtype)}


def pack(params: Parameters) -> tuple[Weights, ...]:
    """The weights of each direction: that of `C`, which has the skip, and that of `C2`, if any."""
    return tuple(
        Weights(params["A"].T, params["B"].T, params[name].T, params["D"] if name == "C" else None)
        for name in readouts("C2" in params)
    )


def _system(activation, dtype) -> System:
    """Eq. (1) for `lru.layers.mixers`: B u of all steps is one product, before the scan over A."""

    def read_out(weights, x, u):
        return add_skip(matmul(x, weights.out, dtype), weights.skip, u).astype(dtype)

    return System(
        lambda weights, u: matmul(u, weights.into, dtype),
        lambda weights, x: matmul(x, weights.across, dtype),
        functools.partial(_solve, activation=activation, dtype=dtype),
        read_out,
    )


def _solve(weights, v, x0, reset, reverse, *, activation, dtype):
    def step(x, inputs):
        v, clear = inputs
        x = activation(matmul(unless(clear, x), weights.across, dtype) + v)
        x = x.astype(state)
        return x, x

    state = v.dtype if x0 is None else result_type(v, x0)
    start = jnp.zeros_like(v[0]) if x0 is None else x0.astype(state)
    last, x = lax.scan(step, start, (v, reset), reverse=reverse)
    return x, last
