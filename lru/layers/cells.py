"""Recurrent cells with two inputs, from the layer below and the step before, and two outputs.

A lattice of cells has layers in depth and steps in time: h1 passes from layer to layer, h2 from
step to step. A cell is a set of pure functions of its weights. So `lru.layers.stacks`, which runs
the lattice, can compute a product ahead for many steps, or batched for many layers.
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
    """Base class of recurrent cells: dense layers as parameters, and the call of Flax's cells.

    A subclass lists its dense layers in `shapes` and implements `input_projection` and `step`.

    Attributes:
      features: H, the width of inputs and outputs.
      dtype: of the matrix products and the outputs; by default the common type of inputs and
        parameters, as in Flax's cells. The carry is float32 at least in any case.
      param_dtype: of the parameters.
    """

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Returns the shape of each dense layer's kernel, by name."""
        raise NotImplementedError(f"{type(self).__name__} has no shapes")

    @property
    def state_size(self) -> int:
        """N, the size of one sequence's carry."""
        return self.features

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """Returns the parameters arranged as the matrix products take them."""
        return params

    @nn.nowrap
    def input_projection(self, weights: Any, input: Real[Array, "*B H"]) -> Any:
        """Returns the terms of a step that depend on the input alone, not on the carry."""
        raise NotImplementedError(f"{type(self).__name__} has no input_projection")

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        """Runs one step.

        Args:
          weights: see `pack`.
          carry: the carry of the step before, `(..., N)`.
          input: the output of the layer below, `(..., D)`.
          projected: the `input_projection` of the input.

        Returns:
          `(carry, output)`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    @nn.nowrap
    def join(self, weights: Any) -> Any:
        """Returns weights arranged as `whole_step` takes them."""
        return weights

    @nn.nowrap
    def whole_step(self, weights: Any, carry: Any, input: Any) -> tuple[Any, Any]:
        """Runs one step whose `input_projection` was not computed ahead."""
        return self.step(weights, carry, input, self.input_projection(weights, input))

    @nn.nowrap
    def encode(self, inputs: Real[Array, "*B H"]) -> Real[Array, "*B D"]:
        """Returns the input of the first layer's cell, for the inputs of the stack."""
        return inputs

    @nn.nowrap
    def decode(self, output: Real[Array, "*B D"]) -> Real[Array, "*B H"]:
        """Returns the outputs of the stack, for the output of the last layer's cell."""
        return output

    @nn.nowrap
    def bound(self, shape: tuple[int, int]) -> float:
        """Returns b of U(-b, b), from which a dense layer of that shape is drawn."""
        return 1 / math.sqrt(self.features)

    @nn.nowrap
    def draw(self, key: PRNGKeyArray) -> dict[str, Dense]:
        """Draws all parameters."""
        check_sizes(features=self.features)
        shapes = self.shapes()
        keys = jax.random.split(key, len(shapes))
        return {
            name: draw_dense(key, shape, self.bound(shape), self.param_dtype)
            for key, (name, shape) in zip(keys, shapes.items())
        }

    @nn.nowrap
    def count(self) -> int:
        """Returns the number of parameters."""
        return sum(rows * columns + columns for rows, columns in self.shapes().values())

    @nn.compact
    def __call__(
        self, carry: ArrayLike, inputs: ArrayLike
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B H"]]:
        """Runs one step.

        Args:
          carry: h2, the carry of the step before, `(..., N)`.
          inputs: h1, `(..., H)`.

        Returns:
          `(carry, outputs)`, h2' and h1'.

        Raises:
          ValueError: if the inputs have another width, or an argument is complex.
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
        dtype, carry_dtype = compute_dtype(inputs, params, self.dtype), at_least_float32(carry)
        cell, weights = self.clone(parent=None, dtype=dtype), self.pack(params)
        input = cell.encode(inputs.astype(at_least_float32(inputs, dtype)))
        projected = cell.input_projection(weights, input)
        before = carry.astype(at_least_float32(carry, dtype))
        after, output = cell.step(weights, before, input, projected)
        # `nn.RNN` scans over the steps, so the carry must keep its type.
        return after.astype(carry_dtype), cell.decode(output).astype(dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: Shape) -> Float[Array, "*B N"]:
        """Returns the zero carry for inputs of shape `(..., H)`; `rng` is not used."""
        dtype = at_least_float32(self.param_dtype)
        return jnp.zeros((*input_shape[:-1], self.state_size), dtype)

    @property
    def num_feature_axes(self) -> int:
        return 1

    @nn.nowrap
    def times(self, x: Real[Array, "*B K"], kernel: Real[Array, "K M"]) -> Real[Array, "*B M"]:
        """Returns x times a kernel, in the cell's dtype, summed in float32 at least."""
        return matmul(x, kernel, self.dtype or result_type(x, kernel))

    @nn.nowrap
    def dense(self, x: Real[Array, "*B K"], layer: Dense) -> Real[Array, "*B M"]:
        """Applies a dense layer to x."""
        return add_bias(self.times(x, layer["kernel"]), layer["bias"])


def draw_dense(key: PRNGKeyArray, shape: tuple[int, int], bound: float, dtype: Any) -> Dense:
    """Draws a dense layer's weights and biases from U(-bound, bound), as PyTorch does.

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
    """Returns x + bias, for x of any rank."""
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
