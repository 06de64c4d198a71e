"""The Lattice Recurrent Unit (Ahuja & Morency 2018): a cell with two states that gate each other.

h1 comes from the layer below, and h2 from the previous step; h1' goes to the layer above, and h2'
to the next step. This LRU is not the Linear Recurrent Unit, `lru.LRU`. Likewise, the RG-LRU here is
not the RG-LRU of Griffin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.cells import TwoWayCell, add_bias
from lru.layers.stacks import RecurrentStack
from lru.ops.array_typing import Array, Float


class Weights(NamedTuple):
    """A cell's weights, grouped so that h1 and h2 each need only one product before gating.

    Attributes:
      input: W of the gates and of candidate 1, applied to h1.
      input_bias: the biases of the gates and of candidate 1.
      recurrent: U of the gates and of candidate 2, applied to h2.
      reset_recurrent: U of candidate 1, applied to r2 * h2.
      reset_input: W of candidate 2, applied to r1 * h1.
      reset_input_bias: the bias of candidate 2.
    """

    input: Float[Array, "H M"]
    input_bias: Float[Array, "M"]
    recurrent: Float[Array, "H M"]
    reset_recurrent: Float[Array, "H H"]
    reset_input: Float[Array, "H H"]
    reset_input_bias: Float[Array, "H"]


class JoinedWeights(NamedTuple):
    """A cell's weights for two batched products over both states: one before gating, one after.

    Attributes:
      input: `Weights.input` and `Weights.recurrent`, stacked, applied to h1 and h2.
      input_bias: see `Weights`.
      reset: `Weights.reset_input` and `Weights.reset_recurrent`, stacked, applied to r1 * h1 and
        r2 * h2.
      reset_bias: `Weights.reset_input_bias`.
    """

    input: Float[Array, "2 H M"]
    input_bias: Float[Array, "M"]
    reset: Float[Array, "2 H H"]
    reset_bias: Float[Array, "H"]


class _LatticeCell(TwoWayCell):
    """Base class of the three cells, which differ only in which gates h1 and h2 share.

    The outputs of the dense layer `gates` are blocks of H numbers, one per distinct gate.
    `gate_order` holds the indices of the blocks of z1, z2, r1 and r2.
    """

    deferrable: ClassVar[bool] = True
    gate_order: ClassVar[tuple[int, int, int, int]]

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        width, gates = self.features, max(self.gate_order) + 1
        shapes = {"gates": (2 * width, gates * width)}
        return shapes | dict.fromkeys(("candidate1", "candidate2"), (2 * width, width))

    @nn.nowrap
    def pack(self, params: Any) -> Weights:
        width = self.features
        gates, first, second = (params[name]["kernel"] for name in self.shapes())
        return Weights(
            input=jnp.concatenate([gates[:width], first[:width]], axis=1),
            input_bias=jnp.concatenate([params["gates"]["bias"], params["candidate1"]["bias"]]),
            recurrent=jnp.concatenate([gates[width:], second[width:]], axis=1),
            reset_recurrent=first[width:],
            reset_input=second[:width],
            reset_input_bias=params["candidate2"]["bias"],
        )

    @nn.nowrap
    def input_projection(self, weights: Weights, input: Any) -> Any:
        return add_bias(self.times(input, weights.input), weights.input_bias)

    @nn.nowrap
    def step(self, weights: Weights, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        recurrent = self.times(carry, weights.recurrent)
        kernels = weights.reset_input, weights.reset_recurrent
        return self._gated(
            (input, carry), (projected, recurrent), weights.reset_input_bias,
            lambda reset: map(self.times, reset, kernels),
        )  # fmt: skip

    @nn.nowrap
    def join(self, weights: Weights) -> JoinedWeights:
        both = jnp.stack([weights.input, weights.recurrent])
        reset = jnp.stack([weights.reset_input, weights.reset_recurrent])
        return JoinedWeights(both, weights.input_bias, reset, weights.reset_input_bias)

    @nn.nowrap
    def whole_step(self, weights: JoinedWeights, carry: Any, input: Any) -> tuple[Any, Any]:
        """Runs one step, with one batched product over both states before gating, and one after.

        These two batched products replace four small ones. A GPU takes about as long to launch a
        small product as to compute it.
        """
        states = input, carry
        projected, recurrent = self._times_both(states, weights.input)
        projected = add_bias(projected, weights.input_bias)
        return self._gated(
            states, (projected, recurrent), weights.reset_bias,
            lambda states: self._times_both(states, weights.reset),
        )  # fmt: skip

    @nn.nowrap
    def _times_both(self, states, kernels):
        return tuple(jax.vmap(self.times)(jnp.stack(states), kernels))

    @nn.nowrap
    def _gated(self, states, products, reset_input_bias, times_reset):
        """Returns `(h2', h1')`.

        Args:
          states: `(h1, h2)`.
          products: the product of h1, with biases, for the gates and candidate 1; and the product
            of h2 for the gates and candidate 2.
          reset_input_bias: the bias of candidate 2.
          times_reset: a function that takes `(r1 * h1, r2 * h2)`, and returns their products for
            candidates 2 and 1.
        """
        (h1, h2), (projected, recurrent), width = states, products, self.features
        gates = nn.sigmoid(projected[..., :-width] + recurrent[..., :-width])
        distinct = jnp.split(gates, max(self.gate_order) + 1, axis=-1)
        z1, z2, r1, r2 = (distinct[index] for index in self.gate_order)
        reset_input, reset_recurrent = times_reset((r1 * h1, r2 * h2))
        candidate1 = jnp.tanh(projected[..., -width:] + reset_recurrent)
        reset_input = add_bias(reset_input, reset_input_bias)
        candidate2 = jnp.tanh(reset_input + recurrent[..., -width:])
        # The candidates cross: h1' uses candidate 2, in which h2 is not reset, and h2' candidate 1.
        return z2 * candidate1 + (1 - z2) * h2, z1 * candidate2 + (1 - z1) * h1


class PSLRUCell(_LatticeCell):
    """The Projected State LRU: the gates of a GRU, and one candidate per state.

    z = sigmoid(W^z h1 + U^z h2),   r = sigmoid(W^r h1 + U^r h2)
    c1 = tanh(W1 h1 + U1 (r * h2)),   c2 = tanh(W2 (r * h1) + U2 h2)
    h1' = z * c2 + (1 - z) * h1,   h2' = z * c1 + (1 - z) * h2

    Parameters: three dense layers, drawn from U(-1/sqrt(H), 1/sqrt(H)). `gates` maps [h1; h2] to
    the preactivations of z and r, `candidate1` takes [h1; r * h2], and `candidate2` takes
    [r * h1; h2]. The formulas omit the biases.

    Attributes: see `lru.layers.cells.TwoWayCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> cell, h1 = PSLRUCell(16), jnp.ones((8, 16))  # (B, H)
      >>> carry = cell.initialize_carry(jax.random.key(0), h1.shape)
      >>> variables = jax.jit(cell.init)(jax.random.key(0), carry, h1)
      >>> carry, y = cell.apply(variables, carry, h1)
      >>> carry.shape, y.shape
      ((8, 16), (8, 16))
    """

    gate_order = (0, 0, 1, 1)


class RGLRUCell(_LatticeCell):
    """The Reset Gate LRU: one reset gate per state, and one update gate that both states share.

    z = sigmoid(W^z h1 + U^z h2),   ri = sigmoid(Wi^r h1 + Ui^r h2)   for i = 1, 2
    c1 = tanh(W1 h1 + U1 (r2 * h2)),   c2 = tanh(W2 (r1 * h1) + U2 h2)
    h1' = z * c2 + (1 - z) * h1,   h2' = z * c1 + (1 - z) * h2

    Parameters: those of `PSLRUCell`, except that `gates` outputs the preactivations of z, r1 and
    r2, and that r is r2 for `candidate1` and r1 for `candidate2`.

    Attributes: see `lru.layers.cells.TwoWayCell`.
    """

    gate_order = (0, 0, 1, 2)


class LRUCell(_LatticeCell):
    """The Lattice Recurrent Unit: one reset gate and one update gate per state.

    zi = sigmoid(Wi^z h1 + Ui^z h2),   ri = sigmoid(Wi^r h1 + Ui^r h2)   for i = 1, 2
    c1 = tanh(W1 h1 + U1 (r2 * h2)),   c2 = tanh(W2 (r1 * h1) + U2 h2)
    h1' = z1 * c2 + (1 - z1) * h1,   h2' = z2 * c1 + (1 - z2) * h2

    Here z weights the candidate; in `lru.baselines.GRU`, as in PyTorch's GRU, z weights the state.

    Parameters: those of `PSLRUCell`, except that `gates` outputs the preactivations of z1, z2, r1
    and r2, and that r is r2 for `candidate1` and r1 for `candidate2`.

    Attributes: see `lru.layers.cells.TwoWayCell`.
    """

    gate_order = (0, 1, 2, 3)


class Lattice(RecurrentStack):
    """A stack of Lattice Recurrent Unit cells, with the call signature of `lru.LRU`.

    h1 is the input of the first layer and the output of the last; h2 is the carry between steps. A
    layer has 8 H^2 + 4 H parameters for the PS-LRU, 10 H^2 + 5 H for the RG-LRU, and 12 H^2 + 6 H
    for the LRU.

    Attributes: those of `lru.layers.stacks.RecurrentStack`, and
      unit: the class of the cells: `LRUCell`, `PSLRUCell` or `RGLRUCell`. It may also be a function
        that makes a cell, or a cell to copy.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.lattice import Lattice, LRUCell
      >>> x = jnp.ones((8, 50, 16))  # (B, T, H)
      >>> layer = Lattice(16, num_layers=2, unit=LRUCell)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), x)
      >>> carry, y = layer.apply(variables, x, return_carry=True)
      >>> y.shape, carry.shape
      ((8, 50, 16), (8, 2, 16))
    """

    unit: Callable[..., TwoWayCell] = LRUCell

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(self.unit, **options)


class PSLRU(Lattice):
    """A `Lattice` whose default `unit` is `PSLRUCell`."""

    unit: Callable[..., TwoWayCell] = PSLRUCell


class RGLRU(Lattice):
    """A `Lattice` whose default `unit` is `RGLRUCell`."""

    unit: Callable[..., TwoWayCell] = RGLRUCell
