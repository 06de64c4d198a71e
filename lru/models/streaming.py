"""Runs a causal model step by step, with constant memory, and exports such a step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from lru.ops.array_typing import Array, Num

Step = Callable[..., tuple[Any, Any]]

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stream(
    model: nn.Module, variables: Any, inputs: Num[Array, "B T *features"]
) -> tuple[Step, Any]:
    """Returns a function that runs a model on its next inputs, and the carry to start with.

    Args:
      model: a module whose call takes `initial_carry` and `return_carry`, whose default carry is
        zero, and whose attribute `causal` is True, such as `lru.LRU` or
        `lru.models.SequenceClassifier`.
      variables: the model's parameters and statistics. They become constants of the program, so
        values that depend only on them can be computed during compilation. New variables need a new
        call of `stream`.
      inputs: an example of the inputs of a call: one step `(B, 1, ...)`, or several steps.

    Returns:
      `(step, carry)`, where `carry` is the carry before the first step. `step(carry, inputs)`
      returns `(carry, outputs)`, computed without dropout and with the model's running statistics.
      `step` donates its argument `carry`: to use a carry again, copy it first. If steps are not
      evenly spaced, `step(carry, inputs, timesteps)` takes their timesteps, `(B, 1)` for one step.

    Raises:
      ValueError: if the model's `causal` is not True, or its `time_major` is True.

    Example:
      >>> import functools, jax, jax.numpy as jnp, lru
      >>> from lru.models import SequenceClassifier
      >>> mixer = functools.partial(lru.LRU, 16)
      >>> model = SequenceClassifier(10, d_model=8, num_layers=2, mixer=mixer, vocab_size=18)
      >>> tokens = jnp.array([[3, 1, 4, 1, 5]])
      >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
      >>> step, carry = stream(model, variables, tokens[:, :1])
      >>> for t in range(5):
      ...     carry, logits = step(carry, tokens[:, t : t + 1])
      >>> bool(jnp.allclose(logits, model.apply(variables, tokens), atol=1e-4))
      True
    """
    apply = _streamed(model, variables)

    def step(carry, inputs, timesteps=None):
        call = {} if timesteps is None else {"timesteps": timesteps}
        return apply(inputs, initial_carry=carry, **call)

    return jax.jit(step, donate_argnums=0), zero_carry(model, variables, inputs)


def zero_carry(model: nn.Module, variables: Any, inputs: Any) -> Any:
    """Returns the carry before the first step: zeros of the shapes and types of a model's carry.

    Args:
      model: see `stream`.
      variables: see `stream`; only their shapes and types matter.
      inputs: an example of one or several steps, `(B, T, ...)`; only its shape and type matter.
    """
    apply = functools.partial(model.apply, return_carry=True)
    shapes, _ = jax.eval_shape(apply, variables, inputs)
    return jax.tree.map(jnp.zeros_like, shapes)


def export_step(
    model: nn.Module, variables: Any, inputs: Num[Array, "B 1 *features"]
) -> export.Exported:
    """Exports the step of `stream` as a program, which can be stored and needs only JAX to run.

    The program's carry is a tuple of arrays, `(B, ...)` each, which are zero before the first step.
    The program runs for any batch size, and on CPUs, GPUs (CUDA or ROCm) and TPUs. It takes no
    timesteps: its steps are evenly spaced.

    Args:
      model: see `stream`.
      variables: see `stream`; they are part of the program.
      inputs: an example of the inputs of one step, `(B, 1, ...)`.

    Returns:
      The program. Its `call(carry, inputs)` returns `(carry, outputs)`, its `in_avals[:-1]` are the
      shapes and types of the carry, and its `serialize()` returns bytes that
      `jax.export.deserialize` reads.

    Raises:
      ValueError: if the model's `causal` is not True, or its `time_major` is True.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> layer, u = lru.LRU(16), jnp.ones((1, 1, 8))
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> content = export_step(layer, variables, u).serialize()
      >>> step = jax.export.deserialize(content)
      >>> carry = tuple(jnp.zeros((4, *x.shape[1:]), x.dtype) for x in step.in_avals[:-1])
      >>> carry, y = step.call(carry, jnp.ones((4, 1, 8)))
      >>> bool(jnp.allclose(y, layer.apply(variables, jnp.ones((4, 1, 8))), atol=1e-5))
      True
    """
    apply = _streamed(model, variables)
    (batch,) = export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, *inputs.shape[1:]), inputs.dtype)
    carry, _ = jax.eval_shape(apply, given)
    leaves, structure = jax.tree.flatten(carry)  # a tuple needs no class of this package

    def step(carry, inputs):
        carry, outputs = apply(inputs, initial_carry=jax.tree.unflatten(structure, carry))
        return tuple(jax.tree.leaves(carry)), outputs

    return export.export(jax.jit(step), platforms=_PLATFORMS)(tuple(leaves), given)


def _streamed(model, variables):
    """Returns the model's `apply`, with the variables and `return_carry=True` filled in.

    Raises:
      ValueError: if the model cannot be streamed.
    """
    if not (causal := getattr(model, "causal", None)):
        raise ValueError(
            f"{type(model).__name__}.causal is {causal}; expected True, because a model that "
            "looks ahead, such as a bidirectional one, cannot be streamed"
        )
    if getattr(model, "time_major", False):
        raise ValueError(
            f"{type(model).__name__}.time_major is True; expected False, because a step has the "
            "shape (B, 1, ...)"
        )
    return functools.partial(model.apply, variables, return_carry=True)
