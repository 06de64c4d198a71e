"""Scans over the chunks of a long sequence, storing little for the backward pass.

The body of such a scan is a function, such as a layer or a whole block: it takes parameters, a
state and a chunk of inputs, and returns the next state and a chunk of outputs. The backward pass
recomputes the values inside a chunk from its inputs and the state before it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from lru.ops import platform
from lru.ops.array_typing import Array, Int, Shape

Body = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def scan_chunks(
    body: Body,
    params: Any,
    carry: Any,
    xs: Any,
    *,
    chunk_size: int,
    seq_lengths: Int[Array, "*B"] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Computes `body(params, carry, xs, seq_lengths)` chunk by chunk.

    If a sequence has no valid step, a given carry does not change, whatever the body returns.

    Args:
      body: `(params, carry, xs, seq_lengths) -> (carry, ys)`. Calling it on two chunks of a
        sequence in turn, passing on the carry, must give the same result as one call on both.
      params: a tree of arrays that the body depends on, such as a layer's parameters.
      carry: the carry before the first step consumed, with the structure and types of the carry
        that the body returns. The leading axes of each array are those of the batch. If there is a
        single chunk, the carry may be None, which is passed to the body.
      xs: a tree of arrays with time first; the first array is `(T, ..., H)`.
      chunk_size: the number of steps in a chunk; 0 for all steps. A sequence that fits in one
        chunk, or whose T is symbolic, takes a single call of the body.
      seq_lengths: `(...)`, the number of valid steps of each sequence; None if all are valid. The
        body receives the number of valid steps in its chunk. If there are several chunks and T is
        not a multiple of `chunk_size`, the body receives lengths even for None, because the last
        chunk is padded.
      reverse: whether the body, and therefore the scan over chunks, goes from right to left.

    Returns:
      `(carry, ys)`: the carry after the last valid step consumed, and the outputs of all T steps.
    """
    first = jax.tree.leaves(xs)[0]
    time, batch = first.shape[0], first.shape[1:-1]

    if not chunk_size or is_symbolic_dim(time) or time <= chunk_size:
        after, ys = body(params, carry, xs, seq_lengths)
        return _where_any(seq_lengths, after, carry), ys
    missing = -time % chunk_size
    if missing:  # the steps added to the last chunk count as padding
        seq_lengths = (
            jnp.full(batch, time) if seq_lengths is None else jnp.minimum(seq_lengths, time)
        )

    def step(params, carry, inputs):
        start, xs = inputs
        valid = None if seq_lengths is None else jnp.clip(seq_lengths - start, 0, chunk_size)
        after, ys = body(params, carry, xs, valid)
        return _where_any(valid, after, carry), ys

    starts = jnp.arange(0, time, chunk_size)
    xs = jax.tree.map(functools.partial(_split, missing, chunk_size), xs)
    step = functools.partial(jax.checkpoint(step, prevent_cse=False), params)
    carry, ys = lax.scan(step, carry, (starts, xs), reverse=reverse)
    return carry, jax.tree.map(
        lambda y: y.reshape(len(starts) * chunk_size, *y.shape[2:])[:time], ys
    )


# The bytes available to a chunk, on a CPU (True) or another device (False). The CPU's value
# was found by measurement, and is about the size of a core's cache. The other value is for
# accelerators without ample memory. Accelerators with ample memory compute all steps at once.
_CHUNK_BYTES = {True: 2**21, False: 2**28}


def best_chunk_size(time_and_batch: Shape, width: int) -> int:
    """Returns the default number of steps per chunk.

    If the device has ample memory, all steps are one chunk. Otherwise, a chunk of more than 16
    steps takes at most the platform's value of `_CHUNK_BYTES`, where a step of one sequence counts
    as `width` float32 values. T must be a number; symbolic axes of the batch count as 1.
    """
    time, *batch = (1 if is_symbolic_dim(axis) else axis for axis in time_and_batch)
    if platform.has_ample_memory():
        return time
    available = _CHUNK_BYTES[platform.is_cpu()]
    longest = max(16, available // max(1, 4 * width * math.prod(batch)))
    return -(-time // -(-time // longest))


def resolve_chunk_size(chunk_size: int | None, time_and_batch: Shape, width: int) -> int:
    """Returns `chunk_size` or, for None, `best_chunk_size`, but at most T; 0 means all steps.

    Returns 0 for a symbolic T, which cannot be divided into chunks.

    Raises:
      ValueError: if `chunk_size` is neither None nor an integer of at least 0.
    """
    if chunk_size is not None and not (isinstance(chunk_size, Integral) and chunk_size >= 0):
        raise ValueError(
            f"chunk_size={chunk_size}; expected a positive number of steps, 0 for all steps, or "
            "None"
        )
    if is_symbolic_dim(time := time_and_batch[0]):
        return 0
    return min(time, best_chunk_size(time_and_batch, width) if chunk_size is None else chunk_size)


def _split(missing, chunk_size, x):
    """Reshapes (T, ...) to (chunks, chunk_size, ...), after adding `missing` steps of zeros."""
    if missing:
        x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(x.shape[0] // chunk_size, chunk_size, *x.shape[1:])


def _where_any(valid, after, before):
    """Returns `after`; for sequences without a valid step, returns `before` if it is not None."""
    if valid is None or before is None:
        return after

    def choose(after, before):
        some = valid.reshape(valid.shape + (1,) * (after.ndim - valid.ndim)) > 0
        return jnp.where(some, after, before)

    return jax.tree.map(choose, after, before)
