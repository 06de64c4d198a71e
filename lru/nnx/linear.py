"""The Linear Recurrent Unit as a Flax NNX module, built on the functions of `lru.layers.linear`.

The parameters have the names and shapes of the Linen layer, so weights can be copied both ways:
`nnx.update(layer, variables["params"])` copies them from Linen, and
`nnx.to_pure_dict(nnx.state(layer, nnx.Param))` returns them for Linen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import jax.numpy as jnp
from flax import nnx

from lru.layers.linear import Parameters, lru_directions, lru_layer, lru_step
from lru.layers.mixers import with_defaults
from lru.layers.state_space import Modes, diagonal_state, modes_of
from lru.ops.array_typing import (
    Array,
    ArrayLike,
    Carry,
    Complex,
    Float,
    LayerOptions,
    Lengths,
    Resets,
    Shape,
    Timesteps,
)
from lru.ops.initializers import gamma_log, lru_initializers
from lru.ops.recurrence import Method


class _LRUModule(nnx.Module):
    """Base class of modules that have the parameters of an LRU as attributes."""

    def _draw(
        self, rngs: nnx.Rngs, in_features: int, d_state: int, param_dtype: Any, **options: Any
    ) -> None:
        """Draws the parameters, and sets them as attributes."""
        table = lru_initializers(in_features, d_state, **options)
        params = {
            name: init(rngs.params(), shape, param_dtype) for name, (init, shape) in table.items()
        }
        params["gamma_log"] = gamma_log(params["nu_log"])
        for name, value in params.items():
            setattr(self, name, nnx.Param(value))

    def parameters(self) -> Parameters:
        """Returns the parameters by name, as plain arrays."""
        return {name: p[...] for name, p in vars(self).items() if isinstance(p, nnx.Param)}

    def modes(self) -> tuple[Modes, ...]:
        """Returns the modes of each direction."""
        return modes_of(lru_directions, self.parameters())


class LRU(_LRUModule):
    """`lru.LRU` for NNX, a replacement for `nnx.RNN(nnx.GRUCell(...))` in a model.

    Args:
      in_features: H, the width of inputs and outputs.
      d_state: N, the number of complex modes.
      r_min, r_max, max_phase, bidirectional, method, chunk_size, sequence_axis: see `lru.LRU`.
      dtype, param_dtype: see `lru.LRU`.
      time_major, return_carry, reverse, keep_order: the defaults of the call's arguments with these
        names, as in `nnx.RNN`.
      rngs: the random streams for the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from lru.nnx import LRU
      >>> layer = LRU(16, 64, r_min=0.9, r_max=0.999, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((8, 100, 16))).shape
      (8, 100, 16)
    """

    def __init__(
        self,
        in_features: int,
        d_state: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        bidirectional: bool = False,
        method: Method = "auto",
        chunk_size: int | None = None,
        sequence_axis: str | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        rngs: nnx.Rngs,
    ):
        self.in_features, self.d_state, self.bidirectional = in_features, d_state, bidirectional
        self.method, self.chunk_size, self.sequence_axis = method, chunk_size, sequence_axis
        self.dtype = dtype
        self.time_major, self.return_carry = time_major, return_carry
        self.reverse, self.keep_order = reverse, keep_order
        self._draw(
            rngs, in_features, d_state, param_dtype,
            r_min=r_min, r_max=r_max, max_phase=max_phase, bidirectional=bidirectional,
        )  # fmt: skip

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            inputs: ArrayLike,
            *,
            return_carry: Literal[True],
            rngs: Any = None,
            **call: Unpack[LayerOptions],
        ) -> tuple[Any, Array]: ...

        @overload
        def __call__(
            self,
            inputs: ArrayLike,
            *,
            return_carry: Literal[False] | None = None,
            rngs: Any = None,
            **call: Unpack[LayerOptions],
        ) -> Array: ...

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Carry = None,
        init_key: Any = None,
        rngs: Any = None,
        seq_lengths: Lengths = None,
        reset: Resets = None,
        timesteps: Timesteps = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Applies the layer, with the arguments of `lru.LRU`'s call.

        `init_key` and `rngs` are unused; `flax.nnx.Bidirectional` passes `rngs`.
        """
        flags = with_defaults(
            self,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )
        return lru_layer(
            self.parameters(),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            reset=reset,
            timesteps=timesteps,
            **flags,
            sequence_axis=self.sequence_axis,
            dtype=self.dtype,
            method=self.method,
            chunk_size=self.chunk_size,
        )


class LRUCell(_LRUModule, nnx.RNNCellBase):
    """`lru.LRUCell` for NNX: one step of the LRU, for streams and `nnx.RNN`.

    Args:
      in_features: H, the width of inputs and outputs.
      d_state: N, the number of complex modes.
      r_min, r_max, max_phase, dtype, param_dtype: see `lru.LRU`.
      rngs: the random streams for the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from lru.nnx import LRUCell
      >>> cell = LRUCell(16, 64, rngs=nnx.Rngs(0))
      >>> carry, y = cell(cell.initialize_carry((8, 16)), jnp.ones((8, 16)))
      >>> carry.shape, y.shape
      ((8, 64), (8, 16))
    """

    def __init__(
        self,
        in_features: int,
        d_state: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.in_features, self.d_state = in_features, d_state
        self.dtype, self.param_dtype = dtype, param_dtype
        self._draw(
            rngs, in_features, d_state, param_dtype,
            r_min=r_min, r_max=r_max, max_phase=max_phase, bidirectional=False,
        )  # fmt: skip

    def __call__(
        self, carry: ArrayLike, inputs: ArrayLike, *, timesteps: Timesteps = None
    ) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:  # type: ignore[override]
        """Maps `carry (..., N)` and `inputs (..., H)` to the new carry and outputs `(..., H)`.

        Args:
          carry: the state before the step.
          inputs: the inputs of the step.
          timesteps: `(...)`, the time since the step that returned `carry`; see
            `lru.layers.linear.lru_step`.
        """
        return lru_step(self.parameters(), carry, inputs, timesteps=timesteps, dtype=self.dtype)

    def initialize_carry(
        self, input_shape: Shape, rngs: Any = None, carry_init: Any = None
    ) -> Complex[Array, "*B N"]:
        """Returns the zero carry for inputs of shape `(..., H)`; the other arguments are unused."""
        state = diagonal_state(self.d_state, self.param_dtype)
        return jnp.zeros((*input_shape[:-1], *state.shape), state.dtype)

    @property
    def num_feature_axes(self) -> int:
        return 1
