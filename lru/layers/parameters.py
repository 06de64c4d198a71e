"""Parameters of a Linen module that are drawn together, such as both parts of a complex number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from lru.ops.array_typing import Array, PRNGKeyArray

Draw = Callable[[PRNGKeyArray], Mapping[str, Array]]


def drawn_together(module: nn.Module, draw: Draw, dtype: Any) -> dict[str, Array]:
    """The parameters that one function of one key gives by name, made when the module is new."""
    names = jax.eval_shape(draw, jax.random.key(0))
    is_new = any(not module.has_variable("params", name) for name in names)
    key = module.make_rng("params") if is_new else None

    def init(own_key, name):  # without a key of theirs, only the shapes are asked for
        return draw(own_key if key is None else key)[name].astype(dtype)

    return {name: module.param(name, init, name) for name in names}
