"""The residual block around a mixer, and the stack of blocks: Figure 1 of Orvieto et al. (2023).

A mixer moves information along time: any module with the call of `flax.linen.RNN` whose outputs
are as wide as its inputs; it gets a `reset` only where the block gets one. Blocks and stacks pass
its state on, so a model can be streamed if its mixers can. They have time first, so that a chunk of
time is contiguous in memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.factory import as_factory
from lru.layers.mixers import as_inputs, is_causal
from lru.ops.arguments import as_lengths, as_resets, check_sizes
from lru.ops.array_typing import Array, ArrayLike, Float, Int, Num
from lru.ops.chunks import scan_chunks, steps_at_once
from lru.ops.dtypes import at_least_float32, promoted, result_type
from lru.ops.matmul import by_rows

Norm = Literal["batch", "layer"]
GELU = Literal["tanh", "erf"]
GLU = Literal["full", "half"]


class ResidualBlock(nn.Module):
    """inputs + dropout(GLU(dropout(GELU(mixer(norm(inputs)))))), on `(T, B, H)`.

    Figure 1 of Orvieto et al. (2023); the residual path begins with the normalisation (App. D.1).

    Attributes:
      mixer: the mixer, e.g. `lru.LRU(256)`, of which each block gets a copy; or what makes one,
        e.g. `functools.partial(lru.LRU, 256)`.
      norm: `"batch"`, the paper's, over batch and time; or `"layer"`. Padding has no part in it,
        of which the paper says nothing.
      norm_momentum: of batch normalisation's running statistics.
      gelu: x Phi(x) exactly, by `"erf"`, or its usual approximation by `"tanh"`, 5e-4 away at most.
      glu: `"full"`: (W1 z + b1) * sigmoid(W2 z + b2); `"half"`, the paper's choice for Path-X:
        z * sigmoid(W z + b).
      dropout: the rate, after GELU and after the GLU.
      tie_dropout: drop a channel for all steps of a sequence (each sequence has its own mask).
      remat: compute the block's insides again in the backward pass instead of keeping them. Where
        the mixer says that it is `causal`, the whole block goes through time chunk by chunk; that
        promises that no output depends on a later input, and that the state begins with zeros.
      chunk_size: steps at a time then; chosen from the shape if None, all of them if 0.
      dtype: of the activations.
    """

    mixer: Callable[..., nn.Module] | nn.Module
    norm: Norm = "batch"
    norm_momentum: float = 0.99
    gelu: GELU = "tanh"
    glu: GLU = "full"
    dropout: float = 0.0
    tie_dropout: bool = True
    remat: bool = False
    chunk_size: int | None = None
    dtype: Any = None

    def __post_init__(self) -> None:
        self.mixer = as_factory("mixer", self.mixer)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        initial_carry: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        train: bool = False,
    ) -> tuple[Any, Float[Array, "T B H"]]:
        """Returns the mixer's carry and the outputs `(T, B, H)`.

        Args:
          inputs: `(T, B, H)`.
          initial_carry, seq_lengths, reset: as `lru.layers.mixers.Mixer.__call__` explains them;
            `reset` is `(T, B)`.
          train: use the batch's own statistics (and update the running ones), and drop out.

        Raises:
          ValueError: if the arguments do not fit together, or an attribute has no meaning.
        """
        self._check()
        inputs = as_inputs(inputs)
        if inputs.ndim != 3:
            raise ValueError(f"inputs have shape {inputs.shape}; expected (T, B, H)")
        seq_lengths = as_lengths(seq_lengths, inputs.shape[1:2], inputs.shape[0])
        reset = as_resets(reset, inputs.shape[:2])
        statistics = None
        if self.norm == "batch":
            norm = BatchStatistics(self.norm_momentum, name="norm")
            statistics = norm(inputs, seq_lengths, train)
        masks = self._dropout_masks(inputs.shape, train)
        shared, stepwise = (masks, None) if self.tie_dropout else (None, masks)
        given, xs, d_model = (statistics, shared), (inputs, reset, stepwise), inputs.shape[-1]

        def body(block, carry, xs, seq_lengths):
            return block._body(block._parts(d_model), given, carry, xs, seq_lengths)

        if not self.remat or self.is_initializing():
            return body(self, initial_carry, xs, seq_lengths)
        mixer = self.mixer(parent=None)
        causal = is_causal(mixer)
        widest = 4 * d_model  # a mixer's states may be wider than the GLU's product
        chunk_size = steps_at_once(self.chunk_size, inputs.shape[:-1], widest)
        params_only = all("mixer" not in v for k, v in self.variables.items() if k != "params")
        if causal and params_only and chunk_size not in (0, inputs.shape[0]):
            block, params = self.clone(parent=None, name=None), self.variables["params"]
            return _in_chunks(block, chunk_size, (params, *given), initial_carry, xs, seq_lengths)
        rematerialises = getattr(mixer, "rematerialises", lambda time_and_batch: False)
        if causal or not rematerialises(inputs.shape[:-1]):
            return nn.remat(body)(self, initial_carry, xs, seq_lengths)
        carry, z = self._mix(self._parts(d_model), given, initial_carry, xs, seq_lengths)
        gate = nn.remat(lambda block, z, xs: block._gate(block._parts(d_model), given, z, xs))
        return carry, gate(self, z, xs)

    def _body(self, parts, given, carry, xs, seq_lengths):
        """The block once the statistics are known, on all steps or some; `parts` by name."""
        carry, z = self._mix(parts, given, carry, xs, seq_lengths)
        return carry, self._gate(parts, given, z, xs)

    def _mix(self, parts, given, carry, xs, seq_lengths):
        x, reset, _ = xs
        if given[0] is None:
            x = parts["norm"](x)
        else:
            mean, scale, bias = (v[None, None] for v in given[0])
            dtype = result_type(x, scale)
            x = ((x.astype(dtype) - mean) * scale + bias).astype(self.dtype or dtype)
        call = {} if reset is None else {"reset": reset}  # `nn.RNN` takes none
        return parts["mixer"](
            x,
            initial_carry=carry,
            seq_lengths=seq_lengths,
            return_carry=True,
            time_major=True,
            **call,
        )

    def _gate(self, parts, given, z, xs):
        x, _, masks = xs
        after_gelu, after_glu = given[1] if self.tie_dropout else masks
        z = self._dropped(after_gelu, nn.gelu(z, approximate=self.gelu == "tanh"))
        value, gate = z, by_rows(parts["glu"], z)
        if self.glu == "full":
            value, gate = jnp.split(gate, 2, axis=-1)
        value, gate = promoted(value, nn.sigmoid(gate))
        x, branch = promoted(x, self._dropped(after_glu, value * gate))
        return x + branch

    def _parts(self, d_model, params=None):
        """The submodules by name: this module's own, or functions of the parameters given."""
        width = 2 * d_model if self.glu == "full" else d_model
        makers = {
            "norm": functools.partial(nn.LayerNorm, dtype=self.dtype),
            "mixer": self.mixer,
            "glu": functools.partial(nn.Dense, width, dtype=self.dtype),
        }
        if params is None:
            return {name: functools.partial(_call, make, name) for name, make in makers.items()}
        return {
            name: functools.partial(make(parent=None).apply, {"params": params.get(name, {})})
            for name, make in makers.items()
        }

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
        """Which to keep after GELU and after the GLU, or None: drawn for the whole sequence."""
        if not train or not self.dropout:
            return None, None
        shape = (2, 1, *shape[1:]) if self.tie_dropout else (2, *shape)
        return tuple(jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, shape))

    def _dropped(self, mask, x):
        return x if mask is None else jnp.where(mask, x / (1 - self.dropout), jnp.zeros_like(x))


