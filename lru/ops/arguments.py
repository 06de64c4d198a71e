"""Arguments of functions and layers: converted to what they compute with, or refused."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lru.ops.array_typing import Array, Bool, Int, Num, Shape


def as_array(name: str, value: Any) -> Num[Array, "..."]:
    """An argument as a JAX array.

    Args:
      name: of the argument, for the message.
      value: an array of JAX or NumPy, a number, or nested lists of numbers.

    Raises:
      ValueError: if it is none of these.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} is a {type(value).__name__}; expected an array of numbers"
        ) from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise ValueError(f"{name} has the type {array.dtype}; expected numbers")
    return array


def as_lengths(seq_lengths: Any, batch: Shape, time: Any) -> Int[Array, "*B"] | None:
    """Valid steps of each sequence, from 0 to T; None, for all, stays None.

    Args:
      seq_lengths: whole numbers `(*batch)`. A negative one means 0, one above T means T.
      batch: the axes of the batch.
      time: T.

    Raises:
      ValueError: if they are not whole numbers, or have another shape.

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
        raise ValueError(f"seq_lengths are {lengths.dtype}; expected whole numbers")
    if lengths.shape != tuple(batch):
        raise ValueError(f"seq_lengths have shape {lengths.shape}; expected {tuple(batch)}")
    if lengths.dtype.itemsize < 4:  # T may be more than such a type can hold
        lengths = lengths.astype(jnp.int32)
    return jnp.clip(lengths, 0, time).astype(jnp.int32)


def _on_host(seq_lengths):
    """Lengths that are not a JAX array yet: int64 becomes int32 without a wrong number."""
    try:
        found = np.asarray(seq_lengths)
    except ValueError:
        return seq_lengths
    if not found.size:
        return found.astype(np.int32)
    if not np.issubdtype(found.dtype, np.integer):
        return seq_lengths
    return np.clip(found, 0, np.iinfo(np.int32).max).astype(np.int32)


def as_resets(reset: Any, shape: Shape) -> Bool[Array, "..."] | None:
    """True where a reset is True or not zero; None, for nowhere, stays None.

    Args:
      reset: real numbers or truth values.
      shape: of the inputs without their last axis.

    Raises:
      ValueError: if it is complex, or has another shape.

    Example:
      >>> as_resets([0.0, 1.0], (2,)).tolist()
      [False, True]
    """
    if reset is None:
        return None
    reset = as_truth(reset)
    if reset.shape != tuple(shape):
        raise ValueError(f"reset has shape {reset.shape}; expected {tuple(shape)}")
    return reset


def as_truth(reset: Any) -> Bool[Array, "..."]:
    """A reset of any shape, True where it is True or not zero.

    Raises:
      ValueError: if it is complex, or no array.
    """
    reset = as_array("reset", reset)
    if jnp.iscomplexobj(reset):
        raise ValueError(f"reset is {reset.dtype}; expected True or False, or 1 or 0")
    return reset if reset.dtype == bool else reset != 0


def check_sizes(**sizes: Any) -> None:
    """Checks that each size is a whole number, at least 1.

    Raises:
      ValueError: one is not.
    """
    try:
        fit = all(operator.index(size) >= 1 for size in sizes.values())
        wanted = "at least 1"
    except TypeError:
        fit, wanted = False, "whole numbers, at least 1"
    if not fit:
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(f"{given}; expected {wanted}")
