"""Pooling over time, which can continue from earlier steps.

A pooling function maps `(x, seq_lengths, before)` to a `Pooled`. x is `(T, B, H)`, and `before` is
the `Pooled` of the earlier steps, or None.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from lru.models.batch_norm import padding_mask
from lru.ops.array_typing import Array, Float, Int
from lru.ops.dtypes import at_least_float32
from lru.ops.platform import sum_parts

Pooling = Literal["mean", "last"]


class Pooled(NamedTuple):
    """The state of pooling: the sum of the vectors to average, and their number."""

    total: Float[Array, "B H"]
    steps: Int[Array, "B"]

    def mean(self) -> Float[Array, "B H"]:
        return self.total / jnp.maximum(self.steps, 1)[:, None].astype(self.total.dtype)


def pool_mean(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """Sums and counts the valid steps of x, and adds the sum and the count of earlier steps."""
    mask = padding_mask(x, seq_lengths)
    now = Pooled(_sum_over_time(x, mask), _lengths(x, seq_lengths))
    return now if before is None else Pooled(*(a + b for a, b in zip(before, now)))


def pool_last(
    x: Float[Array, "T B H"], seq_lengths: Int[Array, "B"] | None, before: Pooled | None = None
) -> Pooled:
    """Returns each sequence's last valid step, with a count of one.

    If x has no valid step of a sequence, the vector and the count are those in `before`, or zero if
    `before` is None.
    """
    lengths = _lengths(x, seq_lengths)
    index = jnp.maximum(lengths - 1, 0)[None, :, None]
    last = jnp.take_along_axis(x, index, axis=0)[0]
    total, steps = (jnp.zeros_like(last), jnp.zeros_like(lengths)) if before is None else before
    not_empty = lengths > 0
    return Pooled(jnp.where(not_empty[:, None], last, total), jnp.where(not_empty, 1, steps))


def _sum_over_time(x, mask):
    """Sums x over time where `mask`, if any, is True, in parts that suit the platform."""
    parts = sum_parts(len(x))
    options = dict(dtype=at_least_float32(x), where=mask)
    if parts == 1:
        return jnp.sum(x, axis=0, **options)
    if mask is not None:
        options["where"] = mask.reshape(parts, -1, *mask.shape[1:])
    sums = jnp.sum(x.reshape(parts, -1, *x.shape[1:]), axis=1, **options)
    return lax.optimization_barrier(sums).sum(0)  # XLA would join the two sums again


def _lengths(x, seq_lengths):
    time, batch = x.shape[:2]
    return jnp.full(batch, time) if seq_lengths is None else jnp.minimum(seq_lengths, time)


POOL = {"mean": pool_mean, "last": pool_last}
