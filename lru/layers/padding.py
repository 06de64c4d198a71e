"""Functions for padded sequences, as arrays with time first, `(T, *B)` or `(T, *B, ...)`.

The lengths are integers `(*B,)`, from 0 to T, or None if all steps are valid. Padding follows the
valid steps.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from lru.ops.array_typing import Array, Int
from lru.ops.recurrence import earlier


def flip(x: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """Flips x `(T, *B, ...)` along time, with padding still last."""
    if seq_lengths is None:
        return jnp.flip(x, 0)
    return flip_sequences(x, seq_lengths, num_batch_dims=seq_lengths.ndim, time_major=True)


def zero_padding(x: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """Returns x, `(T, *B)` or `(T, *B, ...)`, with padding, even NaN, replaced by zero or False."""
    if seq_lengths is None:
        return x
    return jnp.where(steps(x) < with_axes(seq_lengths[None], x.ndim), x, jnp.zeros_like(x))


def steps(x: Any) -> Any:
    """Returns the numbers 0 ... T - 1, `(T, 1, ..., 1)`, with as many axes as x."""
    return with_axes(jnp.arange(x.shape[0], dtype=jnp.int32), x.ndim)


def with_axes(x: Any, ndim: int) -> Any:
    """Appends axes of size 1 to x until it has `ndim` axes."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def right_to_left(timesteps: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """Returns the time that each step takes right to left, `(T, ...)`.

    Step k takes the time to the step on its right, `timesteps[k + 1]`. The last valid step is the
    first one consumed, and takes `timesteps[0]`, the time to the initial carry's step.

    Example:
      >>> right_to_left(jnp.array([1.0, 2.0, 3.0]), None).tolist()
      [2.0, 3.0, 1.0]
    """
    taken = earlier(timesteps, timesteps[:1], reverse=True)
    if seq_lengths is None:
        return taken
    return jnp.where(steps(taken) == seq_lengths[None] - 1, timesteps[:1], taken)
