"""The residual block around a mixer, and the stack of blocks: Figure 1 of Orvieto et al. (2023).

A mixer moves information along time. It is any module with the call signature of `flax.linen.RNN`
whose outputs are as wide as its inputs. It receives `reset` and `timesteps` only if the block does.
Blocks and stacks map `(B, T, H)` to `(B, T, H)`. They can return the mixers' carries, so a model
can be streamed if its mixers can. Internally, time is the first axis, so that a chunk of time is
contiguous in memory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.factory import as_factory
from lru.layers.mixers import as_inputs, is_causal
from lru.models.batch_norm import BatchStatistics
from lru.ops import platform
from lru.ops.arguments import as_lengths, as_resets, as_timesteps, check_sizes
from lru.ops.array_typing import Array, ArrayLike, Carry, Lengths, Num, Resets, Timesteps
from lru.ops.chunks import resolve_chunk_size, scan_chunks
from lru.ops.dtypes import promoted, result_type
from lru.ops.matmul import by_rows

Norm = Literal["batch", "layer"]
GELU = Literal["tanh", "erf"]
GLU = Literal["full", "half"]


class BlockOptions(nn.Module, kw_only=True):
    """The options of a residual block, shared by the models that contain such blocks.

    Blocks and models also have an attribute `norm`, whose default depends on the class.

    Attributes:
      norm: `"batch"`, normalization over batch and time, as in Orvieto et al. (2023); or `"layer"`,
        layer normalization. Batch statistics exclude padding here; the paper does not mention this.
      norm_momentum: the momentum of batch normalization's running statistics.
      prenorm: whether the normalization is the first layer of the residual branch, as in the paper.
        If False, it follows the sum of branch and inputs, as by default in minimal-LRU.
      gelu: `"erf"`, the exact x Phi(x), or `"tanh"`, its usual approximation, accurate to 5e-4.
      glu: `"full"`, (W1 z + b1) * sigmoid(W2 z + b2); or `"half"`, z * sigmoid(W z + b), the
        paper's choice for Path-X.
      dropout: the dropout rate, both after the GELU and after the GLU.
      tie_dropout: whether the same channels are dropped at all steps of a sequence; in any case,
        they are drawn for each sequence separately.
      remat: whether to recompute the values inside a block in the backward pass instead of saving
        them. None means False on an accelerator with ample memory, and True elsewhere. With
        rematerialization, a block can run chunk by chunk if its mixer is `causal`. A causal mixer
        promises that no output depends on a later input, and that its initial carry is zero.
      chunk_size: with rematerialization, the number of steps per chunk of a block; None chooses it
        from the shape of the inputs and the device, and 0 means all steps.
      dtype: the type of the outputs of normalization, of the GLU's dense layer and of a model's
        encoder; None means the common type of inputs and parameters. The mixer may have its own
        `dtype`.
    """

    norm_momentum: float = 0.99
    prenorm: bool = True
    gelu: GELU = "tanh"
    glu: GLU = "full"
    dropout: float = 0.0
    tie_dropout: bool = True
    remat: bool | None = False
    chunk_size: int | None = None
    dtype: Any = None

    @nn.nowrap
    def block_options(self) -> dict[str, Any]:
        """Returns the options of a block, by name: those of `BlockOptions`, and `norm`."""
        return {name: getattr(self, name) for name in BLOCK_OPTIONS}


BLOCK_OPTIONS = ("norm",) + tuple(
    field.name for field in dataclasses.fields(BlockOptions) if field.name not in ("parent", "name")
)


class _Layers(NamedTuple):
    """A block's layers as functions, which use either the block's parameters or given ones.

    Each field has the name of the layer's subtree of parameters. A new layer needs a field here, a
    line in `_factories` and a call in `_forward`; `lru.models.budget` must count its parameters.
    """

    norm: Callable[..., Any]
    mixer: Callable[..., Any]
    glu: Callable[..., Any]


class ResidualBlock(BlockOptions):
    """A residual block: inputs + dropout(GLU(dropout(GELU(mixer(norm(inputs)))))).

    This is the block in Figure 1 of Orvieto et al. (2023), from `(B, T, H)` to `(B, T, H)`.
    Normalization comes first in the residual branch (Appendix D.1), unless `prenorm` is False:
    norm(inputs + dropout(GLU(dropout(GELU(mixer(inputs))))))

    Attributes: those of `BlockOptions`, with `norm="batch"` by default, and
      mixer: the mixer, e.g. `lru.LRU(256)`, of which the block makes a copy; or a function that
        makes the mixer, e.g. `functools.partial(lru.LRU, 256)`.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> from lru.models.blocks import ResidualBlock
      >>> block, x = ResidualBlock(lru.LRU(64)), jnp.ones((8, 100, 16))
      >>> variables = jax.jit(block.init)(jax.random.key(0), x)
      >>> block.apply(variables, x).shape
      (8, 100, 16)
    """

    mixer: Callable[..., nn.Module] | nn.Module
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        self.mixer = as_factory("mixer", self.mixer)
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """True if `norm` is "layer" and the mixer is causal: no output depends on a later input."""
        return self.norm == "layer" and is_causal(self.mixer(parent=None))

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
        time_major: bool = False,
        train: bool = False,
    ) -> Any:
        """Applies the block to a batch of sequences.

        Args:
          inputs: real numbers `(B, T, H)`.
          initial_carry: the carry that a call with `return_carry` returned for the preceding steps.
          seq_lengths: `(B,)`, the number of valid steps of each sequence.
          reset: `(B, T)`, True at the first step of a new sequence.
          timesteps: `(B, T)`, the time from the previous step to each step, for the mixer.
          return_carry: whether to return `(carry, outputs)` instead of the outputs `(B, T, H)`.
          time_major: whether time is the first axis of inputs, outputs, `reset` and `timesteps`.
          train: whether to use dropout and, in batch normalization, to use the statistics of the
            batch and update the running statistics. For dropout, give an rng named `dropout`.

        Raises:
          ValueError: if an attribute, or the shape or type of an argument, is invalid.
        """
        self._check()
        x, seq_lengths, *at_steps = time_first(inputs, seq_lengths, reset, timesteps, time_major)
        statistics = self._statistics(x, seq_lengths, train) if self.prenorm else None
        masks = self._dropout_masks(x.shape, train)
        tied, stepwise = (masks, None) if self.tie_dropout else (None, masks)
        xs = (x, *at_steps, stepwise)
        carry, y = self._run((statistics, tied), initial_carry, xs, seq_lengths)
        if not self.prenorm:
            statistics = self._statistics(y, seq_lengths, train)
            y = self._normalize(y, statistics, self._bound(y.shape[-1]).norm)
        y = y if time_major else jnp.moveaxis(y, 0, 1)
        return (carry, y) if return_carry else y

    def _forward(self, layers, shared, carry, xs, seq_lengths, remat_after_mixer=False):
        """Runs the block on whole sequences or one chunk of each, without a norm after the sum.

        Args:
          layers: the block's layers, as functions.
          shared: the values common to all steps: statistics of batch normalization and tied dropout
            masks, each of which may be None.
          carry: the mixer's carry before the first step, or None.
          xs: the values of each step: inputs `(T, B, H)`; resets, timesteps and untied dropout
            masks, each of which may be None.
          seq_lengths: `(B,)`, the number of valid steps of each sequence; None if all are valid.
          remat_after_mixer: whether to recompute everything after the mixer in the backward pass.
            The layers after the mixer must then be functions of given parameters.

        Returns:
          `(carry, y)`: the mixer's carry, and the inputs plus the residual branch, `(T, B, H)`.
        """
        (statistics, tied), (x, reset, timesteps, stepwise) = shared, xs
        after_gelu, after_glu = tied or stepwise or (None, None)
        u = self._normalize(x, statistics, layers.norm) if self.prenorm else x
        call = given(reset=reset, timesteps=timesteps)  # `nn.RNN` has no such arguments
        call |= dict(initial_carry=carry, seq_lengths=seq_lengths)
        carry, y = layers.mixer(u, return_carry=True, time_major=True, **call)

        def after_mixer(y):
            z = self._drop(nn.gelu(y, approximate=self.gelu == "tanh"), after_gelu)
            value, gate = z, by_rows(layers.glu, z)
            if self.glu == "full":
                value, gate = _halves(gate)
            value, gate = promoted(value, nn.sigmoid(gate))
            return self._drop(value * gate, after_glu)

        branch = (jax.checkpoint(after_mixer) if remat_after_mixer else after_mixer)(y)
        x, branch = promoted(x, branch)
        return carry, x + branch

    def _run(self, shared, carry, xs, seq_lengths):
        """Runs `_forward` in one of four ways, which store different values for the backward pass.

        1. Initialization, or no rematerialization: on the whole sequence, recomputing nothing
           outside the mixer.
        2. A causal mixer with no variables but parameters, and several chunks: chunk by chunk,
           storing little but the inputs and the carries between chunks.
        3. A mixer that is not causal, but runs in chunks of its own and so stores little: on the
           whole sequence, recomputing everything after the mixer.
        4. Otherwise: on the whole sequence, recomputing everything.
        """
        x, d_model = xs[0], xs[0].shape[-1]
        if not platform.rematerialises(self.remat) or self.is_initializing():
            return self._forward(self._bound(d_model), shared, carry, xs, seq_lengths)
        mixer, params = self.mixer(parent=None), self.variables["params"]
        causal = is_causal(mixer)
        widest = 4 * d_model  # an estimate of the widest array: 2 H for the GLU, more for states
        chunk_size = resolve_chunk_size(self.chunk_size, x.shape[:-1], widest)
        params_only = all("mixer" not in v for k, v in self.variables.items() if k != "params")
        if causal and params_only and chunk_size not in (0, x.shape[0]):
            block = self.clone(parent=None, name=None)
            return _in_chunks(block, chunk_size, (params, shared), carry, xs, seq_lengths)
        rematerialises = getattr(mixer, "rematerialises", lambda time_and_batch: False)
        if not causal and rematerialises(x.shape[:-1]):
            layers = self._functions(d_model, params)._replace(mixer=self._bound(d_model).mixer)
            return self._forward(layers, shared, carry, xs, seq_lengths, remat_after_mixer=True)

        def forward(block, carry, xs, seq_lengths):
            return block._forward(block._bound(d_model), shared, carry, xs, seq_lengths)

        return nn.remat(forward)(self, carry, xs, seq_lengths)

    def _factories(self, d_model) -> _Layers:
        width = 2 * d_model if self.glu == "full" else d_model
        return _Layers(
            norm=functools.partial(nn.LayerNorm, dtype=self.dtype),
            mixer=self.mixer,
            glu=functools.partial(nn.Dense, width, dtype=self.dtype),
        )

    def _bound(self, d_model) -> _Layers:
        """Returns the layers as submodules of this block, created when they are called."""

        def bound(make, name):
            return lambda *args, **kwargs: make(name=name)(*args, **kwargs)

        return _Layers(*map(bound, self._factories(d_model), _Layers._fields))

    def _functions(self, d_model, params) -> _Layers:
        """Returns the layers as functions that use the given parameters of the block."""

        def applied(make, name):
            given = params.get(name, {})  # empty for an unused layer norm
            return functools.partial(make(parent=None).apply, {"params": given})

        return _Layers(*map(applied, self._factories(d_model), _Layers._fields))

    def _statistics(self, x, seq_lengths, train):
        """Returns mean, scale and bias of batch normalization; None for layer normalization."""
        if self.norm == "layer":
            return None
        return BatchStatistics(self.norm_momentum, name="norm")(x, seq_lengths, train)

    def _normalize(self, x, statistics, layer_norm):
        if statistics is None:
            return layer_norm(x)
        mean, scale, bias = (v[None, None] for v in statistics)
        dtype = result_type(x, scale)
        return ((x.astype(dtype) - mean) * scale + bias).astype(self.dtype or dtype)

    def _check(self):
        for name in ("dropout", "norm_momentum"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}; expected at least 0 and less than 1")
        if self.norm not in ("batch", "layer"):
            raise ValueError(f"norm={self.norm!r}; expected 'batch' or 'layer'")
        if self.gelu not in ("tanh", "erf"):
            raise ValueError(f"gelu={self.gelu!r}; expected 'tanh' or 'erf'")
        if self.glu not in ("full", "half"):
            raise ValueError(f"glu={self.glu!r}; expected 'full' or 'half'")

    def _dropout_masks(self, shape, train):
        """Returns the masks of both dropouts, True where values are kept; None to keep them all."""
        if not train or not self.dropout:
            return None
        shape = (2, 1, *shape[1:]) if self.tie_dropout else (2, *shape)
        return tuple(jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, shape))

    def _drop(self, x, mask):
        return x if mask is None else jnp.where(mask, x / (1 - self.dropout), jnp.zeros_like(x))


def _halves(x: Num[Array, "... M"]) -> tuple[Any, Any]:
    if not platform.is_gpu():
        first, second = jnp.split(x, 2, axis=-1)
        return first, second
    # On a GPU, slices are faster than a split. XLA fuses their derivative with the sum that gives
    # the gradient of the bias, but reads the derivative of a split again to compute this sum.
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def given(**arguments: Any) -> dict[str, Any]:
    """Returns the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def time_first(
    inputs: ArrayLike, seq_lengths: Lengths, reset: Resets, timesteps: Timesteps, time_major: bool
) -> tuple[Array, Any, Any, Any]:
    """Checks the arguments of a block's call, and moves time to the first axis.

    Returns:
      The inputs `(T, B, H)`, the lengths `(B,)` or None, the resets `(T, B)` or None, and the
      timesteps `(T, B)` or None.

    Raises:
      ValueError: if the shape or type of an argument is invalid.
    """
    inputs = as_inputs(inputs)
    if inputs.ndim != 3 or inputs.shape[0 if time_major else 1] == 0:
        axes = "(T, B, H)" if time_major else "(B, T, H)"
        raise ValueError(f"inputs have shape {inputs.shape}; expected {axes} with T >= 1")
    reset = as_resets(reset, inputs.shape[:2])
    timesteps = as_timesteps(timesteps, inputs.shape[:2])
    if not time_major:
        inputs = jnp.moveaxis(inputs, 1, 0)
        reset, timesteps = jax.tree.map(jnp.transpose, (reset, timesteps))
    lengths = as_lengths(seq_lengths, inputs.shape[1:2], inputs.shape[0])
    return inputs, lengths, reset, timesteps