class BatchStatistics(nn.Module):
    """Batch normalisation over time and batch, (x - mean) * scale + bias, as those three `(H,)`.

    Knowing them before x is gone through again lets each step be normalised where it is used.
    Parameters and running statistics are those of `flax.linen.BatchNorm`.

    Attributes:
      momentum: of the running statistics.
      epsilon: added to the variance.
    """

    momentum: float = 0.99
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "T B H"], seq_lengths: Any, train: bool) -> Any:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        weight = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = _mean_and_variance(x, padding_mask(x, seq_lengths))
            if not self.is_initializing():
                for running, now in ((running_mean, mean), (running_var, var)):
                    mixed = self.momentum * running.value + (1 - self.momentum) * now
                    running.value = mixed.astype(running.value.dtype)
        return mean, weight * jax.lax.rsqrt(var + self.epsilon), bias


def _mean_and_variance(x, mask):
    """Over time and batch, in one pass over x."""
    x = x.astype(at_least_float32(x))
    count: Any = math.prod(x.shape[:2])
    if mask is not None:
        count = jnp.maximum(mask.sum(), 1).astype(x.dtype)
    mean, square = (jnp.sum(v, (0, 1), where=mask) / count for v in (x, x * x))
    return mean, jnp.maximum(square - mean * mean, 0)


