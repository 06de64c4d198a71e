"""Models with `num_outputs` outputs for each sequence or for each step: logits or real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import flax.linen as nn
import jax.numpy as jnp

from lru.layers.padding import zero_padding
from lru.models.blocks import Norm
from lru.models.classifiers import SequenceEncoder
from lru.models.pooling import Pooling
from lru.ops.arguments import as_lengths
from lru.ops.array_typing import (
    Array,
    ArrayLike,
    Carry,
    Lengths,
    ModelOptions,
    Resets,
    Timesteps,
)
from lru.ops.dtypes import at_least_float32


class SequencePredictor(SequenceEncoder):
    """A model that predicts classes or real numbers, for each sequence or for each step.

    It consists of an encoder, `num_layers` residual blocks, and one dense layer. The dense layer
    follows pooling over the valid steps, or is applied at every step. The loss determines what the
    outputs mean: logits of classes, or real numbers. The outputs are at least float32.

    Attributes: those of `lru.models.blocks.BlockOptions`, with `norm="layer"` by default, and
      num_outputs: K, the number of classes or of real numbers.
      d_model, num_layers, mixer, vocab_size, pooling: see `lru.models.SequenceModel`.
      per_step: whether to predict at every step, instead of once for each sequence; if so,
        `pooling` has no effect.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> from lru.models import SequencePredictor
      >>> model = SequencePredictor(2, d_model=8, num_layers=2, mixer=lru.LRU(16))
      >>> inputs, lengths = jnp.ones((4, 50, 3)), jnp.array([50, 3, 20, 7])
      >>> variables = jax.jit(model.init)(jax.random.key(0), inputs)
      >>> model.apply(variables, inputs, seq_lengths=lengths).shape
      (4, 2)
    """

    num_outputs: int
    d_model: int
    num_layers: int
    mixer: Callable[..., nn.Module] | nn.Module
    vocab_size: int | None = None
    norm: Norm = "layer"
    pooling: Pooling = "mean"
    per_step: bool = False

    if TYPE_CHECKING:

        @overload
        def __call__(
            self, inputs: ArrayLike, *, return_carry: Literal[True], **call: Unpack[ModelOptions]
        ) -> tuple[Any, Array]: ...

        @overload
        def __call__(
            self,
            inputs: ArrayLike,
            *,
            return_carry: Literal[False] = False,
            **call: Unpack[ModelOptions],
        ) -> Array: ...

    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Carry = None,
        seq_lengths: Lengths = None,
        reset: Resets = None,
        timesteps: Timesteps = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Computes the outputs of each sequence or of each step.

        Args:
          inputs: tokens `(B, T)`, or features `(B, T, features)`.
          initial_carry: the carry that a call with `return_carry` returned for the preceding steps.
          seq_lengths: `(B,)`, the number of valid steps of each sequence; padding changes neither
            the outputs of a sequence nor those of its valid steps. Outputs on padding are zero.
          reset: `(B, T)`, True at the first step of a new sequence; passed to the mixers, but
            ignored by pooling.
          timesteps: `(B, T)`, the time from the previous step to each step; passed to the mixers,
            but ignored by pooling.
          return_carry: whether to return `(carry, outputs)`.
          train: see `lru.models.SequenceClassifier.__call__`.

        Returns:
          The outputs, `(B, K)`, or `(B, T, K)` if `per_step`; or `(carry, outputs)`.

        Raises:
          ValueError: if an attribute, or the shape or type of an argument, is invalid.
        """
        inputs = self._as_sequences(inputs)
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
        vectors = self._all_steps if self.per_step else self._pooled
        carry, x = vectors(inputs, initial_carry, seq_lengths, reset, timesteps, train)
        outputs = nn.Dense(self.num_outputs, dtype=at_least_float32(x), name="head")(x)
        if self.per_step:
            outputs = jnp.moveaxis(zero_padding(outputs, seq_lengths), 0, 1)
        return (carry, outputs) if return_carry else outputs


class SequenceTagger(SequencePredictor):
    """A `SequencePredictor` with outputs at every step, `(B, T, K)`.

    If the mixers are causal, the model can be streamed; see `lru.models.streaming.stream`. With
    bidirectional mixers, the outputs depend on the whole sequence.

    Attributes: see `SequencePredictor`; `per_step` is True by default.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> from lru.models import SequenceTagger
      >>> model = SequenceTagger(5, d_model=8, num_layers=2, mixer=lru.LRU(16), vocab_size=18)
      >>> tokens, lengths = jnp.ones((4, 50), int), jnp.array([50, 3, 20, 7])
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> model.apply(variables, tokens, seq_lengths=lengths).shape
      (4, 50, 5)
    """

    per_step: bool = True
