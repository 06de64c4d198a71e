"""Products of many steps with one matrix, whose gradient is computed after the last step.

The gradient of a matrix w is the sum of x_t^T g_t over the steps t, where g_t is the gradient of
x_t w. By default, JAX adds a term at every step, which reads and writes an array as large as w. A
deferred product instead saves x_t and g_t, so that one product over all steps computes the sum.

In the backward pass of JAX, a step can hand on only the gradients of its arguments. Therefore, a
step has two more arguments, a record of zeros in the shapes of x_t and x_t w. They do not affect
its result, and x_t and g_t are passed on as their "gradients", of which JAX makes arrays with a
time axis. `defer` creates the record, and receives these arrays in its own backward pass.

For example, for three sequences and four steps of x_t = x_{t-1} w:

    >>> import jax, jax.numpy as jnp
    >>> def loss(w, x):
    ...     def step(x, record):
    ...         return deferred_matmul(x, Deferred(w, record), w.dtype), None
    ...     return jax.lax.scan(step, x, defer(w, (4, 3), w.dtype))[0].sum()
    >>> jax.grad(loss)(jnp.full((2, 2), 0.5), jnp.ones((3, 2))).tolist()
    [[12.0, 12.0], [12.0, 12.0]]
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lru.ops.array_typing import Array, Real, Shape
from lru.ops.dtypes import at_least_float32
from lru.ops.matmul import matmul


class Record(NamedTuple):
    """Arguments of one deferred product, or with time first of all of them; see the module.

    Attributes:
      factors: an array in the shape and type of x, `(..., B, K)`.
      gradients: an array in the shape and type of x w, `(..., B, M)`.
    """

    factors: Any
    gradients: Any


class Deferred(NamedTuple):
    """A matrix, or a stack of matrices, with the record of one product per matrix.

    Attributes:
      w: `(..., K, M)`.
      record: the record of this step.
    """

    w: Any
    record: Record


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def defer(w: Real[Array, "*L K M"], steps: Shape, dtype: Any) -> Record:
    """Returns a record of the products of all steps, whose gradient is the gradient of w.

    Every step must multiply by each matrix exactly once, with `deferred_matmul`; otherwise, the
    gradient is wrong. Forward-mode derivatives are not supported.

    Args:
      w: a matrix, or a stack of matrices.
      steps: `(T, ...)`, the number of steps, and the shape of a step's batch of rows.
      dtype: the type of the factors.

    Returns:
      A record of arrays `(T, *L, ..., K)` and `(T, *L, ..., M)`. Each step gets its own slice.
    """
    (time, *batch), (*stack, rows, columns) = steps, w.shape
    shape = (time, *stack, *batch)
    zeros = jnp.zeros((*shape, rows), dtype), jnp.zeros((*shape, columns), at_least_float32(dtype))
    return Record(*zeros)


def _defer_forward(w, steps, dtype):
    return defer(w, steps, dtype), w


def _defer_backward(steps, dtype, w, record):
    factors, gradients = (v.astype(w.dtype) for v in record)
    stack = tuple(range(1, w.ndim - 1))
    summed = (0, *range(w.ndim - 1, factors.ndim - 1))  # time and the step's batch
    return (lax.dot_general(factors, gradients, ((summed, summed), (stack, stack))),)


defer.defvjp(_defer_forward, _defer_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def deferred_matmul(x: Real[Array, "*B K"], deferred: Deferred, dtype: Any) -> Real[Array, "*B M"]:
    """Returns `matmul(x, deferred.w, dtype)`, without a gradient of w in this step's backward pass.

    Args:
      x: the rows, with the record's axes: `(..., K)`.
      deferred: one matrix, `(K, M)`, and its record at this step.
      dtype: the type to which both factors are converted.
    """
    return matmul(x, deferred.w, dtype)


def _matmul_forward(x, deferred, dtype):
    return deferred_matmul(x, deferred, dtype), (x, deferred.w)


def _matmul_backward(dtype, saved, g):
    x, w = saved
    (x_gradient,) = jax.linear_transpose(lambda x: matmul(x, w, dtype), x)(g)
    return x_gradient, Deferred(None, Record(x.astype(dtype), g))


deferred_matmul.defvjp(_matmul_forward, _matmul_backward)
