"""Parameters of a Linen module that are drawn together, such as real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from lru.ops.array_typing import Array, PRNGKeyArray

Draw = Callable[[PRNGKeyArray], Mapping[str, Array]]


def drawn_together(module: nn.Module, draw: Draw, dtype: Any) -> dict[str, Array]:
    """Returns, by name, the parameters that one function draws from one key.

    Args:
      module: the module that holds the parameters; its `init` creates them.
      draw: a function that draws all parameters, by name, from a key.
      dtype: the type of the parameters.
    """
    names = jax.eval_shape(draw, jax.random.key(0))
    is_new = any(not module.has_variable("params", name) for name in names)
    key = module.make_rng("params") if is_new else None

    def init(own_key, name):  # `own_key` is used only for shapes, when no parameter is created
        return draw(own_key if key is None else key)[name].astype(dtype)

    return {name: module.param(name, init, name) for name in names}
