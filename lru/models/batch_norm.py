"""Batch normalization over time and batch, excluding padding."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lru.ops.array_typing import Array, Float, Int, Lengths, Num
from lru.ops.dtypes import at_least_float32


class BatchStatistics(nn.Module):
    """A module for the mean, scale and bias of batch normalization, (x - mean) * scale + bias.

    Each of the three is `(H,)`; the scale is the parameter `scale` over sqrt(variance + epsilon).
    Given these, each chunk of x can be normalized where it is used. If `train` is True, the mean
    and the variance are those of x over time and batch, excluding padding; except at
    initialization, the running statistics are then updated. Otherwise, the running statistics are
    used. The parameters and running statistics have the names and shapes of those of
    `flax.linen.BatchNorm`.

    Attributes:
      momentum: the momentum of the running statistics.
      epsilon: the constant added to the variance.
    """

    momentum: float = 0.99
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "T B H"], seq_lengths: Lengths, train: bool) -> Any:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        weight = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = _mean_and_variance(x, padding_mask(x, seq_lengths))
            if not self.is_initializing():
                for running, now in ((running_mean, mean), (running_var, var)):
                    mixed = self.momentum * running.value + (1 - self.momentum) * now
                    running.value = mixed.astype(running.value.dtype)
        return mean, weight * jax.lax.rsqrt(var + self.epsilon), bias


def _mean_and_variance(x, mask):
    x = x.astype(at_least_float32(x))
    count = math.prod(x.shape[:2])
    if mask is not None:
        count = jnp.maximum(mask.sum(), 1).astype(x.dtype)
    # Sums of x and x^2 need only one pass over x.
    mean, square = (jnp.sum(v, (0, 1), where=mask) / count for v in (x, x * x))
    return mean, jnp.maximum(square - mean * mean, 0)


def padding_mask(x: Num[Array, "T B ..."], seq_lengths: Int[Array, "B"] | None) -> Any:
    """Returns a mask `(T, B, 1)`, True on the valid steps of x; None if `seq_lengths` is None."""
    if seq_lengths is None:
        return None
    return (jnp.arange(x.shape[0])[:, None] < seq_lengths[None])[..., None]
