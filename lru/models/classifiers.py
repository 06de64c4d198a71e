"""Classifiers of sequences and of pairs of sequences: encoder, residual blocks, pooling, head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.factory import as_factory
from lru.layers.mixers import is_causal
from lru.layers.padding import zero_padding
from lru.models.blocks import BlockOptions, Norm, check_model_sizes, residual_stack
from lru.models.embedding import Embedding
from lru.models.pooling import POOL, Pooling
from lru.ops.arguments import as_array, as_lengths, as_resets, as_timesteps
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


class SequenceEncoder(BlockOptions):
    """Base class of models with an encoder, residual blocks and optional pooling over time.

    Subclasses declare the attributes `d_model`, `num_layers`, `mixer`, `vocab_size`, `norm` and
    `pooling`; see `SequenceModel`.
    """

    def __post_init__(self) -> None:
        check_model_sizes(self)
        self.mixer = as_factory("mixer", self.mixer)  # type: ignore[has-type]  # a subclass's field
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """True if the mixers are causal, so that the model can be streamed."""
        return is_causal(self.mixer(parent=None))

    def _as_sequences(self, inputs: ArrayLike) -> Array:
        """Returns the inputs as an array, after checking its axes."""
        inputs = as_array("inputs", inputs)
        axes = "(B, T, features)" if self.vocab_size is None else "(B, T)"
        if inputs.ndim != axes.count(",") + 1:
            raise ValueError(
                f"inputs have shape {inputs.shape}; expected {axes}, because vocab_size is "
                f"{self.vocab_size}"
            )
        return inputs

    def _all_steps(self, inputs, initial_carry, seq_lengths, reset, timesteps, train):
        """Returns the mixers' carries, and the vectors of all steps `(T, B, H)`."""
        reset = as_resets(reset, inputs.shape[:2])
        timesteps = as_timesteps(timesteps, inputs.shape[:2])
        inputs = jnp.moveaxis(inputs, 1, 0)  # time is the first axis from here on
        reset, timesteps = jax.tree.map(jnp.transpose, (reset, timesteps))
        x = self._encode(zero_padding(inputs, seq_lengths))  # so padding affects no gradient
        call = dict(initial_carry=initial_carry, seq_lengths=seq_lengths, reset=reset)
        call |= dict(timesteps=timesteps, time_major=True, train=train)
        return residual_stack(self)(x, return_carry=True, **call)

    def _pooled(self, inputs, initial_carry, seq_lengths, reset, timesteps, train):
        """Returns the carry and the pooled vectors `(B, H)`, one per sequence, at least float32."""
        if self.pooling not in POOL:
            raise ValueError(f"pooling={self.pooling!r}; expected one of {', '.join(POOL)}")
        carries, pooled = _split_carry(initial_carry)
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
        carries, x = self._all_steps(inputs, carries, seq_lengths, reset, timesteps, train)
        pooled = POOL[self.pooling](x, seq_lengths, pooled)
        mean = pooled.mean()
        return (carries, pooled), mean.astype(at_least_float32(mean))

    def _encode(self, inputs):
        if self.vocab_size is None:
            return nn.Dense(self.d_model, dtype=self.dtype, name="encoder")(inputs)
        return Embedding(self.vocab_size, self.d_model, dtype=self.dtype, name="encoder")(inputs)


class SequenceModel(SequenceEncoder):
    """Base class of classifiers with an encoder, residual blocks and pooling over time.

    The logits are at least float32.

    Attributes: those of `lru.models.blocks.BlockOptions`, with `norm="batch"` by default, and
      num_classes: the number of classes, which is the number of logits.
      d_model: H, the width between the blocks.
      num_layers: L, the number of residual blocks.
      mixer: the mixer of each block, e.g. `lru.LRU(256)`, or a function that makes a mixer, e.g.
        `functools.partial(lru.LRU, 256)`; see `lru.models.blocks.ResidualBlock`.
      vocab_size: V, the number of tokens, if each step of the inputs is an integer token; None if
        each step is a vector of features.
      pooling: `"mean"`, the mean over the valid steps, or `"last"`, the last valid step.
    """

    num_classes: int
    d_model: int
    num_layers: int
    mixer: Callable[..., nn.Module] | nn.Module
    vocab_size: int | None = None
    norm: Norm = "batch"
    pooling: Pooling = "mean"


def _split_carry(initial_carry):
    """Splits a model's carry, or None, into the mixers' carries and the state of pooling."""
    if initial_carry is None:
        return None, None
    if not isinstance(initial_carry, tuple | list) or len(initial_carry) != 2:
        size = f" of {len(initial_carry)}" if isinstance(initial_carry, tuple | list) else ""
        raise ValueError(
            f"initial_carry is a {type(initial_carry).__name__}{size}; expected the pair (carries "
            "of the layers, state of pooling) that a call with return_carry=True returned"
        )
    return initial_carry


