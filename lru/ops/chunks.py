"""A long sequence worked through a chunk at a time, with little kept for the backward pass.

Whatever takes a state and a piece of a sequence, and gives a state and a piece of outputs, can be
run so: a layer as a function of its parameters, or a whole block. What it computes inside a chunk
stays in the processor's cache, and is computed again when gradients pass by; kept are the inputs
and the states between chunks.
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
    """Equals `body(params, carry, xs, seq_lengths)`, for a body that is causal.

    Where a sequence has no valid step the state stays as it was, whatever the body makes of it.

    Args:
      body: `(params, carry, xs, seq_lengths) -> (carry, ys)`. Two chunks of a sequence, the carry
        handed on, must equal the whole.
      params: what the body is a function of beside these, such as parameters: a tree of arrays.
      carry: the state before, with the structure and types that the body returns; each of its
        arrays has the batch's axes first. None, which the body gets, only if `chunk_size` is 0.
      xs: arrays with time first; the first of them is `(T, ..., H)`.
      chunk_size: steps at a time; 0 for all. A sequence that is no longer is one call of the body.
      seq_lengths: `(...)`, the valid steps of each sequence. The body gets those of its chunk; it
        gets some, too, where T is not a multiple of the chunk.
      reverse: the body goes from right to left, and so do the chunks.

    Returns:
      `(carry, ys)`.
    """
    first = jax.tree.leaves(xs)[0]
    time, batch = first.shape[0], first.shape[1:-1]

    if not chunk_size or is_symbolic_dim(time) or time <= chunk_size:
        after, ys = body(params, carry, xs, seq_lengths)
        return _where_any(seq_lengths, after, carry), ys
    missing = -time % chunk_size
    if missing:  # what is filled up counts as padding
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


# How much of a chunk may be at hand, by platform. The CPU's figure, about a core's cache, is
# measured; the other is for accelerators, which want long chunks and have memory.
_BYTES_AT_HAND = {"cpu": 2**21, "gpu": 2**28}


def best_chunk_size(time_and_batch: Shape, width: int) -> int:
    """The steps whose arrays of `width` float32 fit into the processor's cache; equal chunks.

    While a program is exported, T must be a number; axes of the batch that are symbols count as 1.
    """
    time, *batch = (1 if is_symbolic_dim(axis) else axis for axis in time_and_batch)
    at_hand = _BYTES_AT_HAND.get(jax.default_backend(), _BYTES_AT_HAND["gpu"])
    longest = max(16, at_hand // max(1, 4 * width * math.prod(batch)))
    return -(-time // -(-time // longest))


def steps_at_once(chunk_size: int | None, time_and_batch: Shape, width: int) -> int:
    """The steps of a chunk, 0 for all, by a setting `chunk_size`: the best if it is None.

    While a program is exported whose T is a symbol, it is all: T cannot be divided.

    Raises:
      ValueError: if the setting is no whole number, or negative.
    """
    if chunk_size is not None and not (isinstance(chunk_size, Integral) and chunk_size >= 0):
        raise ValueError(
            f"chunk_size={chunk_size}; expected a number of steps, 0 for all of them, or None"
        )
    if is_symbolic_dim(time := time_and_batch[0]):
        return 0
    return min(time, best_chunk_size(time_and_batch, width) if chunk_size is None else chunk_size)


def _split(missing, chunk_size, x):
    """(T, ...) to (chunks, chunk_size, ...), filled up at the end."""
    if missing:
        x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(x.shape[0] // chunk_size, chunk_size, *x.shape[1:])


def _where_any(valid, after, before):
    """The carry after, but the one before where a sequence has no valid step."""
    if valid is None or before is None:
        return after

    def choose(after, before):
        some = valid.reshape(valid.shape + (1,) * (after.ndim - valid.ndim)) > 0
        return jnp.where(some, after, before)

    return jax.tree.map(choose, after, before)