@functools.partial(jax.jit, static_argnums=(0, 1))  # so equal blocks of a stack are traced once
def _in_chunks(block, chunk_size, params_and_shared, carry, xs, seq_lengths):
    def body(params_and_shared, carry, xs, seq_lengths):
        params, shared = params_and_shared
        layers = block._functions(xs[0].shape[-1], params)
        return block._forward(layers, shared, carry, xs, seq_lengths)

    carry = _full_carry(block.mixer(parent=None), carry, xs[0][:chunk_size])
    return scan_chunks(
        body, params_and_shared, carry, xs, chunk_size=chunk_size, seq_lengths=seq_lengths
    )


def _full_carry(mixer, carry, inputs):
    """Returns the carry, or zeros for None, with the shapes and types of the mixer's carry."""
    call = functools.partial(mixer.init_with_output, time_major=True, return_carry=True)
    # With the carry, so that the mixer rejects a wrong one with its own message.
    (shapes, _), _ = jax.eval_shape(call, jax.random.key(0), inputs, initial_carry=carry)
    if carry is None:
        return jax.tree.map(jnp.zeros_like, shapes)
    return jax.tree.map(
        lambda leaf, given: jnp.broadcast_to(given, leaf.shape).astype(leaf.dtype), shapes, carry
    )


