"""Complex numbers as pairs: the last axis has all real parts first and then all imaginary parts."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from lru.ops.dtypes import at_least_float32


def to_pairs(v):
    """Returns the real and imaginary parts of v side by side, as `(..., 2N)`; None as None."""
    return v if v is None else jnp.concatenate([v.real, v.imag], axis=-1)


def from_pairs(v):
    """Returns pairs `(..., 2N)` as complex numbers `(..., N)`, at least complex64; None as None."""
    return v if v is None else lax.complex(*jnp.split(v.astype(at_least_float32(v)), 2, axis=-1))


def times_pairs(a, b):
    """Returns the elementwise product, as pairs, of complex numbers given as pairs."""
    # In complex numbers, so that the derivative of a constant a is one sum, which reads b once.
    return to_pairs(from_pairs(a) * from_pairs(b))


def conjugate_pairs(a):
    """Conjugates complex numbers given as pairs."""
    re, im = jnp.split(a, 2, axis=-1)
    return jnp.concatenate([re, -im], axis=-1)
