"""The base class of recurrent cells that are stacked in layers.

At each step, a cell takes its carry and the output of the layer below, and returns a new carry and
an output. The methods that compute a step take the weights as an argument. Therefore,
`lru.layers.stacks` can compute a product for many steps at once, or for many layers in one batch.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.ops.arguments import as_array, check_sizes
from lru.ops.array_typing import Array, ArrayLike, Float, PRNGKeyArray, Real, Shape
from lru.ops.deferred import Deferred, deferred_matmul
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import uniform
from lru.ops.matmul import matmul

Dense = dict[str, Any]  # `kernel (K, M)` and `bias (M,)`


class TwoWayCell(nn.RNNCellBase):
    """Base class of cells that pass an output to the next layer, and a carry to the next step.

    A cell consists of dense layers, and is called like Flax's cells. A subclass lists these layers
    in `shapes`, and implements `input_projection` and `step`.

    Attributes:
      features: H, the width of inputs and outputs.
      dtype: the type of the factors of matrix products and of the outputs; by default, the common
        type of inputs and parameters. The carry is always at least float32.
      param_dtype: the type of the parameters.
      deferrable: whether a step multiplies by each kernel exactly once, with `times` or `dense`. If
        so, the gradients of kernels are computed after the last step of an unrolled wavefront.
    """

    deferrable: ClassVar[bool] = False
    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Returns the shape of each dense layer's kernel, by name."""
        raise NotImplementedError(f"{type(self).__name__} does not define shapes")

    @property
    def state_size(self) -> int:
        """N, the size of the cell's carry for one sequence."""
        return self.features

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """Converts the parameters to the weights that `input_projection` and `step` take."""
        return params

    @nn.nowrap
    def input_projection(self, weights: Any, input: Real[Array, "*B H"]) -> Any:
        """Returns the terms of a step's preactivations that depend only on the input."""
        raise NotImplementedError(f"{type(self).__name__} does not define input_projection")

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        """Runs one step.

        Args:
          weights: the result of `pack`.
          carry: the carry from the previous step, `(..., N)`.
          input: the output of the layer below, or of `encode` for the first layer, `(..., D)`; D is
            H unless the cell overrides `encode`.
          projected: the result of `input_projection` for this input.

        Returns:
          `(carry, output)`, of shapes `(..., N)` and `(..., D)`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    @nn.nowrap
    def join(self, weights: Any) -> Any:
        """Converts the result of `pack` to the weights that `whole_step` takes."""
        return weights

    @nn.nowrap
    def whole_step(self, weights: Any, carry: Any, input: Any) -> tuple[Any, Any]:
        """Runs one step, including `input_projection`, with the weights that `join` returns.

        For the other arguments and the result, see `step`.
        """
        return self.step(weights, carry, input, self.input_projection(weights, input))

    @nn.nowrap
    def encode(self, inputs: Real[Array, "*B H"]) -> Real[Array, "*B D"]:
        """Converts inputs `(..., H)` to the form that cells pass to the next layer, `(..., D)`."""
        return inputs

    @nn.nowrap
    def decode(self, output: Real[Array, "*B D"]) -> Real[Array, "*B H"]:
        """Converts the output of the last layer, `(..., D)`, to that of the stack, `(..., H)`."""
        return output

    @nn.nowrap
    def bound(self, shape: tuple[int, int]) -> float:
        """Returns the bound b of U(-b, b), from which a dense layer of this shape is drawn."""
        return 1 / math.sqrt(self.features)

    @nn.nowrap
    def draw(self, key: PRNGKeyArray) -> dict[str, Dense]:
        """Draws the parameters of every dense layer, and returns them by name."""
        check_sizes(features=self.features)
        shapes = self.shapes()
        keys = jax.random.split(key, len(shapes))
        return {
            name: draw_dense(key, shape, self.bound(shape), self.param_dtype)
            for key, (name, shape) in zip(keys, shapes.items())
        }

    @nn.nowrap
    def count(self) -> int:
        """Returns the number of parameters of the cell."""
        return sum(rows * columns + columns for rows, columns in self.shapes().values())

    @nn.compact
    def __call__(
        self, carry: ArrayLike, inputs: ArrayLike
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B H"]]:
        """Runs one step.

        Args:
          carry: the carry from the previous step, `(..., N)`.
          inputs: the inputs of the step, `(..., H)`.

        Returns:
          `(carry, outputs)`, of shapes `(..., N)` and `(..., H)`.

        Raises:
          ValueError: if the width of the inputs is not H, or an argument is not an array of real
            numbers.
        """
        carry, inputs = as_array("carry", carry), as_array("inputs", inputs)
        if jnp.iscomplexobj(carry):
            raise ValueError(f"carry has dtype {carry.dtype}; expected real numbers")
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
        """Returns a carry of zeros for inputs of shape `(..., H)`; `rng` is not used."""
        dtype = at_least_float32(self.param_dtype)
        return jnp.zeros((*input_shape[:-1], self.state_size), dtype)

    @property
    def num_feature_axes(self) -> int:
        return 1

    @nn.nowrap
    def times(
        self, x: Real[Array, "*B K"], kernel: Real[Array, "K M"] | Deferred
    ) -> Real[Array, "*B M"]:
        """Multiplies x by a kernel, both converted to `dtype`; the result is at least float32."""
        if isinstance(kernel, Deferred):
            return deferred_matmul(x, kernel, self.dtype)
        return matmul(x, kernel, self.dtype or result_type(x, kernel))

    @nn.nowrap
    def dense(self, x: Real[Array, "*B K"], layer: Dense) -> Real[Array, "*B M"]:
        """Applies a dense layer to x."""
        return add_bias(self.times(x, layer["kernel"]), layer["bias"])


def draw_dense(key: PRNGKeyArray, shape: tuple[int, int], bound: float, dtype: Any) -> Dense:
    """Draws a dense layer's kernel and bias from U(-bound, bound), as PyTorch does.

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
    """Returns x + bias, for x with any number of batch axes."""
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
