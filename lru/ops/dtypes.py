"""The types that layers compute with.

If `jax_numpy_dtype_promotion` is `"strict"`, JAX raises an error where it would otherwise promote
types. Therefore, layers choose types by these functions, and convert arrays explicitly.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def result_type(*values: Any) -> Any:
    """Returns the common type of arrays and types, by JAX's standard promotion.

    Example:
      >>> with jax.numpy_dtype_promotion("strict"):
      ...     result_type(jnp.complex64, jnp.bfloat16)
      dtype('complex64')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*values)


def at_least_float32(*values: Any) -> Any:
    """Returns the common type of float32 and the given arrays and types."""
    return result_type(jnp.float32, *values)


def promoted(*arrays: Any) -> tuple[Any, ...]:
    """Returns the arrays, converted to their common type."""
    dtype = result_type(*arrays)
    return tuple(array.astype(dtype) for array in arrays)


def compute_dtype(inputs: Any, params: Any, dtype: Any = None) -> Any:
    """Returns the type of the factors of a layer's matrix products, and of its outputs.

    The rule is that of Flax's layers. Sums of products may have a wider type.

    Args:
      inputs: an array of real numbers, of any type.
      params: a tree of arrays, the layer's parameters or some of them.
      dtype: the type that the user asks for. None means the common type of inputs and parameters,
        or float32 if the common type is an integer or boolean type.

    Raises:
      ValueError: if the inputs are complex, or the result is not a real floating-point type.

    Example:
      >>> compute_dtype(jnp.ones(3, int), [jnp.ones(3, jnp.bfloat16)])
      dtype(bfloat16)
      >>> compute_dtype(jnp.ones(3, jnp.bfloat16), [jnp.ones(3)])
      dtype('float32')
    """
    if jnp.iscomplexobj(inputs):
        raise ValueError(f"inputs have dtype {jnp.dtype(inputs.dtype)}; expected real numbers")
    with jax.numpy_dtype_promotion("standard"):
        found = jnp.dtype(
            nn.dtypes.canonicalize_dtype(inputs, *jax.tree.leaves(params), dtype=dtype)
        )
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"dtype={found}; expected a real floating-point type")
    return found
