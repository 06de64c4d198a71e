"""Stacks of recurrent cells, and the two orders of computing the cells.

The cell of layer l at step t needs the output of layer l - 1 at step t, and the carry of layer l
after step t - 1. In the plain order, layer by layer, products that need only a layer's inputs are
computed for all steps at once. In a wavefront, all cells with the same l + t are computed in one
batch, so there are T + L - 1 sequential steps instead of T L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.export import is_symbolic_dim

from lru.layers.cells import TwoWayCell
from lru.layers.mixers import Direction, Mixer, full_state
from lru.layers.padding import flip, steps, zero_padding
from lru.ops import platform
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Bool, Float, Lengths
from lru.ops.deferred import Deferred, defer
from lru.ops.dtypes import at_least_float32, compute_dtype
from lru.ops.recurrence import earlier, zero_where

Order = Literal["auto", "plain", "wavefront"]


class RecurrentStack(Mixer):
    """A stack of recurrent cells with the call signature of `lru.LRU`; a subclass sets the cell.

    At each step, for l = 1 ... L:   h1, h2[l] = cell[l](h1, h2[l])

    h1 is the input of the first layer and the output of the last. The carry of all layers is
    `(..., L, N)`, where N is H, or 2 H for a cell with a memory.

    Parameters: one subtree per layer, `layers_0` ..., with the parameters of one cell. The layers
    share no parameters.

    Attributes:
      features: H, the width of inputs and outputs.
      num_layers: L, the number of layers.
      order: the order of computing the cells; all orders give the same values and gradients, up to
        rounding.
        `"plain"`: layer by layer; products that do not need the carry are computed for all steps
        at once.
        `"wavefront"`: one anti-diagonal after another, in T + L - 1 batched steps instead of T L.
        On a GPU, it has no forward-mode derivatives (`jax.jvp`) if T is small.
        `"auto"`: plain on a CPU, where both orders take about the same time, and for a single
        layer, a T below L or a symbolic T. Otherwise wavefront, which launches fewer kernels.
      dtype: the type of the factors of matrix products and of the outputs; by default, the common
        type of inputs and parameters. The carry is always at least float32.
      param_dtype: the type of the parameters.
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
        """Returns the cell of one layer; a subclass implements this method with `make`."""
        raise NotImplementedError(f"{type(self).__name__} does not define cell")

    @nn.nowrap
    def make(self, unit: Callable[..., TwoWayCell], **options: Any) -> TwoWayCell:
        """Makes a layer's cell.

        Args:
          unit: the cell's class, a function that makes the cell, or an instance to copy.
          options: the cell's other attributes.

        Raises:
          ValueError: if the result is not a `TwoWayCell`.
        """
        attributes = dict(param_dtype=self.param_dtype, parent=None, **options)
        if isinstance(unit, nn.Module):
            cell = unit.clone(features=self.features, name=None, **attributes)
        else:
            cell = unit(self.features, **attributes)
        if not isinstance(cell, TwoWayCell):
            raise ValueError(
                f"unit makes a {type(cell).__name__}; expected a TwoWayCell, such as a cell of "
                "lru.lattice"
            )
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
    """The only direction of a `RecurrentStack`; the carry of all layers is `(..., L, N)`.

    Attributes:
      weights: the result of `cell.pack` for each layer's parameters.
      cell: the cell of every layer.
      order: see `RecurrentStack`.
      dtype: the type of the outputs.
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
        self, carry: Any, inputs_and_reset: Any, seq_lengths: Lengths, *, reverse: bool
    ) -> tuple[Any, Any]:
        """Runs all layers over all steps; if `reverse`, flips the inputs and then the outputs."""
        (inputs, reset), valid = inputs_and_reset, None
        carry = full_state(carry, inputs, self.state)
        if seq_lengths is not None:
            valid = steps(inputs) < seq_lengths[None, ..., None]  # (T, ..., 1)
        inputs = zero_padding(inputs, seq_lengths)
        if reset is not None:
            reset = zero_padding(reset[..., None], seq_lengths)
        clear = reset
        if reverse:  # right to left, a reset clears the carry after its step
            inputs = flip(inputs, seq_lengths)
            if reset is not None:
                clear = flip(earlier(reset, jnp.zeros_like(reset[:1]), reverse=True), seq_lengths)
        carries = [carry[..., layer, :] for layer in range(len(self.weights))]
        inputs = self.cell.encode(inputs.astype(carry.dtype))
        run = _ORDERS[_resolve_order(self.order, len(carries), inputs.shape[0])]
        carries, outputs = run(self.cell, self.weights, carries, inputs, valid, clear)
        carry, outputs = jnp.stack(carries, axis=-2), self.cell.decode(outputs).astype(self.dtype)
        if reverse:
            outputs = flip(outputs, seq_lengths)
            carry = carry if reset is None else zero_where(reset[0][..., None], carry)
        return carry, zero_padding(outputs, seq_lengths)


def layer_by_layer(
    cell: TwoWayCell,
    weights: Sequence[Any],
    carries: Sequence[Float[Array, "*B N"]],
    inputs: Float[Array, "T *B D"],
    valid: Bool[Array, "T ..."] | None,
    reset: Bool[Array, "T ..."] | None,
) -> tuple[list[Float[Array, "*B N"]], Float[Array, "T *B D"]]:
    """Runs one layer after another over all steps.

    Args:
      cell: the cell of every layer.
      weights: the result of `cell.pack` for each layer's parameters.
      carries: each layer's carry before the first step.
      inputs: the inputs of the first layer.
      valid: `(T, ..., 1)`; where False, the carries do not change. None if all steps are valid.
      reset: `(T, ..., 1)`; where True, the carries are cleared before the step. None for no resets.

    Returns:
      Each layer's carry after the last step, and the outputs of the last layer.
    """
    last = []
    for layer_weights, carry in zip(weights, carries):

        def step(carry, xs, layer_weights=layer_weights):
            input, projected, valid, reset = xs
            new, output = cell.step(layer_weights, zero_where(reset, carry), input, projected)
            return _where(valid, new, carry), output

        projected = cell.input_projection(layer_weights, inputs)
        xs, unroll = (inputs, projected, valid, reset), platform.scan_unroll(inputs.shape[0])
        carry, inputs = lax.scan(step, carry, xs, unroll=unroll)
        last.append(carry)
    return last, inputs


def wavefront(
    cell: TwoWayCell,
    weights: Sequence[Any],
    carries: Sequence[Float[Array, "*B N"]],
    inputs: Float[Array, "T *B D"],
    valid: Bool[Array, "T ..."] | None,
    reset: Bool[Array, "T ..."] | None,
) -> tuple[list[Float[Array, "*B N"]], Float[Array, "T *B D"]]:
    """Computes what `layer_by_layer` computes, with each anti-diagonal of cells as one batch.

    If the scan is unrolled and the cell is `deferrable`, the gradient of each kernel is one product
    over all steps. Such a scan has no forward-mode derivatives.
    """
    depth = len(weights)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(cell.join, weights))
    if valid is None:  # cells outside the lattice are still invalid
        valid = _all_valid(inputs)
    skewed = _skew(valid, depth), None if reset is None else _skew(reset, depth)

    def diagonal(carry, xs):
        (carries, outputs), (first_input, valid, reset, records) = carry, xs
        weights = jax.tree.map(lambda w, r: w if r is None else Deferred(w, r), stacked, records)
        inputs = jnp.concatenate([first_input[None], outputs[:-1]])  # from the previous diagonal
        new, outputs = jax.vmap(cell.whole_step)(weights, zero_where(reset, carries), inputs)
        return (_where(valid, new, carries), outputs), outputs[-1]

    padded = jnp.pad(inputs, [(0, depth - 1)] + [(0, 0)] * (inputs.ndim - 1))
    start = jnp.stack(carries), jnp.zeros((depth, *inputs.shape[1:]), inputs.dtype)
    records = jax.tree.map(_defer_kernels(cell, padded.shape[:-1]), stacked)
    xs, unroll = (padded, *skewed, records), platform.scan_unroll(padded.shape[0])
    (last, _), outputs = lax.scan(diagonal, start, xs, unroll=unroll)
    return list(last), outputs[depth - 1 :]


def _defer_kernels(cell, time_and_batch):
    """Returns a function of stacked weights, whose result is None except for deferred kernels.

    Only the products of unrolled scans are deferred. On a CPU, this would take longer, and the
    factors of a long scan might need much memory.
    """
    deferred = cell.deferrable and platform.scan_unroll(time_and_batch[0]) > 1
    return lambda w: defer(w, time_and_batch, cell.dtype) if deferred and w.ndim > 2 else None


def _all_valid(inputs) -> Any:
    """Returns a mask (T, 1, ...) that is True; a NumPy array, if T is known.

    In a program with a constant mask, XLA knows at which steps of an unrolled scan all cells are
    valid, and compiles the same kernels for these steps.
    """
    ones = jnp.ones if is_symbolic_dim(inputs.shape[0]) else np.ones
    return ones((inputs.shape[0],) + (1,) * (inputs.ndim - 1), bool)


def _skew(mask, depth):
    """Skews (T, ...) to (T + L - 1, L, ...): step t of layer l is at t + l; the rest is False."""
    xp = np if isinstance(mask, np.ndarray) else jnp
    other_axes = [(0, 0)] * (mask.ndim - 1)
    delayed = [xp.pad(mask, [(layer, depth - 1 - layer), *other_axes]) for layer in range(depth)]
    return xp.stack(delayed, axis=1)


def _where(valid, after, before):
    return after if valid is None else jnp.where(valid, after, before)


_ORDERS = {"plain": layer_by_layer, "wavefront": wavefront}


def _resolve_order(order: str, num_layers: int, time: Any) -> str:
    """Returns "plain" or "wavefront" for an order, which may be "auto".

    The products alone keep a CPU busy: in results/benchmark_cpu_language.json, a training step
    takes 1.02 times as long in wavefront order as in plain order. If T is less than L, at least
    half of the cells that a wavefront computes are unused.
    """
    if order == "auto":
        short = is_symbolic_dim(time) or time < num_layers
        plain = platform.is_cpu() or num_layers == 1 or short
        return "plain" if plain else "wavefront"
    if order not in _ORDERS:
        raise ValueError(f"order={order!r}; expected one of 'auto', 'plain', 'wavefront'")
    return order
