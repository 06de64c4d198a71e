"""Two-way cells in depth and time, and the two orders in which they may be worked through.

The cell of layer l at step t needs what rises from layer l - 1 at t, and the state that layer l
has at t - 1. Layer by layer, every product with what rises alone is made for all steps at once; in
a wavefront, all cells with the same l + t are one batched product, and T + L - 1 of them follow
each other instead of T L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.export import is_symbolic_dim

from lru.layers.cells import TwoWayCell
from lru.layers.mixers import Direction, Mixer, flip, full_state, steps, zero_padding
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Bool, Float
from lru.ops.dtypes import at_least_float32, compute_dtype
from lru.ops.recurrence import earlier, unless

Order = Literal["auto", "plain", "wavefront"]


class RecurrentStack(Mixer):
    """Layers of a two-way cell in depth, with the call of `lru.LRU`; a subclass says of which.

    At each step, for l = 1 ... L:   h1, h2[l] = cell[l](h1, h2[l])

    h1 begins as the input, and is the output after the last layer. The state of all layers is
    `(..., L, N)`, N being h, or 2 h for a cell with a memory.

    Parameters: a subtree a layer, `layers_0` ..., each that of one cell; nothing is shared.

    Attributes:
      features: h, the width of inputs and outputs.
      num_layers: L.
      order: `"plain"`: one layer after the other, products that need no state made for all steps
        at once; `"wavefront"`: all cells that wait for nothing but their predecessors at once, in
        T + L - 1 batched steps instead of T L. Both give the same values and derivatives;
        `"auto"`: plain on a CPU, where the two take about as long; elsewhere, not measured yet, a
        wavefront where there are several layers, and at least as many steps.
      dtype: of the matrix products and the outputs; by default that of inputs and parameters
        together. The state is float32 at least, whatever it is.
      param_dtype: of the parameters.
    """

    features: int
    num_layers: int
    order: Order = "auto"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def causal(self) -> bool:
        return not self.reverse

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        """A layer's cell, by `make`."""
        raise NotImplementedError(f"{type(self).__name__} has no cell")

    @nn.nowrap
    def make(self, unit: Callable[..., TwoWayCell], **options: Any) -> TwoWayCell:
        """A cell as wide as a layer, by a class, a function, or an instance to copy.

        Raises:
          ValueError: if it is no cell of this package.
        """
        attributes = dict(param_dtype=self.param_dtype, parent=None, **options)
        if isinstance(unit, nn.Module):
            cell = unit.clone(features=self.features, name=None, **attributes)
        else:
            cell = unit(self.features, **attributes)
        if not isinstance(cell, TwoWayCell):
            raise ValueError(f"unit makes a {type(cell).__name__}; expected a cell of lru.lattice")
        return cell

    def directions(self, inputs: Any) -> tuple[StackDirection]:
        check_sizes(features=self.features, num_layers=self.num_layers)
        cell, names = self.cell(), [f"layers_{layer}" for layer in range(self.num_layers)]
        params = [self.param(name, cell.draw) for name in names]
        dtype = compute_dtype(inputs, params, self.dtype)
        cell = self.cell(dtype=dtype)
        weights = [cell.pack(layer) for layer in params]
        return (StackDirection(weights, cell, self.order, dtype),)


class StackDirection(Direction):
    """Layers of a cell over a sequence; the state of all layers is `(..., L, N)`.

    Attributes:
      weights: `cell.pack` of each layer's parameters.
      cell: of each layer.
      order: of `RecurrentStack`.
      dtype: of the outputs.
    """

    weights: Sequence[Any]
    cell: TwoWayCell = struct.field(pytree_node=False)
    order: Order = struct.field(pytree_node=False)
    dtype: Any = struct.field(pytree_node=False)

    @property
    def d_model(self) -> int:
        return self.cell.features

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        shape = len(self.weights), self.cell.state_size
        return jax.ShapeDtypeStruct(shape, at_least_float32(self.dtype))

    def chunk(
        self, carry: Any, inputs_and_reset: Any, seq_lengths: Any, *, reverse: bool
    ) -> tuple[Any, Any]:
        """All steps of all layers, in the stack's order; right to left on the flipped sequence."""
        (inputs, reset), valid = inputs_and_reset, None
        carry = full_state(carry, inputs, self.state)
        if seq_lengths is not None:
            valid = steps(inputs) < seq_lengths[None, ..., None]  # (T, ..., 1)
        inputs = zero_padding(inputs, seq_lengths)
        if reset is not None:
            reset = zero_padding(reset[..., None], seq_lengths)
        clear = reset
        if reverse:  # no state crosses from the first step of a sequence to the step before
            inputs = flip(inputs, seq_lengths)
            if reset is not None:
                clear = flip(earlier(reset, jnp.zeros_like(reset[:1]), reverse=True), seq_lengths)
        states = [carry[..., layer, :] for layer in range(len(self.weights))]
        below = self.cell.enter(inputs.astype(carry.dtype))
        run = _ORDERS[_resolved(self.order, len(states), inputs.shape[0])]
        states, above = run(self.cell, self.weights, states, below, valid, clear)
        carry, outputs = jnp.stack(states, axis=-2), self.cell.leave(above).astype(self.dtype)
        if reverse:
            outputs = flip(outputs, seq_lengths)
            carry = carry if reset is None else unless(reset[0][..., None], carry)
        return carry, zero_padding(outputs, seq_lengths)


