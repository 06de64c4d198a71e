"""The Lattice Recurrent Unit (Ahuja & Morency 2018): a cell with two states that gate each other.

h1 comes from the layer below, h2 from the step before; h1' rises, h2' goes to the next step. This
LRU shares nothing with the Linear Recurrent Unit, `lru.LRU`, but the letters, and the RG-LRU here
nothing with Griffin's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from lru.layers.cells import TwoWayCell, add_bias
from lru.layers.stacks import RecurrentStack
from lru.ops.array_typing import Array, Float


class Weights(NamedTuple):
    """A cell's matrices by what they multiply; all that h1, or h2, meets unchanged in one product.

    Attributes:
      below: W of the gates and of candidate 1, for h1; `below_bias` those two layers' biases.
      before: U of the gates and of candidate 2, for h2.
      reset_before: U of candidate 1, for r2 * h2.
      reset_below: W of candidate 2, for r1 * h1; `bias` is that layer's.
    """

    below: Float[Array, "H M"]
    below_bias: Float[Array, "M"]
    before: Float[Array, "H M"]
    reset_before: Float[Array, "H H"]
    reset_below: Float[Array, "H H"]
    bias: Float[Array, "H"]


class _LatticeCell(TwoWayCell):
    """What the three units have in common: all but which gates they share.

    `gate_order` has the places of z1, z2, r1 and r2 among the outputs of the dense layer `gates`.
    """

    gate_order: ClassVar[tuple[int, int, int, int]]

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        h, gates = self.features, max(self.gate_order) + 1
        return {"gates": (2 * h, gates * h), "candidate1": (2 * h, h), "candidate2": (2 * h, h)}

    @nn.nowrap
    def pack(self, params: Any) -> Weights:
        h = self.features
        gates, first, second = (params[name]["kernel"] for name in self.shapes())
        return Weights(
            below=jnp.concatenate([gates[:h], first[:h]], axis=1),
            below_bias=jnp.concatenate([params["gates"]["bias"], params["candidate1"]["bias"]]),
            before=jnp.concatenate([gates[h:], second[h:]], axis=1),
            reset_before=first[h:],
            reset_below=second[:h],
            bias=params["candidate2"]["bias"],
        )

    @nn.nowrap
    def input_projection(self, weights: Weights, below: Any) -> Any:
        return add_bias(self.times(below, weights.below), weights.below_bias)

    @nn.nowrap
    def step(self, weights: Weights, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        h1, h2, h = below, state, self.features
        across = self.times(h2, weights.before)
        gates = nn.sigmoid(driven[..., :-h] + across[..., :-h])
        apart = jnp.split(gates, max(self.gate_order) + 1, axis=-1)
        z1, z2, r1, r2 = (apart[place] for place in self.gate_order)
        candidate1 = jnp.tanh(driven[..., -h:] + self.times(r2 * h2, weights.reset_before))
        from_below = add_bias(self.times(r1 * h1, weights.reset_below), weights.bias)
        candidate2 = jnp.tanh(from_below + across[..., -h:])
        # They cross: what rises is made with the candidate that kept all of h2, and vice versa.
        return z2 * candidate1 + (1 - z2) * h2, z1 * candidate2 + (1 - z1) * h1


class PSLRUCell(_LatticeCell):
    """The Projected State LRU: a GRU's gates, and a candidate for each direction.

    z = sigmoid(W^z h1 + U^z h2),   r = sigmoid(W^r h1 + U^r h2)
    c1 = tanh(W1 h1 + U1 (r * h2)),   c2 = tanh(W2 (r * h1) + U2 h2)
    h1' = z * c2 + (1 - z) * h1,   h2' = z * c1 + (1 - z) * h2

    Parameters: three dense layers, drawn from U(-1/sqrt(h), 1/sqrt(h)): `gates` on [h1; h2] gives
    z and r; `candidate1` is on [h1; r * h2], `candidate2` on [r * h1; h2].

    Attributes: as of `lru.layers.cells.TwoWayCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> cell, h1 = PSLRUCell(16), jnp.ones((8, 16))  # (B, h)
      >>> carry = cell.initialize_carry(jax.random.key(0), h1.shape)
      >>> variables = jax.jit(cell.init)(jax.random.key(0), carry, h1)
      >>> carry, y = cell.apply(variables, carry, h1)
      >>> carry.shape, y.shape
      ((8, 16), (8, 16))
    """

    gate_order = (0, 0, 1, 1)


class RGLRUCell(_LatticeCell):
    """The Reset Gate LRU: a reset gate for each direction, one update gate.

    z = sigmoid(W^z h1 + U^z h2),   ri = sigmoid(Wi^r h1 + Ui^r h2)   for i = 1, 2
    c1 = tanh(W1 h1 + U1 (r2 * h2)),   c2 = tanh(W2 (r1 * h1) + U2 h2)
    h1' = z * c2 + (1 - z) * h1,   h2' = z * c1 + (1 - z) * h2

    Parameters: as of `PSLRUCell`, but that `gates` gives z, r1 and r2.

    Attributes: as of `lru.layers.cells.TwoWayCell`.
    """

    gate_order = (0, 0, 1, 2)


class LRUCell(_LatticeCell):
    """The Lattice Recurrent Unit: a reset gate and an update gate for each direction.

    zi = sigmoid(Wi^z h1 + Ui^z h2),   ri = sigmoid(Wi^r h1 + Ui^r h2)   for i = 1, 2
    c1 = tanh(W1 h1 + U1 (r2 * h2)),   c2 = tanh(W2 (r1 * h1) + U2 h2)
    h1' = z1 * c2 + (1 - z1) * h1,   h2' = z2 * c1 + (1 - z2) * h2

    The z take the candidate, unlike those of a GRU, which keep the state.

    Parameters: as of `PSLRUCell`, but that `gates` gives z1, z2, r1 and r2.

    Attributes: as of `lru.layers.cells.TwoWayCell`.
    """

    gate_order = (0, 1, 2, 3)


class Lattice(RecurrentStack):
    """Layers of the paper's cells, with the call of `lru.LRU`.

    h1 begins as the input, and is the output after the last layer; h2 waits for the next step. Per
    layer the PS-LRU has 8 h^2 + 4 h parameters, the RG-LRU 10 h^2 + 5 h, the LRU 12 h^2 + 6 h.

    Attributes: as of `lru.layers.stacks.RecurrentStack`, and
      unit: makes the cell: `LRUCell`, `PSLRUCell` or `RGLRUCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.lattice import Lattice, LRUCell
      >>> x = jnp.ones((8, 50, 16))  # (B, T, h)
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
    """Layers of `PSLRUCell`; all else is as of `Lattice`."""

    unit: Callable[..., TwoWayCell] = PSLRUCell


class RGLRU(Lattice):
    """Layers of `RGLRUCell`; all else is as of `Lattice`."""

    unit: Callable[..., TwoWayCell] = RGLRUCell
