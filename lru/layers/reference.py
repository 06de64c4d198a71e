"""The reference LRU, written as in Appendix A of Orvieto et al. (2023).

The functions process one sequence; `AppendixA` applies them to a batch. They use complex matrix
products, and `lax.associative_scan` with Lambda repeated for every step. They are easy to compare
with the paper, but usually slower than `lru.LRU`, and they take more memory. Tests and benchmarks
use them.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.layers.linear import Parameters, eigenvalues, lru_parameters
from lru.ops.array_typing import Array, Float


def forward(params: Parameters, inputs: Float[Array, "T H"]) -> tuple[Any, Float[Array, "T H"]]:
    """Returns all states h_k `(T, N)` and all outputs y_k of one sequence, as in Appendix A."""
    b_norm = (params["B_re"] + 1j * params["B_im"]) * jnp.exp(params["gamma_log"])[:, None]
    lambdas = jnp.repeat(eigenvalues(params)[None], len(inputs), axis=0)
    _, states = jax.lax.associative_scan(_combine, (lambdas, _input_projection(b_norm, inputs)))
    return states, _read_out(params, "C", states) + params["D"] * inputs


def forward_bidirectional(params: Parameters, inputs: Float[Array, "T H"]) -> tuple[Any, Any]:
    """Returns the states and outputs of a bidirectional layer for one sequence.

    The states are a pair: those of the sequence, and those of the mirrored sequence, in mirrored
    order. The outputs are those of `forward` plus Re[C2 h], where h is the state of the mirrored
    sequence at the same input.
    """
    states, outputs = forward(params, inputs)
    mirrored, _ = forward(params, inputs[::-1])
    return (states, mirrored), outputs + _read_out(params, "C2", mirrored[::-1])


def _input_projection(b_norm, inputs):
    return jax.vmap(lambda u: b_norm @ u)(inputs)


def _read_out(params, name, states):
    c = params[f"{name}_re"] + 1j * params[f"{name}_im"]
    return jax.vmap(lambda h: (c @ h).real)(states)


def _combine(left, right):
    (a_left, b_left), (a_right, b_right) = left, right
    return a_right * a_left, a_right * b_left + b_right


class AppendixA(nn.Module):
    """The layer `lru.LRU`, computed by the functions of this module from the same parameters.

    It takes whole sequences, and starts from a zero state.

    Attributes: see `lru.LRU`.
    """

    d_state: int
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    bidirectional: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "B T H"],
        *,
        initial_carry: None = None,
        seq_lengths: None = None,
        reset: None = None,
        return_carry: bool = False,
        time_major: bool = False,
    ) -> Any:
        """Applies the layer to inputs `(B, T, H)`, or `(T, B, H)` if `time_major`.

        `initial_carry`, `seq_lengths` and `reset` are ignored.

        Returns:
          The outputs, or `(carry, outputs)` if `return_carry`.
        """
        params = lru_parameters(self, inputs.shape[-1], self.bidirectional)
        axis = 1 if time_major else 0
        run = forward_bidirectional if self.bidirectional else forward
        states, outputs = jax.vmap(functools.partial(run, params), axis, (0, axis))(inputs)
        carry = jax.tree.map(lambda x: x[:, -1], states)
        return (carry, outputs) if return_carry else outputs
