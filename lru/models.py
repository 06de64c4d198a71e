"""Whole models: encoder, residual stack, pooling, head."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from lru.array_typing import Array, Bool, Float, Int, Num
from lru.blocks import GELU, GLU, Norm, ResidualBlock, ResidualStack, padding_mask
from lru.initializers import uniform
from lru.mixers import zero_padding

Pooling = Literal["mean", "last"]


class SequenceModel(nn.Module):
    """What models of sequences share: an encoder, `num_layers` residual blocks, pooling over time.

    Attributes:
      num_classes: the number of logits.
      d_model: H, the width between the blocks.
      num_layers: L.
      mixer: makes a block's mixer, e.g. `functools.partial(lru.LRU, 256)`.
      vocab_size: V, for an embedding of integer tokens; None for a linear encoder of feature
        vectors, one more axis.
      norm, norm_momentum, gelu, glu, dropout, tie_dropout, remat, chunk_size: as of
        `lru.blocks.ResidualBlock`.
      pooling: `"mean"` over the valid steps, or the `"last"` of them.
      dtype: of the activations; logits are float32 at least.
    """

    num_classes: int
    d_model: int
    num_layers: int
    mixer: Callable[..., nn.Module]
    vocab_size: int | None = None
    norm: Norm = "batch"
    norm_momentum: float = 0.99
    gelu: GELU = "tanh"
    glu: GLU = "full"
    dropout: float = 0.0
    tie_dropout: bool = True
    pooling: Pooling = "mean"
    remat: bool = False
    chunk_size: int | None = None
    dtype: Any = None

    @property
    def causal(self) -> bool:
        """Whether the logits of the steps so far need none that follow: if its mixers say so."""
        return getattr(self.mixer(parent=None), "causal", False)

    def _pooled(self, inputs, initial_carry, seq_lengths, reset, train):
        """The carry, and of each sequence `(B, T, ...)` one vector `(B, H)`, float32 at least."""
        if self.pooling not in _POOL:
            raise ValueError(f"pooling={self.pooling!r}; expected one of {', '.join(_POOL)}")
        carries, pooled = initial_carry or (None, None)
        inputs = jnp.moveaxis(inputs, 1, 0)  # from here on time comes first
        reset = None if reset is None else reset.T
        x = self._encode(zero_padding(inputs, seq_lengths))  # it must not reach a gradient either
        carries, x = _residual_stack(self)(x, carries, seq_lengths, reset, train)
        pooled = _POOL[self.pooling](x, seq_lengths, pooled)
        mean = pooled.mean()
        return (carries, pooled), mean.astype(jnp.promote_types(mean.dtype, jnp.float32))

    def _encode(self, inputs):
        if self.vocab_size is None:
            return nn.Dense(self.d_model, dtype=self.dtype, name="encoder")(inputs)
        return nn.Embed(self.vocab_size, self.d_model, dtype=self.dtype, name="encoder")(inputs)


class SequenceClassifier(SequenceModel):
    """Logits for a sequence of tokens or of feature vectors.

    Encoder and `num_layers` residual blocks: the architecture of Orvieto et al. (2023), Appendix
    D.1, for every Long Range Arena task but Retrieval. Then pooling over the valid steps and one
    dense layer, as S5 has them; the paper does not say.

    Attributes: as of `SequenceModel`.

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

    @nn.compact
    def __call__(
        self,
        inputs: Num[Array, "B T *features"],
        *,
        initial_carry: Any = None,
        seq_lengths: Int[Array, "B"] | None = None,
        reset: Bool[Array, "B T"] | None = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Classifies each sequence.

        Args:
          inputs: tokens `(B, T)`, or features `(B, T, features)`.
          initial_carry: what `return_carry` gave for the steps before these; the logits are then
            those of both parts together, unless a mixer looks ahead, as a bidirectional one does.
          seq_lengths: `(B,)` valid steps of each sequence; the padding changes nothing.
          reset: `(B, T)`, as of the mixer; pooling takes no notice of it.
          return_carry: return `(carry, logits)`.
          train: batch statistics and dropout (needs an rng named `dropout`).

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if the inputs have another number of axes.
        """
        axes = "(B, T, features)" if self.vocab_size is None else "(B, T)"
        if inputs.ndim != axes.count(",") + 1:
            raise ValueError(f"inputs have shape {inputs.shape}; expected {axes}")
        carry, vector = self._pooled(inputs, initial_carry, seq_lengths, reset, train)
        logits = nn.Dense(self.num_classes, dtype=vector.dtype, name="head")(vector)
        return (carry, logits) if return_carry else logits


class SequenceMatcher(SequenceModel):
    """Logits for a pair of sequences: Retrieval of the Long Range Arena.

    Encoder, blocks and pooling make of each sequence a vector o0 or o1, with the same parameters,
    and normalised together, as twice as many sequences. Of both,

        logits = W2 GELU(W1 [o0, o1, o0 - o1, o0 * o1] + b1) + b2          W1 (H, 4H)

    The paper does not say what its head is; this is that of S4 and S5.

    Attributes: as of `SequenceModel`.

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

    @nn.compact
    def __call__(
        self,
        inputs: Num[Array, "B pair T *features"],
        *,
        initial_carry: Any = None,
        seq_lengths: Int[Array, "B pair"] | None = None,
        reset: Bool[Array, "B pair T"] | None = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Compares the two sequences of each pair.

        Args:
          inputs: tokens `(B, 2, T)`, or features `(B, 2, T, features)`.
          initial_carry: what `return_carry` gave for the steps before these.
          seq_lengths: `(B, 2)` valid steps of each sequence; the padding changes nothing.
          reset: `(B, 2, T)`, as of the mixer; pooling takes no notice of it.
          return_carry: return `(carry, logits)`; the carry is of 2B sequences.
          train: as of `SequenceClassifier`.

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if the second axis is not a pair.
        """
        if inputs.ndim < 3 or inputs.shape[1] != 2:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (B, 2, T) or more axes")
        single, lengths, borders = (
            x if x is None else _no_pairs(x) for x in (inputs, seq_lengths, reset)
        )
        carry, vectors = self._pooled(single, initial_carry, lengths, borders, train)
        first, second = vectors[0::2], vectors[1::2]
        pair = jnp.concatenate([first, second, first - second, first * second], axis=-1)
        dense = functools.partial(nn.Dense, dtype=vectors.dtype)
        hidden = nn.gelu(dense(self.d_model, name="hidden")(pair), approximate=self.gelu == "tanh")
        logits = dense(self.num_classes, name="head")(hidden)
        return (carry, logits) if return_carry else logits


def _no_pairs(x):
    """(B, 2, ...) to (2B, ...): each pair stays together, on the same device."""
    return x.reshape(-1, *x.shape[2:])


class LanguageModel(nn.Module):
    """Logits of the token that comes next, at every step of a sequence of tokens.

    Embedding, what moves along time, one dense layer. The model of Ahuja & Morency (2018) has a
    stack of recurrent layers in between, without normalisation or dropout, and draws the embedding
    from N(0, 1), the dense layer from U(-1/sqrt(H), 1/sqrt(H)); so does this.

    Attributes:
      vocab_size: V.
      d_model: H, the width of the embedding and of what is in between.
      mixer: makes what moves along time: a whole stack, e.g. `functools.partial(Lattice, H, 2)`
        of `lru.lattice`; or, with `num_layers`, a block's mixer, e.g.
        `functools.partial(lru.LRU, 256)`.
      num_layers: of residual blocks around a mixer each; None if the mixer is the whole stack.
      norm, norm_momentum, gelu, glu, dropout, tie_dropout, remat, chunk_size: as of
        `lru.blocks.ResidualBlock`; not to be given without residual blocks.
      dtype: of the activations; logits are float32 at least. A stack has its own.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> from lru.lattice import Lattice
      >>> from lru.models import LanguageModel
      >>> model = LanguageModel(51, 16, functools.partial(Lattice, 16, 2))
      >>> tokens = jnp.ones((4, 50), int)  # (B, T)
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> carry, logits = model.apply(variables, tokens, return_carry=True)
      >>> logits.shape
      (4, 50, 51)
    """

    vocab_size: int
    d_model: int
    mixer: Callable[..., nn.Module]
    num_layers: int | None = None
    norm: Norm = "layer"
    norm_momentum: float = 0.99
    gelu: GELU = "tanh"
    glu: GLU = "full"
    dropout: float = 0.0
    tie_dropout: bool = True
    remat: bool = False
    chunk_size: int | None = None
    dtype: Any = None

    @property
    def causal(self) -> bool:
        """Whether no logit depends on a later token: if its mixers say so."""
        return getattr(self.mixer(parent=None), "causal", False)

    @nn.compact
    def __call__(
        self,
        inputs: Int[Array, "B T"],
        *,
        initial_carry: Any = None,
        seq_lengths: Int[Array, "B"] | None = None,
        reset: Bool[Array, "B T"] | None = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Reads each sequence.

        Args:
          inputs: tokens `(B, T)`.
          initial_carry: what `return_carry` gave for the steps before these.
          seq_lengths: `(B,)` valid steps of each sequence; the padding changes nothing, and logits
            on it are zero.
          reset: `(B, T)`, True at the first step of a new text, as of the mixer.
          return_carry: return `(carry, logits)`.
          train: batch statistics and dropout (needs an rng named `dropout`), if there are any.

        Returns:
          The logits `(B, T, V)`, or `(carry, logits)`.

        Raises:
          ValueError: if the mixer looks at later steps, or cannot go on from a state; if blocks
            have a norm whose statistics are of all steps; or if a block's options are given
            without `num_layers`.
        """
        if not self.causal:
            raise ValueError(
                "mixer is not causal: it looks at later steps, or has time divided among devices; "
                "a language model must not see what it predicts, and goes on from a state"
            )
        if self.num_layers is None:
            _check_no_block_is_meant(self)
        elif self.norm == "batch":
            raise ValueError(
                "norm='batch' has statistics of all steps, and a language model must not see what "
                "it predicts; take norm='layer'"
            )
        inputs = zero_padding(inputs.T, seq_lengths)  # from here on time comes first
        reset = None if reset is None else reset.T
        standard_normal, dtype = nn.initializers.normal(1.0), self.dtype
        x = nn.Embed(
            self.vocab_size, self.d_model, dtype, embedding_init=standard_normal, name="encoder"
        )(inputs)
        carry, x = self._mix(x, initial_carry, seq_lengths, reset, train)
        drawn = uniform(1 / math.sqrt(self.d_model))
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        head = nn.Dense(
            self.vocab_size, dtype=dtype, kernel_init=drawn, bias_init=drawn, name="head"
        )
        logits = jnp.moveaxis(zero_padding(head(x), seq_lengths), 0, 1)
        return (carry, logits) if return_carry else logits

    def _mix(self, x, carry, seq_lengths, reset, train):
        if self.num_layers is not None:
            return _residual_stack(self)(x, carry, seq_lengths, reset, train)
        call = dict(initial_carry=carry, seq_lengths=seq_lengths, reset=reset)
        return self.mixer(name="stack")(x, return_carry=True, time_major=True, **call)


_OF_A_BLOCK = (
    "norm", "norm_momentum", "gelu", "glu", "dropout", "tie_dropout", "remat", "chunk_size", "dtype"
)  # fmt: skip


def _check_no_block_is_meant(model: LanguageModel) -> None:
    """Refuses what only blocks would heed: a stack would be trained without it, unnoticed."""
    for name in _OF_A_BLOCK:
        if name != "dtype" and getattr(model, name) != getattr(LanguageModel, name):
            raise ValueError(
                f"{name}={getattr(model, name)!r} is of residual blocks, and there are none: give "
                "num_layers, or leave it out"
            )


def _residual_stack(model):
    """The blocks of a model that has the attributes of a block."""
    options = {name: getattr(model, name) for name in _OF_A_BLOCK}
    block = functools.partial(ResidualBlock, model.mixer, **options)
    return ResidualStack(model.num_layers, block, name="stack")


class Pooled(NamedTuple):
    """What pooling knows of the steps so far: a sum of vectors, and of how many."""

    total: Float[Array, "B H"]
    steps: Int[Array, "B"]

    def mean(self) -> Float[Array, "B H"]:
        return self.total / jnp.maximum(self.steps, 1)[:, None]


def pool_mean(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """The valid steps of x, and those pooled before, summed and counted."""
    mask = padding_mask(x, seq_lengths)
    total = jnp.sum(x, axis=0, dtype=jnp.promote_types(x.dtype, jnp.float32), where=mask)
    now = Pooled(total, _lengths(x, seq_lengths))
    return now if before is None else Pooled(*(a + b for a, b in zip(before, now)))


def pool_last(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """The last valid step of x; where x has none, what was pooled before."""
    lengths = _lengths(x, seq_lengths)
    index = jnp.maximum(lengths - 1, 0)[None, :, None]
    last = jnp.take_along_axis(x, index, axis=0)[0]
    total, steps = (jnp.zeros_like(last), jnp.zeros_like(lengths)) if before is None else before
    seen = lengths > 0
    return Pooled(jnp.where(seen[:, None], last, total), jnp.where(seen, 1, steps))


_POOL = {"mean": pool_mean, "last": pool_last}


def _lengths(x, seq_lengths):
    time, batch = x.shape[:2]
    return jnp.full(batch, time) if seq_lengths is None else jnp.minimum(seq_lengths, time)
