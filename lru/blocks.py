"""The residual block around a mixer, and the stack of blocks: Figure 1 of Orvieto et al. (2023).

A mixer is whatever moves information along time: any module with the call of `flax.linen.RNN`
(plus `reset`) whose outputs are as wide as its inputs. Blocks and stacks hand its state through,
so that whatever streams through the mixer streams through the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from lru.array_typing import Array, Bool, Float, Int, Num

Norm = Literal["batch", "layer"]
GLU = Literal["full", "half"]


class ResidualBlock(nn.Module):
    """inputs + dropout(GLU(dropout(GELU(mixer(norm(inputs)))))), on `(B, T, H)`.

    Figure 1 of Orvieto et al. (2023); the residual path begins with the normalisation (App. D.1).

    Attributes:
      mixer: makes the mixer, e.g. `functools.partial(lru.LRU, 256)`.
      norm: `"batch"`, over batch and time with padding left out, as in the paper; or `"layer"`.
      norm_momentum: of batch normalisation's running statistics.
      glu: `"full"`: (W1 z + b1) * sigmoid(W2 z + b2); `"half"`, the paper's choice for Path-X:
        z * sigmoid(W z + b).
      dropout: the rate, after GELU and after the GLU.
      tie_dropout: drop a channel for all steps of a sequence (each sequence has its own mask).
      dtype: of the activations.
    """

    mixer: Callable[..., nn.Module]
    norm: Norm = "batch"
    norm_momentum: float = 0.99
    glu: GLU = "full"
    dropout: float = 0.0
    tie_dropout: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "B T H"],
        initial_carry: Any = None,
        seq_lengths: Int[Array, "B"] | None = None,
        reset: Bool[Array, "B T"] | None = None,
        train: bool = False,
    ) -> tuple[Any, Float[Array, "B T H"]]:
        """Returns the mixer's carry and the outputs; the mixer's contract explains the rest.

        Args:
          train: use the batch's own statistics (and update the running ones), and drop out.
        """
        for name in ("dropout", "norm_momentum"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}; expected at least 0 and less than 1")
        x = self._normalise(inputs, seq_lengths, train)
        carry, x = self.mixer(name="mixer")(
            x, initial_carry=initial_carry, seq_lengths=seq_lengths, reset=reset, return_carry=True
        )
        drop = nn.Dropout(
            self.dropout,
            broadcast_dims=(-2,) if self.tie_dropout else (),
            deterministic=not train,
        )
        x = drop(nn.gelu(x))
        x = drop(self._glu(x))
        return carry, inputs + x

    def _normalise(self, x, seq_lengths, train):
        if self.norm == "layer":
            return nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        if self.norm != "batch":
            raise ValueError(f"norm={self.norm!r}; expected 'batch' or 'layer'")
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=self.norm_momentum,
            dtype=self.dtype,
            name="norm",
        )
        return norm(x, mask=padding_mask(x, seq_lengths))

    def _glu(self, z):
        d_model = z.shape[-1]
        if self.glu == "half":
            return z * nn.sigmoid(nn.Dense(d_model, dtype=self.dtype, name="glu")(z))
        if self.glu != "full":
            raise ValueError(f"glu={self.glu!r}; expected 'full' or 'half'")
        value, gate = jnp.split(nn.Dense(2 * d_model, dtype=self.dtype, name="glu")(z), 2, axis=-1)
        return value * nn.sigmoid(gate)


RematBlock = nn.remat(ResidualBlock, static_argnums=(5,))  # 5: train
"""A `ResidualBlock` whose insides are computed again in the backward pass instead of kept."""


class ResidualStack(nn.Module):
    """`num_layers` blocks in depth.

    Attributes:
      num_layers: L.
      block: makes a block, e.g. `functools.partial(ResidualBlock, mixer)`.
    """

    num_layers: int
    block: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T H"],
        initial_carry: Any = None,
        seq_lengths: Int[Array, "B"] | None = None,
        reset: Bool[Array, "B T"] | None = None,
        train: bool = False,
    ) -> tuple[Any, Float[Array, "B T H"]]:
        """As a block; the carry is a tuple with one entry a layer."""
        if initial_carry is None:
            initial_carry = (None,) * self.num_layers
        if len(initial_carry) != self.num_layers:
            raise ValueError(
                f"initial_carry is of {len(initial_carry)} layers; expected {self.num_layers}"
            )
        carries = []
        for layer, carry in enumerate(initial_carry):
            block = self.block(name=f"blocks_{layer}")
            carry, x = block(x, carry, seq_lengths, reset, train)
            carries.append(carry)
        return tuple(carries), x


def padding_mask(x: Num[Array, "B T ..."], seq_lengths: Int[Array, "B"] | None) -> Any:
    """`(B, T, 1)`, True on the valid steps of x; None if all of them are."""
    if seq_lengths is None:
        return None
    return (jnp.arange(x.shape[1])[None] < seq_lengths[:, None])[..., None]
