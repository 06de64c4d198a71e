"""Products with matrices: x w for x of any rank, over its last axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lru.ops.array_typing import Array, Real
from lru.ops.dtypes import at_least_float32


def matmul(x: Real[Array, "*B K"], w: Real[Array, "K M"], dtype: Any) -> Real[Array, "*B M"]:
    """x w with operands of type `dtype`, summed in float32 at least."""
    sum_type = at_least_float32(dtype)
    x, w = x.astype(dtype), w.astype(dtype)
    return by_rows(lambda rows: jnp.matmul(rows, w, preferred_element_type=sum_type), x)


def by_rows(f: Callable[[Any], Real[Array, "*B M"]], x: Real[Array, "*B K"]) -> Real[Array, "*B M"]:
    """f(x) for an f that takes `(rows, K)` to `(rows, M)`, row by row: time and batch as one axis.

    The gradient of a matrix sums over all rows. Where they are two axes, XLA first copies the
    outputs' gradients transposed. Among several devices the axes stay as they are: a batch that is
    split over them could not stay so as part of a longer axis.

    Args:
      f: what to do with the rows.
      x: `(..., K)`.
    """
    if x.ndim < 3 or jax.device_count() > 1:
        return f(x)
    y = f(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
    return y.reshape(*x.shape[:-1], y.shape[-1])