def layer_by_layer(
    cell: TwoWayCell,
    weights: Sequence[Any],
    states: Sequence[Float[Array, "*B N"]],
    below: Float[Array, "T *B D"],
    valid: Bool[Array, "T ..."] | None,
    reset: Bool[Array, "T ..."] | None,
) -> tuple[list[Float[Array, "*B N"]], Float[Array, "T *B D"]]:
    """The states after the last step, and all that rises from the topmost layer.

    Args:
      cell: of each layer.
      weights: `cell.pack` of each layer's parameters.
      states: of each layer before the first step.
      below: what rises into the lowest layer.
      valid: `(T, ..., 1)`: where False, a state stays as it is.
      reset: `(T, ..., 1)`: where True, the states are cleared before the step.
    """
    ends = []
    for of_layer, state in zip(weights, states):

        def step(state, inputs, of_layer=of_layer):
            below, driven, valid, reset = inputs
            after, above = cell.step(of_layer, unless(reset, state), below, driven)
            return _where(valid, after, state), above

        driven = cell.input_projection(of_layer, below)
        end, below = lax.scan(step, state, (below, driven, valid, reset))
        ends.append(end)
    return ends, below


def wavefront(
    cell: TwoWayCell,
    weights: Sequence[Any],
    states: Sequence[Float[Array, "*B N"]],
    below: Float[Array, "T *B D"],
    valid: Bool[Array, "T ..."] | None,
    reset: Bool[Array, "T ..."] | None,
) -> tuple[list[Float[Array, "*B N"]], Float[Array, "T *B D"]]:
    """As `layer_by_layer`, but one anti-diagonal after the other, all its cells batched."""
    depth = len(weights)
    together = jax.tree.map(lambda *of_layers: jnp.stack(of_layers), *weights)
    if valid is None:
        valid = jnp.ones((below.shape[0],) + (1,) * (below.ndim - 1), bool)

    @jax.vmap
    def batched(of_layer, state, below):
        return cell.step(of_layer, state, below, cell.input_projection(of_layer, below))

    def diagonal(carry, inputs):
        (states, rising), (lowest, valid, reset) = carry, inputs
        below = jnp.concatenate([lowest[None], rising[:-1]])  # from the diagonal before
        after, rising = batched(together, unless(reset, states), below)
        return (_where(valid, after, states), rising), rising[-1]

    lowest = jnp.pad(below, [(0, depth - 1)] + [(0, 0)] * (below.ndim - 1))
    skewed = _skew(valid, depth), None if reset is None else _skew(reset, depth)
    start = jnp.stack(states), jnp.zeros((depth, *below.shape[1:]), below.dtype)
    (ends, _), above = lax.scan(diagonal, start, (lowest, *skewed))
    return list(ends), above[depth - 1 :]


def _skew(mask, depth):
    """(T, ...) to (T + L - 1, L, ...): layer l sees step t on diagonal t + l, False elsewhere."""
    around = [(0, 0)] * (mask.ndim - 1)
    late = [jnp.pad(mask, [(layer, depth - 1 - layer), *around]) for layer in range(depth)]
    return jnp.stack(late, axis=1)


def _where(valid, after, before):
    return after if valid is None else jnp.where(valid, after, before)


_ORDERS = {"plain": layer_by_layer, "wavefront": wavefront}


def _resolved(order: str, num_layers: int, time: Any) -> str:
    """The name of an order; the one place where "auto" is resolved.

    A CPU is busy with the products alone: in results/benchmark_cpu_language.json a step by
    wavefront takes 1.02 times as long. One through a short sequence is mostly cells that have
    nothing to do.
    """
    if order == "auto":
        short = is_symbolic_dim(time) or time < num_layers
        plain = jax.default_backend() == "cpu" or num_layers == 1 or short
        return "plain" if plain else "wavefront"
    if order not in _ORDERS:
        raise ValueError(f"order={order!r}; expected one of 'auto', 'plain', 'wavefront'")
    return order
