"""A model whose inputs and outputs are in the units of the data."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lru.layers.mixers import zero_padding
from lru.ops.arguments import as_array, as_lengths
from lru.ops.array_typing import ArrayLike, Lengths


class Scaled(nn.Module):
    """A model of standardized numbers, wrapped to have inputs and outputs in the data's units.

    The wrapper applies `model` to `(inputs - mean) / std`, with the mean and standard deviation of
    the inputs, and returns `outputs * std + mean`, with those of the outputs. In float32, this
    loses precision if a mean is many thousand times as large as the standard deviation. The wrapper
    has the variables of `model`, with the same names.

    Attributes:
      model: a model such as `lru.models.SequencePredictor`.
      inputs: `(mean, std)` of the inputs, each a tuple with one number per feature; None leaves
        the inputs unchanged.
      outputs: `(mean, std)` of the outputs, each a tuple with one number per output; None leaves
        the outputs, such as logits, unchanged.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> from lru.models import SequencePredictor
      >>> from lru.models.scaled import Scaled
      >>> model = SequencePredictor(1, d_model=8, num_layers=1, mixer=lru.LRU(16))
      >>> scaled = Scaled(model, inputs=((20.0,), (5.0,)), outputs=((1000.0,), (10.0,)))
      >>> celsius = jnp.array([[[15.0], [25.0], [20.0]]])
      >>> variables = jax.jit(scaled.init)(jax.random.key(0), celsius)
      >>> hectopascal = scaled.apply(variables, celsius)
      >>> standard = model.apply(variables, (celsius - 20) / 5)
      >>> bool(jnp.allclose(hectopascal, 1000 + 10 * standard))
      True
    """

    model: nn.Module
    inputs: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    outputs: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def causal(self) -> bool:
        """True if `model` is causal, so that it can be streamed."""
        return bool(getattr(self.model, "causal", False))

    def setup(self) -> None:
        nn.share_scope(self, self.model)

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        seq_lengths: Lengths = None,
        return_carry: bool = False,
        **call: Any,
    ) -> Any:
        """Applies the model.

        Args:
          inputs: the inputs of the model, in the units of the data.
          seq_lengths: `(B,)`, the number of valid steps of each sequence.
          return_carry: whether to return `(carry, outputs)`.
          call: further arguments of the model's call.

        Returns:
          The outputs in the units of the data, or `(carry, outputs)`. Outputs on padding are zero.
        """
        inputs = as_array("inputs", inputs)
        x = inputs if self.inputs is None else _standardized(inputs, *self.inputs)
        carry, y = self.model(x, seq_lengths=seq_lengths, return_carry=True, **call)
        if self.outputs is not None:
            mean, std = (jnp.array(numbers, y.dtype) for numbers in self.outputs)
            y = y * std + mean
            if y.ndim > 2:
                lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
                y = jnp.moveaxis(zero_padding(jnp.moveaxis(y, 1, 0), lengths), 0, 1)
        return (carry, y) if return_carry else y


def _standardized(inputs, mean, std):
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    return (inputs.astype(dtype) - jnp.array(mean, dtype)) / jnp.array(std, dtype)
