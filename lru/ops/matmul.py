"""Matrix products x w over the last axis of x, for x with any number of batch axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lru.ops.array_typing import Array, Real
from lru.ops.dtypes import at_least_float32


def matmul(
    x: Real[Array, "*B K"], w: Real[Array, "K M"], dtype: Any, result: Any = None
) -> Real[Array, "*B M"]:
    """Returns x w, with factors of type `dtype`.

    Args:
      x: the inputs, `(..., K)`.
      w: the matrix, `(K, M)`.
      dtype: the type to which both factors are converted.
      result: the type of the result; None means the common type of `dtype` and float32.
    """
    stored = at_least_float32(dtype) if result is None else result
    x, w = x.astype(dtype), w.astype(dtype)
    return by_rows(lambda rows: jnp.matmul(rows, w, preferred_element_type=stored), x)


def by_rows(f: Callable[[Any], Real[Array, "*B M"]], x: Real[Array, "*B K"]) -> Real[Array, "*B M"]:
    """Applies a function to the rows of x, with all axes but the last merged into one.

    If JAX has several devices, the axes are not merged, because a batch sharded over devices might
    not stay sharded as part of a longer axis.

    Args:
      f: a function that maps each row `(K,)` of its argument to a row `(M,)`.
      x: the rows, `(..., K)`.
    """
    # The gradient with respect to a matrix is a sum over all rows. If time and batch were separate
    # axes, XLA would first make a transposed copy of the outputs' gradients.
    if x.ndim < 3 or jax.device_count() > 1:
        return f(x)
    y = f(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
    return y.reshape(*x.shape[:-1], y.shape[-1])
