"""Recurrent cells with two inputs, from below and from the step before, and two outputs.

A lattice of them has layers in depth and steps in time: h1 rises through the layers, h2 goes from
step to step. A cell is pure functions of its weights, so that whatever walks the lattice
(`lru.stacks`) can compute products ahead, for many steps, or abreast, for many layers.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.array_typing import Array, Float, PRNGKeyArray, Real, Shape
from lru.initializers import uniform
from lru.products import matmul

Dense = dict[str, Array]  # `kernel (K, M)` and `bias (M,)`


class TwoWayCell(nn.RNNCellBase):
    """What recurrent cells share: dense layers as parameters, and the call of Flax's cells.

    A subclass lists its dense layers in `shapes` and says in `step` what it does.

    Attributes:
      features: h, the width of inputs and outputs.
      dtype: of the matrix products; by default that of inputs and parameters together. The state
        is float32 at least, whatever it is.
      param_dtype: of the parameters.
    """

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The shape of each dense layer's kernel, by name."""
        raise NotImplementedError(f"{type(self).__name__} has no shapes")

    @property
    def state_size(self) -> int:
        """The numbers in one sequence's state."""
        return self.features

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """The weights as the products take them."""
        return params

    @nn.nowrap
    def drive(self, weights: Any, below: Real[Array, "*B H"]) -> Any:
        """What of a step needs the input from below alone."""
        raise NotImplementedError(f"{type(self).__name__} has no drive")

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        """`(state, what rises)` from the state before, the input from below and its `drive`."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    @nn.nowrap
    def enter(self, inputs: Real[Array, "*B H"]) -> Real[Array, "*B D"]:
        """What rises into the lowest cell."""
        return inputs

    @nn.nowrap
    def leave(self, above: Real[Array, "*B D"]) -> Real[Array, "*B H"]:
        """The outputs, of what rises from the topmost cell."""
        return above

    @nn.nowrap
    def bound(self, shape: tuple[int, int]) -> float:
        """Weights and biases of a dense layer of that shape are drawn from U(-bound, bound)."""
        return 1 / math.sqrt(self.features)

    @nn.nowrap
    def draw(self, key: PRNGKeyArray) -> dict[str, Dense]:
        """All parameters, new."""
        if self.features < 1:
            raise ValueError(f"features={self.features}; expected at least 1")
        shapes = self.shapes()
        keys = jax.random.split(key, len(shapes))
        return {
            name: draw_dense(key, shape, self.bound(shape), self.param_dtype)
            for key, (name, shape) in zip(keys, shapes.items())
        }

    @nn.nowrap
    def count(self) -> int:
        """The number of parameters."""
        return sum(rows * columns + columns for rows, columns in self.shapes().values())

    @nn.compact
    def __call__(
        self, carry: Real[Array, "*B N"], inputs: Real[Array, "*B H"]
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B H"]]:
        """One step.

        Args:
          carry: the state before, h2, `(..., N)`.
          inputs: h1, `(..., h)`.

        Returns:
          `(carry, outputs)`, h2' and h1'.
        """
        if inputs.shape[-1] != self.features:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (..., {self.features})")
        shapes = {name: (shape, self.bound(shape)) for name, shape in self.shapes().items()}
        params = {
            name: self.param(name, draw_dense, shape, bound, self.param_dtype)
            for name, (shape, bound) in shapes.items()
        }
        weights, dtype = self.pack(params), jnp.result_type(carry, jnp.float32)
        below = self.enter(inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32)))
        carry, above = self.step(weights, carry, below, self.drive(weights, below))
        return carry.astype(dtype), self.leave(above).astype(self.dtype or inputs.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: Shape) -> Float[Array, "*B N"]:
        """The zero state for inputs of shape `(..., h)`; `rng` is not needed."""
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        return jnp.zeros((*input_shape[:-1], self.state_size), dtype)

    @property
    def num_feature_axes(self) -> int:
        return 1

    @nn.nowrap
    def times(self, x: Real[Array, "*B K"], kernel: Real[Array, "K M"]) -> Real[Array, "*B M"]:
        """x times a kernel, in the cell's dtype; summed in float32 at least."""
        return matmul(x, kernel, self.dtype or jnp.result_type(x, kernel))

    @nn.nowrap
    def dense(self, x: Real[Array, "*B K"], layer: Dense) -> Real[Array, "*B M"]:
        """x through a dense layer."""
        return add_bias(self.times(x, layer["kernel"]), layer["bias"])


def draw_dense(key: PRNGKeyArray, shape: tuple[int, int], bound: float, dtype: Any) -> Dense:
    """A dense layer with weights and biases from U(-bound, bound), as PyTorch draws them.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> layer = draw_dense(jax.random.key(0), (100, 10), 0.1, jnp.float32)
      >>> layer["kernel"].shape, layer["bias"].shape
      ((100, 10), (10,))
    """
    keys = jax.random.split(key)
    draw = uniform(bound)
    return {"kernel": draw(keys[0], shape, dtype), "bias": draw(keys[1], shape[1:], dtype)}


def add_bias(x: Real[Array, "*B M"], bias: Real[Array, "M"]) -> Real[Array, "*B M"]:
    """x + bias, whatever the rank of x."""
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
