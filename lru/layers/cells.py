"""Recurrent cells with two inputs, from below and from the step before, and two outputs.

A lattice of them has layers in depth and steps in time: h1 rises through the layers, h2 goes from
step to step. A cell is pure functions of its weights, so that whatever walks the lattice
(`lru.layers.stacks`) can compute products ahead, for many steps, or batched, for many layers.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.ops.arguments import as_array, check_sizes
from lru.ops.array_typing import Array, ArrayLike, Float, PRNGKeyArray, Real, Shape
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import uniform
from lru.ops.matmul import matmul

Dense = dict[str, Array]  # `kernel (K, M)` and `bias (M,)`


class TwoWayCell(nn.RNNCellBase):
    """What recurrent cells share: dense layers as parameters, and the call of Flax's cells.

    A subclass lists its dense layers in `shapes` and says in `step` what it does.

    Attributes:
      features: h, the width of inputs and outputs.
      dtype: of the matrix products and the outputs; by default that of inputs and parameters
        together, as in Flax's cells. The state is float32 at least, whatever it is.
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
    def input_projection(self, weights: Any, below: Real[Array, "*B H"]) -> Any:
        """What of a step needs the input from below alone."""
        raise NotImplementedError(f"{type(self).__name__} has no drive")

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        """Returns the state and the output.

        Args:
          weights: what `pack` made.
          state: the one before.
          below: the input.
          driven: its `input_projection`.
        """
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
        check_sizes(features=self.features)
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
        self, carry: ArrayLike, inputs: ArrayLike
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B H"]]:
        """One step.

        Args:
          carry: the state before, h2, `(..., N)`.
          inputs: h1, `(..., h)`.

        Returns:
          `(carry, outputs)`, h2' and h1'.

        Raises:
          ValueError: if the inputs have another width, or anything is complex.
        """
        carry, inputs = as_array("carry", carry), as_array("inputs", inputs)
        if jnp.iscomplexobj(carry):
            raise ValueError(f"carry is {carry.dtype}; expected real numbers")
        if not inputs.ndim or inputs.shape[-1] != self.features:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (..., {self.features})")
        shapes = {name: (shape, self.bound(shape)) for name, shape in self.shapes().items()}
        params = {
            name: self.param(name, draw_dense, shape, bound, self.param_dtype)
            for name, (shape, bound) in shapes.items()
        }
        dtype, state_dtype = compute_dtype(inputs, params, self.dtype), at_least_float32(carry)
        cell, weights = self.clone(parent=None, dtype=dtype), self.pack(params)
        below = cell.enter(inputs.astype(at_least_float32(inputs, dtype)))
        state = carry.astype(at_least_float32(carry, dtype))
        state, above = cell.step(weights, state, below, cell.input_projection(weights, below))
        # The state's type must not change from step to step: `nn.RNN` scans over them.
        return state.astype(state_dtype), cell.leave(above).astype(dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: Shape) -> Float[Array, "*B N"]:
        """The zero state for inputs of shape `(..., h)`; `rng` is not needed."""
        dtype = at_least_float32(self.param_dtype)
        return jnp.zeros((*input_shape[:-1], self.state_size), dtype)

    @property
    def num_feature_axes(self) -> int:
        return 1

    @nn.nowrap
    def times(self, x: Real[Array, "*B K"], kernel: Real[Array, "K M"]) -> Real[Array, "*B M"]:
        """x times a kernel, in the cell's dtype; summed in float32 at least."""
        return matmul(x, kernel, self.dtype or result_type(x, kernel))

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
