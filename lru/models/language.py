"""Language models: an embedding, layers that move information along time, and a dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.factory import as_factory
from lru.layers.mixers import is_causal
from lru.layers.padding import zero_padding
from lru.layers.stacks import RecurrentStack
from lru.models.blocks import (
    BLOCK_OPTIONS,
    BlockOptions,
    Norm,
    check_model_sizes,
    given,
    residual_stack,
)
from lru.models.embedding import Embedding
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
from lru.ops.initializers import uniform

_BLOCK_ONLY = tuple(name for name in BLOCK_OPTIONS if name != "dtype")  # stacks have a dtype too


class LanguageModel(BlockOptions):
    """A language model, which predicts the next token at every step of a sequence of tokens.

    The model consists of an embedding, layers that move information along time, and a dense layer.
    In the model of Ahuja & Morency (2018), the layers between the embedding and the dense layer are
    a stack of recurrent layers, without normalization or dropout. As in their model, the embedding
    is drawn from N(0, 1), and the dense layer from U(-1/sqrt(H), 1/sqrt(H)). The logits are at
    least float32.

    Attributes: those of `lru.models.blocks.BlockOptions`, with `norm="layer"` by default, and
      vocab_size: V, the number of tokens.
      d_model: H, the width of the embedding and of the layers.
      mixer: the mixer of each residual block, e.g. `lru.LRU(256)`; see
        `lru.models.blocks.ResidualBlock`. Without `num_layers`, a `RecurrentStack` given here is
        used as `stack`.
      num_layers: the number of residual blocks.
      stack: a whole stack of layers, e.g. `lru.lattice.Lattice(H, 2)`, or a function that makes a
        stack. It replaces `mixer`, `num_layers` and all options of blocks except `dtype`, which
        then applies to the embedding alone.

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
        check_model_sizes(self)
        for name in ("mixer", "stack"):
            if (given := getattr(self, name)) is not None:
                setattr(self, name, as_factory(name, given))
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """True if the layers are causal: no logits then depend on a later token."""
        return is_causal((self._stack() or self.mixer)(parent=None))

    def _stack(self) -> Callable[..., nn.Module] | None:
        """Returns the function that makes the whole stack; None if there are residual blocks.

        Raises:
          ValueError: unless the attributes describe either residual blocks or a stack.
        """
        if self.mixer is None and self.stack is None:
            raise ValueError("mixer and stack are both None; give one of them")
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
                    f"{name}={given!r} is an option of residual blocks, but a stack has no "
                    f"blocks; leave {name} out, or give a mixer and num_layers instead of the stack"
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
        initial_carry: Carry = None,
        seq_lengths: Lengths = None,
        reset: Resets = None,
        timesteps: Timesteps = None,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Predicts the next token at every step of each sequence.

        Args:
          inputs: tokens `(B, T)`.
          initial_carry: the carry that a call with `return_carry` returned for the preceding steps.
          seq_lengths: `(B,)`, the number of valid steps of each sequence; padding does not change
            the logits of valid steps, and the logits of padding are zero.
          reset: `(B, T)`, True at the first step of a new text; passed to the layers.
          timesteps: `(B, T)`, the time from the previous step to each step; passed to the layers.
          return_carry: whether to return `(carry, logits)`.
          train: whether to use dropout in residual blocks, which needs an rng named `dropout`.

        Returns:
          The logits `(B, T, V)`, or `(carry, logits)`.

        Raises:
          ValueError: if the layers are not causal; if the blocks use batch normalization, whose
            statistics include later steps; if an attribute, or the shape or type of an argument, is
            invalid; or unless the attributes describe either residual blocks or a stack.
        """
        stack = self._stack()
        if not self.causal:
            raise ValueError(
                f"{'mixer' if stack is None else 'stack'} is not causal: it depends on later "
                "steps, or shards time over devices; expected a causal one, because a language "
                "model must not see the tokens that it predicts"
            )
        if stack is None and self.norm == "batch":
            raise ValueError(
                "norm='batch' computes statistics over all steps, but a language model must not "
                "see the tokens that it predicts; use norm='layer'"
            )
        inputs = as_array("inputs", inputs)
        if inputs.ndim != 2:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (B, T)")
        seq_lengths = as_lengths(seq_lengths, inputs.shape[:1], inputs.shape[1])
        reset, timesteps = as_resets(reset, inputs.shape), as_timesteps(timesteps, inputs.shape)
        inputs = zero_padding(inputs.T, seq_lengths)  # time is the first axis from here on
        reset, timesteps = jax.tree.map(jnp.transpose, (reset, timesteps))
        standard_normal, dtype = nn.initializers.normal(1.0), self.dtype
        x = Embedding(
            self.vocab_size, self.d_model, dtype, embedding_init=standard_normal, name="encoder"
        )(inputs)
        make = residual_stack(self) if stack is None else stack(name="stack")
        call = dict(initial_carry=initial_carry, seq_lengths=seq_lengths, reset=reset)
        call |= given(timesteps=timesteps)
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
