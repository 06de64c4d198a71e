"""Recurrent networks with a dense state matrix: the first steps from an RNN to the LRU.

    h_k = f(A h_{k-1} + B u_k),   y_k = C h_k + D * u_k        Eq. (1) of Orvieto et al. (2023)

All matrices are real, and there are no biases. f is ReLU, tanh or the identity, as in Tables 1 and
2 of the paper.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from lru.layers.mixers import Direction, Mixer
from lru.layers.state_space import Parameters, add_skip, readouts
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Float
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import Initializer, scaled_normal
from lru.ops.matmul import matmul
from lru.ops.recurrence import zero_where

Activation = Literal["relu", "tanh", "linear"]

# `Direction` needs f(0) = 0, so that padding keeps a zero state at zero.
_ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh, "linear": lambda x: x}


class DenseDirection(Direction):
    """One direction of a `DenseRNN`.

    Attributes:
      a, b, c: the transposes of A, B and C (or C2), because states and inputs are rows of arrays.
      d: D, `(H,)`; None if the layer's other direction adds the skip term D * u.
      activation: the name of f.
      dtype: the type of the factors of matrix products, and of the outputs.
      chunk_size: see `lru.LRU`.
    """

    a: Float[Array, "N N"]
    b: Float[Array, "H N"]
    c: Float[Array, "N H"]
    d: Float[Array, "H"] | None
    activation: Activation = struct.field(pytree_node=False)
    dtype: Any = struct.field(pytree_node=False)
    chunk_size: int | None = struct.field(pytree_node=False, default=None)

    @property
    def d_model(self) -> int:
        return len(self.b)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(self.a),), at_least_float32(self.a, self.dtype))

    def input_projection(self, u: Any) -> Any:
        return matmul(u, self.b, self.dtype)

    def transition(self, h: Any) -> Any:
        return matmul(h, self.a, self.dtype)

    def recurrence(self, x: Any, h0: Any, clear: Any, reverse: bool) -> tuple[Any, Any]:
        activation = _ACTIVATIONS[self.activation]
        dtype = x.dtype if h0 is None else result_type(x, h0)

        def step(h, inputs):
            x, clear = inputs
            h = activation(self.transition(zero_where(clear, h)) + x).astype(dtype)
            return h, h

        h0 = jnp.zeros_like(x[0]) if h0 is None else h0.astype(dtype)
        h_last, h = lax.scan(step, h0, (x, clear), reverse=reverse)
        return h, h_last

    def output_projection(self, h: Any, u: Any) -> Any:
        return add_skip(matmul(h, self.c, self.dtype), self.d, u).astype(self.dtype)


def haiku_normal(fan_in: int) -> Initializer:
    """Returns an initializer of N(0, 1 / fan_in), truncated at two standard deviations.

    Haiku's vanilla RNN draws its matrices from this distribution. Truncation multiplies the
    standard deviation by 0.88, and nothing corrects for this. The spectral radius of a large square
    matrix is therefore about 0.88.

    Example:
      >>> import jax
      >>> float(abs(haiku_normal(4)(jax.random.key(0), (100, 4))).max()) <= 1
      True
    """
    return jax.nn.initializers.truncated_normal(1 / math.sqrt(fan_in))


def limit_spectral_radius(draw: Initializer) -> Initializer:
    """Returns an initializer that limits the spectral radius of the matrices of `draw` to 1.

    The spectral radius of a square matrix A is at most ||A^1024||^(1/1024), and for random matrices
    it is only a few thousandths smaller. If this bound is above 1, A is divided by the bound.

    Example:
      >>> import jax
      >>> orthogonal = jax.nn.initializers.orthogonal
      >>> scaled = limit_spectral_radius(orthogonal(scale=3.0))(jax.random.key(0), (4, 4))
      >>> bool(abs(scaled - orthogonal()(jax.random.key(0), (4, 4))).max() < 1e-2)
      True
    """

    def init(key, shape, dtype=jnp.float32):
        matrix = draw(key, shape, dtype)
        power, log_scale = matrix, 0.0
        for _ in range(10):  # the power is A^(2^i), up to its scale
            size = jnp.linalg.norm(power)
            power = jnp.matmul(power / size, power / size, precision=lax.Precision.HIGHEST)
            log_scale = 2 * (log_scale + jnp.log(size))
        log_radius = (log_scale + jnp.log(jnp.linalg.norm(power))) / 1024
        return matrix * jnp.exp(-jnp.maximum(log_radius, 0)).astype(dtype)

    return init


class DenseRNN(Mixer):
    """The vanilla RNN of Orvieto et al. (2023), with the call signature of `lru.LRU`.

    h_k = f(A h_{k-1} + B u_k),   y_k = C h_k + D * u_k        Eq. (1)

    Parameters: `A (N, N)`, `B (N, H)`, `C (H, N)` and, in a bidirectional layer, `C2 (H, N)`, drawn
    by `haiku_normal`; and `D (H,)`, drawn from N(0, 1), as in the LRU. If N is small, some A have
    an eigenvalue outside the unit circle: about one in ten at N = 64. The state of a linear layer
    may then overflow float32 within a thousand steps. Therefore, `limit_spectral_radius` is applied
    to the A of a linear layer. At the paper's N, this almost never changes A.

    Attributes:
      d_state: N, the state size.
      activation: the name of f, `"relu"`, `"tanh"` or `"linear"` (the identity).
      bidirectional, chunk_size, dtype, param_dtype: see `lru.LRU`. Here, the carry is at least
        float32.

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

    def directions(self, inputs: Any) -> tuple[DenseDirection, ...]:
        if self.activation not in _ACTIVATIONS:
            known = ", ".join(map(repr, _ACTIVATIONS))
            raise ValueError(f"activation={self.activation!r}; expected one of {known}")
        params = self._parameters(inputs.shape[-1])
        dtype = compute_dtype(inputs, params["A"], self.dtype)
        return tuple(
            DenseDirection(
                params["A"].T, params["B"].T, params[name].T, params["D"] if name == "C" else None,
                self.activation, dtype, self.chunk_size,
            )
            for name in readouts(self.bidirectional)
        )  # fmt: skip

    @nn.nowrap
    def chunked_state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.d_state,), jnp.float32)

    def _parameters(self, d_model: int) -> Parameters:
        check_sizes(d_model=d_model, d_state=self.d_state)
        shapes = {"A": (self.d_state, self.d_state), "B": (self.d_state, d_model)}
        shapes |= {name: (d_model, self.d_state) for name in readouts(self.bidirectional)}
        draws = {name: haiku_normal(shape[1]) for name, shape in shapes.items()}
        if self.activation == "linear":
            draws["A"] = limit_spectral_radius(draws["A"])
        params = {
            name: self.param(name, draws[name], shape, self.param_dtype)
            for name, shape in shapes.items()
        }
        return params | {"D": self.param("D", scaled_normal(1.0), (d_model,), self.param_dtype)}
