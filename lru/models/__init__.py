"""Whole models: encoder, residual stack, pooling and head."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, overload

import flax.linen as nn
import jax.numpy as jnp

from lru.layers.factory import as_factory
from lru.layers.mixers import is_causal, zero_padding
from lru.layers.stacks import RecurrentStack
from lru.models.blocks import (
    BLOCK_OPTIONS,
    BlockOptions,
    Norm,
    ResidualBlock,
    ResidualStack,
    padding_mask,
)
from lru.models.embedding import Embedding
from lru.ops.arguments import as_array, as_lengths, as_resets, check_sizes
from lru.ops.array_typing import Array, ArrayLike, Float, Int, ModelOptions
from lru.ops.dtypes import at_least_float32
from lru.ops.initializers import uniform

Pooling = Literal["mean", "last"]


class SequenceModel(BlockOptions):
    """Base class of sequence models: an encoder, `num_layers` residual blocks, pooling over time.

    Logits are float32 at least.

    Attributes: those of `lru.models.blocks.BlockOptions`, and
      num_classes: the number of logits.
      d_model: H, the width between the blocks.
      num_layers: L.
      mixer: the mixer of each block, `lru.LRU(256)`, or a function that makes one, e.g.
        `functools.partial(lru.LRU, 256)`; see `lru.models.blocks.ResidualBlock`.
      vocab_size: V, for an embedding of integer tokens; None for a linear encoder of feature
        vectors, which are one more axis of the inputs.
      pooling: `"mean"` over the valid steps, or the `"last"` valid step.
    """

    num_classes: int
    d_model: int
    num_layers: int
    mixer: Callable[..., nn.Module] | nn.Module
    vocab_size: int | None = None
    norm: Norm = "batch"
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        _check_model_sizes(self)
        self.mixer = as_factory("mixer", self.mixer)
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """Whether logits depend on no later steps: True if the mixers are causal."""
        return is_causal(self.mixer(parent=None))

    def _pooled(self, inputs, initial_carry, seq_lengths, reset, train):
        """Returns the carry, and one vector per sequence `(B, H)`, float32 at least."""
        if self.pooling not in _POOL:
            raise ValueError(f"pooling={self.pooling!r}; expected one of {', '.join(_POOL)}")
        carries, pooled = _split_carry(initial_carry)
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
        reset = as_resets(reset, inputs.shape[:2])
        inputs = jnp.moveaxis(inputs, 1, 0)  # from here on time comes first
        reset = None if reset is None else reset.T
        x = self._encode(zero_padding(inputs, seq_lengths))  # so padding reaches no gradient either
        call = dict(seq_lengths=seq_lengths, reset=reset, time_major=True, train=train)
        carries, x = _residual_stack(self)(x, initial_carry=carries, return_carry=True, **call)
        pooled = _POOL[self.pooling](x, seq_lengths, pooled)
        mean = pooled.mean()
        return (carries, pooled), mean.astype(at_least_float32(mean))

    def _encode(self, inputs):
        if self.vocab_size is None:
            return nn.Dense(self.d_model, dtype=self.dtype, name="encoder")(inputs)
        return Embedding(self.vocab_size, self.d_model, dtype=self.dtype, name="encoder")(inputs)


class SequenceClassifier(SequenceModel):
    """Logits for a sequence of tokens or of feature vectors.

    The encoder and `num_layers` residual blocks are the architecture of Orvieto et al. (2023),
    Appendix D.1, for every Long Range Arena task but Retrieval. The paper does not specify what
    follows: as in S5, it is pooling over the valid steps and one dense layer.

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
        initial_carry: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Classifies each sequence.

        Args:
          inputs: tokens `(B, T)`, or features `(B, T, features)`.
          initial_carry: the carry that `return_carry` returned for the steps before these. The
            logits are then those of all steps together, unless a mixer depends on later steps, as
            a bidirectional one does.
          seq_lengths: `(B,)` valid steps of each sequence; padding does not change the logits.
          reset: `(B, T)`, passed to the mixers; pooling ignores it.
          return_carry: return `(carry, logits)`.
          train: use batch statistics and dropout (needs an rng named `dropout`).

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if the inputs have a wrong number of axes.
        """
        inputs = as_array("inputs", inputs)
        axes = "(B, T, features)" if self.vocab_size is None else "(B, T)"
        if inputs.ndim != axes.count(",") + 1:
            raise ValueError(f"inputs have shape {inputs.shape}; expected {axes}")
        carry, vector = self._pooled(inputs, initial_carry, seq_lengths, reset, train)
        logits = nn.Dense(self.num_classes, dtype=vector.dtype, name="head")(vector)
        return (carry, logits) if return_carry else logits


class SequenceMatcher(SequenceModel):
    """Logits for a pair of sequences: Retrieval of the Long Range Arena.

    Encoder, blocks and pooling map each sequence to a vector, o0 or o1. Both sequences share the
    parameters, and batch normalisation treats them as one batch of twice the size. Then

        logits = W2 GELU(W1 [o0, o1, o0 - o1, o0 * o1] + b1) + b2          W1 (H, 4H)

    The paper does not specify its head; this is that of S4 and S5.

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
        initial_carry: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Compares the two sequences of each pair.

        Args:
          inputs: tokens `(B, 2, T)`, or features `(B, 2, T, features)`.
          initial_carry: the carry that `return_carry` returned for the steps before these.
          seq_lengths: `(B, 2)` valid steps of each sequence; padding does not change the logits.
          reset: `(B, 2, T)`, passed to the mixers; pooling ignores it.
          return_carry: return `(carry, logits)`; the carry has 2B sequences.
          train: see `SequenceClassifier`.

        Returns:
          The logits `(B, num_classes)`, or `(carry, logits)`.

        Raises:
          ValueError: if the inputs have a wrong number of axes, or a second axis that is not 2.
        """
        inputs = as_array("inputs", inputs)
        axes = "(B, 2, T, features)" if self.vocab_size is None else "(B, 2, T)"
        if inputs.ndim != axes.count(",") + 1 or inputs.shape[1] != 2:
            raise ValueError(f"inputs have shape {inputs.shape}; expected {axes}")
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:2], inputs.shape[2])
        reset = as_resets(reset, inputs.shape[:3])
        sequences, lengths, resets = (
            x if x is None else _flatten_pairs(x) for x in (inputs, seq_lengths, reset)
        )
        carry, vectors = self._pooled(sequences, initial_carry, lengths, resets, train)
        first, second = vectors[0::2], vectors[1::2]
        pair = jnp.concatenate([first, second, first - second, first * second], axis=-1)
        dense = functools.partial(nn.Dense, dtype=vectors.dtype)
        hidden = nn.gelu(dense(self.d_model, name="hidden")(pair), approximate=self.gelu == "tanh")
        logits = dense(self.num_classes, name="head")(hidden)
        return (carry, logits) if return_carry else logits


def _flatten_pairs(x):
    """Reshapes (B, 2, ...) to (2B, ...), so that each pair stays on the same device."""
    return x.reshape(2 * x.shape[0], *x.shape[2:])


class LanguageModel(BlockOptions):
    """Logits of the next token, at every step of a sequence of tokens.

    The model is an embedding, layers that move information along time, and a dense layer. In the
    model of Ahuja & Morency (2018) these layers are a stack of recurrent layers, without
    normalisation or dropout. As there, the embedding is drawn from N(0, 1), and the dense layer
    from U(-1/sqrt(H), 1/sqrt(H)). Logits are float32 at least.

    Attributes: those of `lru.models.blocks.BlockOptions`, with `norm="layer"`, and
      vocab_size: V.
      d_model: H, the width of the embedding and of the layers.
      mixer: the mixer of each residual block, e.g. `lru.LRU(256)`; see
        `lru.models.blocks.ResidualBlock`. (Configs and weights of version 0.1.0 have a
        `RecurrentStack` here, without `num_layers`: it is taken as `stack`.)
      num_layers: the number of residual blocks.
      stack: a whole stack of layers, instead of `mixer` and all other options of blocks, e.g.
        `lru.lattice.Lattice(H, 2)`; or a function that makes one. It has its own `dtype`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.lattice import Lattice
      >>> from lru.models import LanguageModel
      >>> model = LanguageModel(51, 16, stack=Lattice(16, 2))
      >>> tokens = jnp.ones((4, 50), int)  # (B, T)
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> carry, logits = model.apply(variables, tokens, return_carry=True)
      >>> logits.shape
      (4, 50, 51)
    """

    vocab_size: int
    d_model: int
    mixer: Callable[..., nn.Module] | nn.Module | None = None
    num_layers: int | None = None
    norm: Norm = "layer"
    stack: Callable[..., nn.Module] | nn.Module | None = None

    def __post_init__(self) -> None:
        _check_model_sizes(self)
        for name in ("mixer", "stack"):
            if (given := getattr(self, name)) is not None:
                setattr(self, name, as_factory(name, given))
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """Whether logits depend on no later tokens: True if the layers are causal."""
        return is_causal((self._stack() or self.mixer)(parent=None))

    def _stack(self) -> Callable[..., nn.Module] | None:
        """Returns the function that makes the whole stack; None if there are residual blocks.

        Raises:
          ValueError: if there are neither blocks nor a stack, or both.
        """
        if self.mixer is None and self.stack is None:
            raise ValueError("mixer=None and stack=None; expected one of them: give mixer or stack")
        if self.num_layers is not None and self.stack is None:
            return None
        if self.stack is None and not isinstance(self.mixer(parent=None), RecurrentStack):
            raise ValueError(
                "num_layers=None; expected the number of residual blocks, each around a mixer "
                "(give a whole stack of layers as stack, not as mixer)"
            )
        block_only = _BLOCK_ONLY if self.stack is None else ("mixer", "num_layers", *_BLOCK_ONLY)
        for name in block_only:
            if (given := getattr(self, name)) != getattr(LanguageModel, name):
                raise ValueError(
                    f"{name}={given!r} is an option of residual blocks, and a stack has none: give "
                    "one or the other"
                )
        return self.stack or self.mixer

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
        initial_carry: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Predicts the next token at every step of each sequence.

        Args:
          inputs: tokens `(B, T)`.
          initial_carry: the carry that `return_carry` returned for the steps before these.
          seq_lengths: `(B,)` valid steps of each sequence; padding changes no other logits, and
            logits on padding are zero.
          reset: `(B, T)`, True at the first step of a new text; passed to the mixers.
          return_carry: return `(carry, logits)`.
          train: use dropout (needs an rng named `dropout`), if the model has any.

        Returns:
          The logits `(B, T, V)`, or `(carry, logits)`.

        Raises:
          ValueError: if a layer depends on later steps, or cannot continue from a state; if the
            norm of blocks has statistics over all steps; or if there are neither blocks nor a
            stack, or both.
        """
        stack = self._stack()
        if not self.causal:
            raise ValueError(
                f"{'mixer' if stack is None else 'stack'} is not causal: it depends on later "
                "steps, or has time sharded over devices; a language model must not see the tokens "
                "that it predicts, and must continue from a state"
            )
        if stack is None and self.norm == "batch":
            raise ValueError(
                "norm='batch' has statistics of all steps, and a language model must not see the "
                "tokens that it predicts; use norm='layer'"
            )
        inputs = as_array("inputs", inputs)
        if inputs.ndim != 2:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (B, T)")
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
        reset = as_resets(reset, inputs.shape)
        inputs = zero_padding(inputs.T, seq_lengths)  # from here on time comes first
        reset = None if reset is None else reset.T
        standard_normal, dtype = nn.initializers.normal(1.0), self.dtype
        x = Embedding(
            self.vocab_size, self.d_model, dtype, embedding_init=standard_normal, name="encoder"
        )(inputs)
        make = _residual_stack(self) if stack is None else stack(name="stack")
        call = dict(initial_carry=initial_carry, seq_lengths=seq_lengths, reset=reset)
        if stack is None:
            call["train"] = train
        carry, x = make(x, return_carry=True, time_major=True, **call)
        drawn = uniform(1 / math.sqrt(self.d_model))
        dtype = at_least_float32(x)
        head = nn.Dense(
            self.vocab_size, dtype=dtype, kernel_init=drawn, bias_init=drawn, name="head"
        )
        logits = jnp.moveaxis(zero_padding(head(x), seq_lengths), 0, 1)
        return (carry, logits) if return_carry else logits


