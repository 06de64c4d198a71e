"""What Ahuja & Morency (2018) compare the lattice with: GRU, LSTM, highway network, Grid-LSTM.

Each is a two-way cell, stacked as the lattice's are. In a GRU, an LSTM and a recurrent highway
network the same state rises and goes to the next step; a Grid-LSTM has a memory either way.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lru.layers.cells import TwoWayCell
from lru.layers.stacks import RecurrentStack
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Real


class GRUCell(TwoWayCell):
    """The gated recurrent unit.

    r = sigmoid(W^r x + U^r h),   z = sigmoid(W^z x + U^z h)
    c = tanh(W x + r * (U h + b)),  or  tanh(W x + U (r * h) + b)
    h' = z * h + (1 - z) * c

    Parameters: `input` on x and `state` on h, dense layers with r, z and c in that order. Both have
    a bias, as in PyTorch, where the paper's layers come from: 6 h^2 + 6 h parameters.

    Attributes:
      features, dtype, param_dtype: as of `lru.layers.cells.TwoWayCell`.
      reset_after: whether the reset gate is applied after the product with U, as in PyTorch, cuDNN
        and Flax, or before, as the paper prints it.
    """

    reset_after: bool = True

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("input", "state"), (self.features, 3 * self.features))

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """`state` apart for gates and candidate, unless one product has both."""
        if self.reset_after:
            return params
        parts = (jnp.split(params["state"][k], [2 * self.features], -1) for k in ("kernel", "bias"))
        gates, candidate = ({"kernel": kernel, "bias": bias} for kernel, bias in zip(*parts))
        return {"input": params["input"], "gates": gates, "candidate": candidate}

    @nn.nowrap
    def input_projection(self, weights: Any, below: Any) -> Any:
        return self.dense(below, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        across = self.dense(state, weights["state" if self.reset_after else "gates"])
        gates_below, candidate_below = jnp.split(driven, [2 * self.features], axis=-1)
        gates_across, past = jnp.split(across, [2 * self.features], axis=-1)
        r, z = jnp.split(nn.sigmoid(gates_below + gates_across), 2, axis=-1)
        past = r * past if self.reset_after else self.dense(r * state, weights["candidate"])
        state = z * state + (1 - z) * jnp.tanh(candidate_below + past)
        return state, state


class LSTMCell(TwoWayCell):
    """Long short-term memory.

    i, f, o = sigmoid(W x + U h),   g = tanh(W x + U h)   with W, U of their own each
    c' = f * c + i * g,   h' = o * tanh(c')

    The state is [h; c], `(..., 2 h)`. Parameters: `input` on x and `state` on h, dense layers with
    i, f, g and o in that order, both with a bias, as in PyTorch: 8 h^2 + 8 h parameters.

    Attributes: as of `lru.layers.cells.TwoWayCell`.
    """

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("input", "state"), (self.features, 4 * self.features))

    @property
    def state_size(self) -> int:
        return 2 * self.features

    @nn.nowrap
    def input_projection(self, weights: Any, below: Any) -> Any:
        return self.dense(below, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        h, c = jnp.split(state, 2, axis=-1)
        h, c = lstm(driven + self.dense(h, weights["state"]), c)
        return jnp.concatenate([h, c], axis=-1), h


class GridLSTMCell(TwoWayCell):
    """Two LSTMs, one in depth and one in time, depth first (Kalchbrenner et al. 2016).

    h1', m1' = LSTM1(input h2, state h1, m1),   h2', m2' = LSTM2(input h1', state h2, m2)

    The state in time is [h2; m2], `(..., 2 h)`. The memory in depth, m1, begins with zeros at the
    lowest layer in every step. (In the authors' code that is so in the first chunk of a text only;
    later ones get what m1 was at the top, in the same place of the chunk before. Then the outputs
    depend on where a text was cut, and a stream has no place to be at.)

    Parameters: `depth_input depth_state time_input time_state`, dense layers as an `LSTMCell` has
    two: 16 h^2 + 16 h parameters.

    Attributes: as of `lru.layers.cells.TwoWayCell`.
    """

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        names = ("depth_input", "depth_state", "time_input", "time_state")
        return dict.fromkeys(names, (self.features, 4 * self.features))

    @property
    def state_size(self) -> int:
        return 2 * self.features

    @nn.nowrap
    def enter(self, inputs: Real[Array, "*B H"]) -> Real[Array, "*B D"]:
        return jnp.concatenate([inputs, jnp.zeros_like(inputs)], axis=-1)

    @nn.nowrap
    def leave(self, above: Real[Array, "*B D"]) -> Real[Array, "*B H"]:
        return above[..., : self.features]

    @nn.nowrap
    def input_projection(self, weights: Any, below: Any) -> Any:
        return self.dense(below[..., : self.features], weights["depth_state"])

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        (h2, m2), m1 = jnp.split(state, 2, axis=-1), below[..., self.features :]
        h1, m1 = lstm(driven + self.dense(h2, weights["depth_input"]), m1)
        in_time = self.dense(h1, weights["time_input"]) + self.dense(h2, weights["time_state"])
        h2, m2 = lstm(in_time, m2)
        return jnp.concatenate([h2, m2], axis=-1), jnp.concatenate([h1, m1], axis=-1)


def lstm(
    preactivations: Real[Array, "*B M"], memory: Real[Array, "*B H"]
) -> tuple[Real[Array, "*B H"], Real[Array, "*B H"]]:
    """h' and c' of an LSTM from i, f, g, o before their nonlinearities, `(..., 4 h)`, and c."""
    i, f, g, o = jnp.split(preactivations, 4, axis=-1)
    memory = nn.sigmoid(f) * memory + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(memory), memory


class RHNCell(TwoWayCell):
    """The recurrent highway network (Zilly et al. 2017), as Ahuja & Morency compare with it.

    Micro-steps i = 1 ... k of a step, s being the state:
    t = sigmoid(R_i^t s),   s' = t * tanh(R_i^h s) + (1 - t) * s      the first adds W x to both

    Unlike Zilly et al.'s, its transform gates begin without a negative bias, and nothing is
    dropped out: as published, a weak rival.

    Parameters: `micro_0` on [x; s], `micro_1` ... on s: dense layers with h and t in that order,
    drawn as PyTorch's linear layers, from U(-b, b) with b = 1/sqrt(rows); 4 h^2 + 2 h^2 (k - 1) +
    2 h k parameters.

    Attributes:
      features, dtype, param_dtype: as of `lru.layers.cells.TwoWayCell`.
      recurrence_depth: k.
    """

    recurrence_depth: int = 2

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        check_sizes(recurrence_depth=self.recurrence_depth)
        h = self.features
        return {f"micro_{i}": (h if i else 2 * h, 2 * h) for i in range(self.recurrence_depth)}

    @nn.nowrap
    def bound(self, shape: tuple[int, int]) -> float:
        return 1 / math.sqrt(shape[0])

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """`micro_0` apart for x and s."""
        first = params["micro_0"]
        into, across = jnp.split(first["kernel"], 2)
        rest = {name: layer for name, layer in params.items() if name != "micro_0"}
        return {"input": {"kernel": into, "bias": first["bias"]}, "across": across} | rest

    @nn.nowrap
    def input_projection(self, weights: Any, below: Any) -> Any:
        return self.dense(below, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, state: Any, below: Any, driven: Any) -> tuple[Any, Any]:
        both = driven + self.times(state, weights["across"])
        for i in range(self.recurrence_depth):
            both = self.dense(state, weights[f"micro_{i}"]) if i else both
            new, transform = jnp.split(both, 2, axis=-1)
            transform = nn.sigmoid(transform)
            state = transform * jnp.tanh(new) + (1 - transform) * state
        return state, state


class GRU(RecurrentStack):
    """Layers of `GRUCell`, with the call of `lru.LRU`.

    Attributes: as of `lru.layers.stacks.RecurrentStack`, and `reset_after` as of `GRUCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import GRU
      >>> x = jnp.ones((8, 50, 16))  # (B, T, h)
      >>> layer = GRU(16, num_layers=2)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), x)
      >>> layer.apply(variables, x).shape
      (8, 50, 16)
    """

    reset_after: bool = True

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(GRUCell, reset_after=self.reset_after, **options)


class LSTM(RecurrentStack):
    """Layers of `LSTMCell`, with the attributes of `RecurrentStack`."""

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(LSTMCell, **options)


class GridLSTM(RecurrentStack):
    """Layers of `GridLSTMCell`, with the attributes of `RecurrentStack`."""

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(GridLSTMCell, **options)


class RHN(RecurrentStack):
    """Layers of `RHNCell`, with the call of `lru.LRU`.

    Attributes: as of `lru.layers.stacks.RecurrentStack`, and `recurrence_depth` as of `RHNCell`.
    """

    recurrence_depth: int = 2

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(RHNCell, recurrence_depth=self.recurrence_depth, **options)
