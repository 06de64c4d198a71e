"""A whole model fed one step at a time: a state of constant size, a program compiled once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from lru.ops.array_typing import Array, Num

Step = Callable[[Any, Array], tuple[Any, Any]]

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stream(
    model: nn.Module, variables: Any, inputs: Num[Array, "B T *features"]
) -> tuple[Step, Any]:
    """The model as a function of its state and of the inputs that come next.

    Args:
      model: a module that takes `initial_carry` and `return_carry`, begins with a state of zero,
        and says that it is `causal`, such as `lru.LRU` or `lru.models.SequenceClassifier`.
      variables: its parameters and statistics. They become constants of the program, so that
        whatever depends on them alone is computed when it is compiled; new ones need a new call.
      inputs: an example of what a step takes: one step `(B, 1, ...)`, or a chunk of several.

    Returns:
      `(step, carry)`. `step(carry, inputs)` gives `(carry, outputs)`, as the model does without
      dropout and with the running statistics; the carry returned here is for the first step. A
      step uses up the carry that it is given: copy one to come back to.

    Raises:
      ValueError: if the model does not say that it is causal, or has time first.

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

    def step(carry, inputs):
        return apply(inputs, initial_carry=carry)

    return jax.jit(step, donate_argnums=0), zero_carry(model, variables, inputs)


def zero_carry(model: nn.Module, variables: Any, inputs: Any) -> Any:
    """The state before the first step: zeros, in the shapes of what `return_carry` gives.

    Args:
      model: as of `stream`.
      variables: as of `stream`; only their shapes matter, and of `inputs` too.
      inputs: an example of a step `(B, 1, ...)`.
    """
    apply = functools.partial(model.apply, return_carry=True)
    shapes, _ = jax.eval_shape(apply, variables, inputs)
    return jax.tree.map(jnp.zeros_like, shapes)


def export_step(
    model: nn.Module, variables: Any, inputs: Num[Array, "B 1 *features"]
) -> export.Exported:
    """The step of `stream` as a program to be kept in a file, which takes JAX alone to run.

    Its carry is a tuple of arrays, `(B, ...)` each, and zeros before the first step. The batch may
    have any size, and the platform may be another one.

    Args:
      model: as of `stream`.
      variables: as of `stream`; they are part of the program.
      inputs: an example of one step.

    Returns:
      What `serialize()` makes bytes of, and `jax.export.deserialize` makes of bytes again. Its
      `call(carry, inputs)` gives `(carry, outputs)`; `in_avals[:-1]` are the carry's shapes.

    Raises:
      ValueError: if the model does not say that it is causal.

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
    leaves, structure = jax.tree.flatten(carry)  # a tuple of arrays takes no class of ours to read

    def step(carry, inputs):
        carry, outputs = apply(inputs, initial_carry=jax.tree.unflatten(structure, carry))
        return tuple(jax.tree.leaves(carry)), outputs

    return export.export(jax.jit(step), platforms=_PLATFORMS)(tuple(leaves), given)


def _streamed(model, variables):
    """The model without dropout, as a function of inputs and the carry before them."""
    if not (causal := getattr(model, "causal", None)):
        raise ValueError(
            f"{type(model).__name__}.causal is {causal}; expected True: what looks ahead, as a "
            "bidirectional layer does, cannot be streamed"
        )
    if getattr(model, "time_major", False):
        raise ValueError(
            f"{type(model).__name__}.time_major is True; expected False: a step is (B, 1, ...)"
        )
    return functools.partial(model.apply, variables, return_carry=True)