_BLOCK_ONLY = tuple(name for name in BLOCK_OPTIONS if name != "dtype")  # stacks have a dtype too


def _residual_stack(model):
    """Returns the residual stack of a model that has the options of a block."""
    block = functools.partial(ResidualBlock, model.mixer, **model.block_options())
    return ResidualStack(model.num_layers, block, name="stack")


def _check_model_sizes(model):
    """Checks the sizes that a model has and that are given."""
    for name in ("num_classes", "vocab_size", "d_model", "num_layers"):
        if (size := getattr(model, name, None)) is not None:
            check_sizes(**{name: size})


class Pooled(NamedTuple):
    """The state of pooling: the sum of the vectors so far, and their number."""

    total: Float[Array, "B H"]
    steps: Int[Array, "B"]

    def mean(self) -> Float[Array, "B H"]:
        return self.total / jnp.maximum(self.steps, 1)[:, None].astype(self.total.dtype)


def pool_mean(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """Sums and counts the valid steps of x, and adds those pooled before."""
    mask = padding_mask(x, seq_lengths)
    total = jnp.sum(x, axis=0, dtype=at_least_float32(x), where=mask)
    now = Pooled(total, _lengths(x, seq_lengths))
    return now if before is None else Pooled(*(a + b for a, b in zip(before, now)))


def pool_last(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """Returns the last valid step of x; where x has none, the step pooled before."""
    lengths = _lengths(x, seq_lengths)
    index = jnp.maximum(lengths - 1, 0)[None, :, None]
    last = jnp.take_along_axis(x, index, axis=0)[0]
    total, steps = (jnp.zeros_like(last), jnp.zeros_like(lengths)) if before is None else before
    not_empty = lengths > 0
    return Pooled(jnp.where(not_empty[:, None], last, total), jnp.where(not_empty, 1, steps))


def _split_carry(initial_carry):
    """Splits a model's carry into that of the mixers and that of pooling; None at the start."""
    if initial_carry is None:
        return None, None
    if not isinstance(initial_carry, tuple | list) or len(initial_carry) != 2:
        raise ValueError(
            f"initial_carry is a {type(initial_carry).__name__}; expected the carry that "
            "return_carry returned"
        )
    return initial_carry


_POOL = {"mean": pool_mean, "last": pool_last}


def _lengths(x, seq_lengths):
    time, batch = x.shape[:2]
    return jnp.full(batch, time) if seq_lengths is None else jnp.minimum(seq_lengths, time)