class SequenceClassifier(SequenceModel):
    """A classifier of sequences of tokens or of feature vectors.

    The encoder and `num_layers` residual blocks are the architecture of Orvieto et al. (2023),
    Appendix D.1, for every Long Range Arena task except Retrieval. The paper does not specify what
    follows the blocks; here, as in S5, it is pooling over the valid steps and one dense layer.

    Attributes: see `SequenceModel`.

    Example:
      >>> import functools, jax, jax.numpy as jnp, lru
      >>> from lru.models import SequenceClassifier
      >>> mixer = functools.partial(lru.LRU, 16)
      >>> model = SequenceClassifier(10, d_model=8, num_layers=2, mixer=mixer, vocab_size=18)
      >>> tokens, lengths = jnp.ones((4, 50), int), jnp.array([50, 3, 20, 7])
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> model.apply(variables, tokens, seq_lengths=lengths).shape
      (4, 10)
    """

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
        """Classifies each sequence.

        Args:
          inputs: tokens `(B, T)`, or features `(B, T, features)`.
          initial_carry: the carry that a call with `return_carry` returned for the preceding steps.
            If the mixers are causal and `train` is False, the logits are then those of the whole
            sequence so far.
          seq_lengths: `(B,)`, the number of valid steps of each sequence; padding does not change
            the logits.
          reset: `(B, T)`, True at the first step of a new sequence; passed to the mixers, but
            ignored by pooling.
          timesteps: `(B, T)`, the time from the previous step to each step; passed to the mixers,
            but ignored by pooling.
          return_carry: whether to return `(carry, logits)`.
          train: whether to use dropout and, in batch normalization, to use the statistics of the
            batch and update the running statistics. For dropout, give an rng named `dropout`.

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if an attribute, or the shape or type of an argument, is invalid.
        """
        inputs = self._as_sequences(inputs)
        carry, vector = self._pooled(inputs, initial_carry, seq_lengths, reset, timesteps, train)
        logits = nn.Dense(self.num_classes, dtype=vector.dtype, name="head")(vector)
        return (carry, logits) if return_carry else logits


class SequenceMatcher(SequenceModel):
    """A classifier of pairs of sequences, for the Retrieval task of the Long Range Arena.

    Encoder, blocks and pooling map the two sequences of a pair to vectors o0 and o1, with the same
    parameters. Batch normalization treats the B pairs as one batch of 2B sequences. The head
    computes

        logits = W2 GELU(W1 [o0, o1, o0 - o1, o0 * o1] + b1) + b2          W1 (H, 4H)

    The LRU paper does not specify the head; this is the head of S4 and S5.

    Attributes: see `SequenceModel`.

    Example:
      >>> import functools, jax, jax.numpy as jnp, lru
      >>> from lru.models import SequenceMatcher
      >>> mixer = functools.partial(lru.LRU, 16)
      >>> model = SequenceMatcher(2, d_model=8, num_layers=2, mixer=mixer, vocab_size=98)
      >>> tokens, lengths = jnp.ones((4, 2, 50), int), jnp.array([[50, 3]] * 4)
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> model.apply(variables, tokens, seq_lengths=lengths).shape
      (4, 2)
    """

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
        """Compares the two sequences of each pair.

        Args:
          inputs: tokens `(B, 2, T)`, or features `(B, 2, T, features)`.
          initial_carry: the carry that a call with `return_carry` returned for the preceding steps.
          seq_lengths: `(B, 2)`, the number of valid steps of each sequence; padding does not change
            the logits.
          reset: `(B, 2, T)`, True at the first step of a new sequence; passed to the mixers, but
            ignored by pooling.
          timesteps: `(B, 2, T)`, the time from the previous step to each step; passed to the
            mixers, but ignored by pooling.
          return_carry: whether to return `(carry, logits)`; the carry is that of 2B sequences.
          train: see `SequenceClassifier.__call__`.

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if an attribute, or the shape or type of an argument, is invalid.
        """
        inputs = as_array("inputs", inputs)
        axes = "(B, 2, T, features)" if self.vocab_size is None else "(B, 2, T)"
        if inputs.ndim != axes.count(",") + 1 or inputs.shape[1] != 2:
            raise ValueError(
                f"inputs have shape {inputs.shape}; expected {axes}, because vocab_size is "
                f"{self.vocab_size}"
            )
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:2], inputs.shape[2])
        reset = as_resets(reset, inputs.shape[:3])
        timesteps = as_timesteps(timesteps, inputs.shape[:3])
        inputs, seq_lengths, reset, timesteps = jax.tree.map(
            _flatten_pairs, (inputs, seq_lengths, reset, timesteps)
        )
        carry, vectors = self._pooled(inputs, initial_carry, seq_lengths, reset, timesteps, train)
        first, second = vectors[0::2], vectors[1::2]
        pair = jnp.concatenate([first, second, first - second, first * second], axis=-1)
        dense = functools.partial(nn.Dense, dtype=vectors.dtype)
        hidden = nn.gelu(dense(self.d_model, name="hidden")(pair), approximate=self.gelu == "tanh")
        logits = dense(self.num_classes, name="head")(hidden)
        return (carry, logits) if return_carry else logits


def _flatten_pairs(x):
    """Reshapes (B, 2, ...) to (2B, ...), so that the sequences of a pair stay on one device."""
    return x.reshape(2 * x.shape[0], *x.shape[2:])
