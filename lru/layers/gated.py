"""The baselines of Ahuja & Morency (2018): GRU, LSTM, recurrent highway network and Grid-LSTM.

Each is a `TwoWayCell`, stacked by a `RecurrentStack`. A GRU, an LSTM and a recurrent highway
network pass the same hidden state to the layer above and to the next step; an LSTM also passes its
memory to the next step. A Grid-LSTM has a memory in depth and another in time.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

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

    Parameters: two dense layers, `input` with the kernels W, and `state` with the kernels U. Their
    outputs are terms of the preactivations of r, z and c, in that order. As in PyTorch's GRU, which
    Ahuja & Morency use, both layers have biases, of which the formulas show only b. A cell has
    6 H^2 + 6 H parameters.

    Attributes:
      features, dtype, param_dtype: see `lru.layers.cells.TwoWayCell`.
      reset_after: whether to apply the reset gate after the product with U, as in PyTorch, cuDNN
        and Flax, or before it, as printed by Ahuja & Morency.
    """

    deferrable: ClassVar[bool] = True
    reset_after: bool = True

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("input", "state"), (self.features, 3 * self.features))

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """Splits `state` into gates and candidate if the reset gate precedes the product with U."""
        if self.reset_after:
            return params
        parts = (jnp.split(params["state"][k], [2 * self.features], -1) for k in ("kernel", "bias"))
        gates, candidate = ({"kernel": kernel, "bias": bias} for kernel, bias in zip(*parts))
        return {"input": params["input"], "gates": gates, "candidate": candidate}

    @nn.nowrap
    def input_projection(self, weights: Any, input: Any) -> Any:
        return self.dense(input, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        h, gates_and_candidate = carry, [2 * self.features]
        recurrent = self.dense(h, weights["state" if self.reset_after else "gates"])
        input_gates, input_candidate = jnp.split(projected, gates_and_candidate, axis=-1)
        recurrent_gates, recurrent_candidate = jnp.split(recurrent, gates_and_candidate, axis=-1)
        r, z = jnp.split(nn.sigmoid(input_gates + recurrent_gates), 2, axis=-1)
        if self.reset_after:
            recurrent_candidate = r * recurrent_candidate
        else:
            recurrent_candidate = self.dense(r * h, weights["candidate"])
        h = z * h + (1 - z) * jnp.tanh(input_candidate + recurrent_candidate)
        return h, h


class LSTMCell(TwoWayCell):
    """Long short-term memory.

    i, f, o = sigmoid(W x + U h),   g = tanh(W x + U h)   each with its own W and U
    c' = f * c + i * g,   h' = o * tanh(c')

    The carry is [h; c], `(..., 2 H)`.

    Parameters: two dense layers, `input`, applied to x, and `state`, applied to h. The outputs of
    each are terms of the preactivations of i, f, g and o, in that order. As in PyTorch, both layers
    have biases, which the formulas omit. A cell has 8 H^2 + 8 H parameters.

    Attributes: see `lru.layers.cells.TwoWayCell`.
    """

    deferrable: ClassVar[bool] = True

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("input", "state"), (self.features, 4 * self.features))

    @property
    def state_size(self) -> int:
        return 2 * self.features

    @nn.nowrap
    def input_projection(self, weights: Any, input: Any) -> Any:
        return self.dense(input, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        h, c = jnp.split(carry, 2, axis=-1)
        h, c = lstm(projected + self.dense(h, weights["state"]), c)
        return jnp.concatenate([h, c], axis=-1), h


class GridLSTMCell(TwoWayCell):
    """Two LSTMs at each step, first one in depth, then one in time (Kalchbrenner et al. 2016).

    h1', m1' = LSTM1(input h2, state h1, m1),   h2', m2' = LSTM2(input h1', state h2, m2)

    The carry in time is [h2; m2], `(..., 2 H)`. At every step, the memory in depth, m1, starts
    from zero in the first layer. (In Ahuja & Morency's code, m1 does so only in the first chunk of
    a text. In each later chunk, m1 starts from the last layer's m1 at the same position in the
    previous chunk. The outputs then depend on where the text is cut, so streaming is ill-defined.)

    Parameters: dense layers `depth_input depth_state time_input time_state`, each like one of the
    two dense layers of an `LSTMCell`. A cell has 16 H^2 + 16 H parameters.

    Attributes: see `lru.layers.cells.TwoWayCell`.
    """

    deferrable: ClassVar[bool] = True

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        names = ("depth_input", "depth_state", "time_input", "time_state")
        return dict.fromkeys(names, (self.features, 4 * self.features))

    @property
    def state_size(self) -> int:
        return 2 * self.features

    @nn.nowrap
    def encode(self, inputs: Real[Array, "*B H"]) -> Real[Array, "*B D"]:
        return jnp.concatenate([inputs, jnp.zeros_like(inputs)], axis=-1)

    @nn.nowrap
    def decode(self, output: Real[Array, "*B D"]) -> Real[Array, "*B H"]:
        return output[..., : self.features]

    @nn.nowrap
    def input_projection(self, weights: Any, input: Any) -> Any:
        return self.dense(input[..., : self.features], weights["depth_state"])

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        (h2, m2), m1 = jnp.split(carry, 2, axis=-1), input[..., self.features :]
        h1, m1 = lstm(projected + self.dense(h2, weights["depth_input"]), m1)
        in_time = self.dense(h1, weights["time_input"]) + self.dense(h2, weights["time_state"])
        h2, m2 = lstm(in_time, m2)
        return jnp.concatenate([h2, m2], axis=-1), jnp.concatenate([h1, m1], axis=-1)


def lstm(
    preactivations: Real[Array, "*B M"], memory: Real[Array, "*B H"]
) -> tuple[Real[Array, "*B H"], Real[Array, "*B H"]]:
    """Returns the new hidden state h' and the new memory c' of an LSTM.

    Args:
      preactivations: i, f, g, o before their nonlinearities, `(..., 4 H)`.
      memory: c, the memory before the step, `(..., H)`.
    """
    i, f, g, o = jnp.split(preactivations, 4, axis=-1)
    memory = nn.sigmoid(f) * memory + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(memory), memory


class RHNCell(TwoWayCell):
    """The recurrent highway network (Zilly et al. 2017), as in the comparison of Ahuja & Morency.

    Each step updates the state s in k micro-steps, i = 1 ... k:
    t = sigmoid(R_i^t s),   s' = t * tanh(R_i^h s) + (1 - t) * s

    The first micro-step also adds a product with x inside the sigmoid and another inside the tanh.
    The formulas omit the biases. Unlike the network of Zilly et al., this one has no dropout, and
    its transform gates have no negative initial bias. It is therefore a weak baseline, as in the
    comparison.

    Parameters: dense layers `micro_0`, applied to [x; s], and `micro_1` ..., applied to s. The
    outputs of each are the preactivations of the tanh and of t, in that order. The layers are drawn
    like PyTorch's linear layers, from U(-b, b) with b = 1/sqrt(fan_in). A cell has
    4 H^2 + 2 H^2 (k - 1) + 2 H k parameters.

    Attributes:
      features, dtype, param_dtype: see `lru.layers.cells.TwoWayCell`.
      recurrence_depth: k, the number of micro-steps.
    """

    deferrable: ClassVar[bool] = True
    recurrence_depth: int = 2

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, int]]:
        check_sizes(recurrence_depth=self.recurrence_depth)
        width, depth = self.features, self.recurrence_depth
        return {f"micro_{i}": (width if i else 2 * width, 2 * width) for i in range(depth)}

    @nn.nowrap
    def bound(self, shape: tuple[int, int]) -> float:
        return 1 / math.sqrt(shape[0])

    @nn.nowrap
    def pack(self, params: Any) -> Any:
        """Splits the kernel of `micro_0` into the rows for x and the rows for s."""
        first = params["micro_0"]
        input, recurrent = jnp.split(first["kernel"], 2)
        rest = {name: layer for name, layer in params.items() if name != "micro_0"}
        return {"input": {"kernel": input, "bias": first["bias"]}, "recurrent": recurrent} | rest

    @nn.nowrap
    def input_projection(self, weights: Any, input: Any) -> Any:
        return self.dense(input, weights["input"])

    @nn.nowrap
    def step(self, weights: Any, carry: Any, input: Any, projected: Any) -> tuple[Any, Any]:
        s, both = carry, projected + self.times(carry, weights["recurrent"])
        for i in range(self.recurrence_depth):
            both = self.dense(s, weights[f"micro_{i}"]) if i else both
            new, transform = jnp.split(both, 2, axis=-1)
            transform = nn.sigmoid(transform)
            s = transform * jnp.tanh(new) + (1 - transform) * s
        return s, s


class GRU(RecurrentStack):
    """A stack of `GRUCell` layers, with the call signature of `lru.LRU`.

    Attributes: those of `lru.layers.stacks.RecurrentStack`, and `reset_after` of `GRUCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import GRU
      >>> x = jnp.ones((8, 50, 16))  # (B, T, H)
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
    """A stack of `LSTMCell` layers, with the attributes of `RecurrentStack`."""

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(LSTMCell, **options)


class GridLSTM(RecurrentStack):
    """A stack of `GridLSTMCell` layers, with the attributes of `RecurrentStack`."""

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(GridLSTMCell, **options)


class RHN(RecurrentStack):
    """A stack of `RHNCell` layers, with the call signature of `lru.LRU`.

    Attributes: those of `lru.layers.stacks.RecurrentStack`, and `recurrence_depth` of `RHNCell`.
    """

    recurrence_depth: int = 2

    @nn.nowrap
    def cell(self, **options: Any) -> TwoWayCell:
        return self.make(RHNCell, recurrence_depth=self.recurrence_depth, **options)