def _call(make, name, *args, **kwargs):
    return make(name=name)(*args, **kwargs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _in_chunks(block, chunk_size, owner, carry, xs, seq_lengths):
    """A block's body chunk by chunk: traced once for all blocks of a stack that are alike."""

    def body(owner, carry, xs, seq_lengths):
        params, *given = owner
        parts = block._parts(xs[0].shape[-1], params)
        return block._body(parts, given, carry, xs, seq_lengths)

    carry = _full_carry(block.mixer(parent=None), carry, xs[0][:chunk_size])
    return scan_chunks(body, owner, carry, xs, chunk_size=chunk_size, seq_lengths=seq_lengths)


def _full_carry(mixer, carry, inputs):
    """The carry in the shapes and types that the mixer returns; zeros if there is none."""
    call = functools.partial(mixer.init_with_output, time_major=True, return_carry=True)
    (shapes, _), _ = jax.eval_shape(call, jax.random.key(0), inputs)
    if carry is None:
        return jax.tree.map(jnp.zeros_like, shapes)
    return jax.tree.map(
        lambda leaf, given: jnp.broadcast_to(given, leaf.shape).astype(leaf.dtype), shapes, carry
    )


class ResidualStack(nn.Module):
    """`num_layers` blocks in depth.

    Attributes:
      num_layers: L.
      block: a block, e.g. `ResidualBlock(mixer)`, of which each layer gets a copy; or what makes
        one, e.g. `functools.partial(ResidualBlock, mixer)`.
    """

    num_layers: int
    block: Callable[..., nn.Module] | nn.Module

    def __post_init__(self) -> None:
        check_sizes(num_layers=self.num_layers)
        self.block = as_factory("block", self.block)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        initial_carry: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        train: bool = False,
    ) -> tuple[Any, Float[Array, "T B H"]]:
        """Calls the blocks one after another; the carry is a tuple with one entry a layer."""
        if initial_carry is None:
            initial_carry = (None,) * self.num_layers
        if not isinstance(initial_carry, tuple | list):
            raise ValueError(
                f"initial_carry is a {type(initial_carry).__name__}; expected a tuple with one "
                "entry a layer"
            )
        if len(initial_carry) != self.num_layers:
            raise ValueError(
                f"initial_carry is of {len(initial_carry)} layers; expected {self.num_layers}"
            )
        y, carries = as_inputs(x), []
        for layer, carry in enumerate(initial_carry):
            block = self.block(name=f"blocks_{layer}")
            carry, y = block(y, carry, seq_lengths, reset, train)
            carries.append(carry)
        return tuple(carries), y


def padding_mask(x: Num[Array, "T B ..."], seq_lengths: Int[Array, "B"] | None) -> Any:
    """`(T, B, 1)`, True on the valid steps of x; None if all of them are."""
    if seq_lengths is None:
        return None
    return (jnp.arange(x.shape[0])[:, None] < seq_lengths[None])[..., None]