class ResidualStack(nn.Module):
    """A stack of `num_layers` residual blocks, from `(B, T, H)` to `(B, T, H)`.

    Attributes:
      num_layers: L, the number of blocks.
      block: a block, e.g. `ResidualBlock(mixer)`, of which each layer gets a copy; or a function
        that makes a block, e.g. `functools.partial(ResidualBlock, mixer)`.
    """

    num_layers: int
    block: Callable[..., nn.Module] | nn.Module

    def __post_init__(self) -> None:
        check_sizes(num_layers=self.num_layers)
        self.block = as_factory("block", self.block)
        super().__post_init__()

    @property
    def causal(self) -> bool:
        """True if the blocks are causal: no output then depends on a later input."""
        return is_causal(self.block(parent=None))

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
        time_major: bool = False,
        train: bool = False,
    ) -> Any:
        """Calls the blocks one after another; the carry is a tuple with one entry per layer.

        Args:
          inputs, initial_carry, seq_lengths, reset, timesteps: see `ResidualBlock.__call__`.
          return_carry, time_major, train: see `ResidualBlock.__call__`.

        Returns:
          The outputs `(B, T, H)`, or `(carry, outputs)` if `return_carry`.

        Raises:
          ValueError: if `initial_carry` does not have one entry per layer; see also
            `ResidualBlock.__call__`.
        """
        if initial_carry is None:
            initial_carry = (None,) * self.num_layers
        if not isinstance(initial_carry, tuple | list):
            raise ValueError(
                f"initial_carry is a {type(initial_carry).__name__}; expected a tuple with one "
                "entry per layer"
            )
        if len(initial_carry) != self.num_layers:
            raise ValueError(
                f"initial_carry has {len(initial_carry)} entries; expected {self.num_layers}"
            )
        y, seq_lengths, reset, timesteps = time_first(
            inputs, seq_lengths, reset, timesteps, time_major
        )
        call = given(timesteps=timesteps) | dict(time_major=True, train=train)
        carries = []
        for layer, carry in enumerate(initial_carry):
            block = self.block(name=f"blocks_{layer}")
            call |= dict(initial_carry=carry, seq_lengths=seq_lengths, reset=reset)
            carry, y = block(y, return_carry=True, **call)
            carries.append(carry)
        y = y if time_major else jnp.moveaxis(y, 0, 1)
        return (tuple(carries), y) if return_carry else y


def residual_stack(model):
    """Makes a model's `ResidualStack` from the model's attributes."""
    block = functools.partial(ResidualBlock, model.mixer, **model.block_options())
    return ResidualStack(model.num_layers, block, name="stack")


def check_model_sizes(model):
    """Checks that each size of a model, unless None or missing, is an integer of at least 1."""
    for name in ("num_classes", "num_outputs", "vocab_size", "d_model", "num_layers"):
        if (size := getattr(model, name, None)) is not None:
            check_sizes(**{name: size})
