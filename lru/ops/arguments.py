"""Checks and conversions of the arguments of functions and layers."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lru.ops.array_typing import (
    Array,
    Bool,
    Float,
    Int,
    Lengths,
    Num,
    Resets,
    Shape,
    Timesteps,
)
from lru.ops.dtypes import at_least_float32


def as_array(name: str, value: Any) -> Num[Array, "..."]:
    """Returns an argument as a JAX array.

    Args:
      name: the argument's name, for the error message.
      value: a JAX or NumPy array, a number, or nested lists of numbers; booleans count as numbers.

    Raises:
      ValueError: if the value cannot be converted to an array of numbers.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} is a {type(value).__name__}; expected an array of numbers"
        ) from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise ValueError(f"{name} has dtype {array.dtype}; expected numbers")
    return array


def as_lengths(seq_lengths: Lengths, batch: Shape, time: Any) -> Int[Array, "*B"] | None:
    """Returns the lengths of sequences as int32, clipped to the range from 0 to T.

    Args:
      seq_lengths: the number of valid steps of each sequence, integers of shape `batch`. None means
        that all steps are valid, and is returned unchanged.
      batch: the shape of the batch.
      time: T, the number of steps.

    Raises:
      ValueError: if the lengths are not integers, or their shape is not `batch`.

    Example:
      >>> as_lengths([9, -1], (2,), 5).tolist()
      [5, 0]
    """
    if seq_lengths is None:
        return None
    if not isinstance(seq_lengths, jax.Array):
        seq_lengths = _on_host(seq_lengths)
    lengths = as_array("seq_lengths", seq_lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"seq_lengths have dtype {lengths.dtype}; expected integers")
    if lengths.shape != tuple(batch):
        raise ValueError(f"seq_lengths have shape {lengths.shape}; expected {tuple(batch)}")
    if lengths.dtype.itemsize < 4:  # T may exceed the largest value of such a type
        lengths = lengths.astype(jnp.int32)
    return jnp.clip(lengths, 0, time).astype(jnp.int32)


def _on_host(seq_lengths):
    """Clips integers to [0, 2^31 - 1] with NumPy, because JAX may wrap larger integers.

    Returns other values unchanged, but converts an empty array to int32.
    """
    try:
        lengths = np.asarray(seq_lengths)
    except ValueError:
        return seq_lengths  # `as_lengths` rejects what cannot be clipped
    if not lengths.size:
        return lengths.astype(np.int32)
    if not np.issubdtype(lengths.dtype, np.integer):
        return seq_lengths
    return np.clip(lengths, 0, np.iinfo(np.int32).max).astype(np.int32)


def as_resets(reset: Resets, shape: Shape) -> Bool[Array, "..."] | None:
    """Returns resets as booleans, True where a reset is True or nonzero.

    Args:
      reset: real numbers or booleans. None means no resets, and is returned unchanged.
      shape: the shape that the resets must have.

    Raises:
      ValueError: if the resets are not real numbers or booleans, or have another shape.

    Example:
      >>> as_resets([0.0, 1.0], (2,)).tolist()
      [False, True]
    """
    if reset is None:
        return None
    reset = as_bool(reset)
    if reset.shape != tuple(shape):
        raise ValueError(f"reset has shape {reset.shape}; expected {tuple(shape)}")
    return reset


def as_bool(reset: Resets) -> Bool[Array, "..."]:
    """Returns resets of any shape as booleans, True where a reset is True or nonzero.

    Raises:
      ValueError: if the resets are complex, or not an array of numbers.
    """
    reset = as_array("reset", reset)
    if jnp.iscomplexobj(reset):
        raise ValueError(f"reset has dtype {reset.dtype}; expected True or False, or 1 or 0")
    return reset if reset.dtype == bool else reset != 0


def as_timesteps(timesteps: Timesteps, shape: Shape) -> Float[Array, "..."] | None:
    """Returns timesteps as a JAX array, at least float32.

    Args:
      timesteps: positive floating-point numbers. The sign is not checked, because traced values are
        unknown. None means that all timesteps are 1, and is returned unchanged.
      shape: the shape that the timesteps must have.

    Raises:
      ValueError: if the timesteps are not real floating-point numbers, or have another shape.

    Example:
      >>> as_timesteps([0.5, 2.0], (2,)).tolist()
      [0.5, 2.0]
    """
    if timesteps is None:
        return None
    timesteps = as_array("timesteps", timesteps)
    if not jnp.issubdtype(timesteps.dtype, jnp.floating):
        raise ValueError(
            f"timesteps have dtype {timesteps.dtype}; expected real floating-point numbers"
        )
    if timesteps.shape != tuple(shape):
        raise ValueError(f"timesteps have shape {timesteps.shape}; expected {tuple(shape)}")
    return timesteps.astype(at_least_float32(timesteps))


def check_sizes(**sizes: Any) -> None:
    """Checks that each size is an integer of at least 1.

    Raises:
      ValueError: if a size is not an integer, or is less than 1.
    """
    for name, size in sizes.items():
        try:
            valid = operator.index(size) >= 1
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(f"{name}={size}; expected a whole number of at least 1")
