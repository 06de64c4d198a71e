"""Records the norm of each layer's gradient, to show how deep the training signal reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lru.errors import UserError
from lru.ops.array_typing import Array, Float

_LAYER = re.compile(r"(?:^|/)(?:layers|blocks)_(\d+)(?:/|$)")
_KEY = "gradient_norm_layer_{}"


class GradientNorms(NamedTuple):
    """The optimizer state of `record_gradient_norms`.

    Attributes:
      total: the norm of each layer's gradient, summed over steps, `(L,)`.
      steps: the number of steps in the sum.
    """

    total: Float[Array, "L"]
    steps: Float[Array, ""]


def record_gradient_norms() -> optax.GradientTransformation:
    """Returns a gradient transformation that sums the norm of each layer's gradient over steps.

    It does not change the gradients. The layers are the subtrees `layers_0`, `layers_1`, ... or
    `blocks_0`, ... of the parameters. The transformation raises a `UserError` if there are no such
    subtrees.

    Example:
      >>> record = record_gradient_norms()
      >>> params = {"stack": {"layers_0": jnp.ones(4), "layers_1": jnp.ones(9)}}
      >>> _, state = record.update(params, record.init(params))
      >>> mean_norms(state)
      {'gradient_norm_layer_1': 2.0, 'gradient_norm_layer_2': 3.0}
    """

    def init(params: Any) -> GradientNorms:
        return GradientNorms(jnp.zeros(len(_layers(params))), jnp.zeros(()))

    def update(grads: Any, state: GradientNorms, params: Any = None) -> tuple[Any, GradientNorms]:
        norms = jnp.stack([optax.tree.norm(leaves) for leaves in _layers(grads)])
        return grads, GradientNorms(state.total + norms, state.steps + 1)

    return optax.GradientTransformation(init, update)


def _layers(tree: Any) -> list[list[Any]]:
    """Returns the leaves of each layer, in the order of the layers.

    Raises:
      UserError: the tree has no layers.
    """
    layers: dict[int, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if found := _LAYER.search(jax.tree_util.keystr(path, simple=True, separator="/")):
            layers.setdefault(int(found[1]), []).append(leaf)
    if not layers:
        raise UserError(
            "config.train.record_gradient_norms is True, but the model's parameters have no "
            "subtrees layers_0, ... or blocks_0, ...; expected False"
        )
    return [layers[number] for number in sorted(layers)]


def mean_norms(state: GradientNorms) -> dict[str, float]:
    """Returns each layer's gradient norm, as a mean over steps, by its key in a line of metrics.

    The keys number the layers from 1.
    """
    means = jax.device_get(state.total) / max(float(state.steps), 1.0)
    return {_KEY.format(layer): float(mean) for layer, mean in enumerate(means, 1)}


def norms_in_row(row: Mapping[str, Any]) -> Sequence[float]:
    """Returns the mean gradient norms of layers 1, 2, ... in a line of metrics; `[]` if none.

    Example:
      >>> norms_in_row({"step": 100, "gradient_norm_layer_1": 2.0, "gradient_norm_layer_2": 3.0})
      [2.0, 3.0]
    """
    prefix = _KEY.format("")
    found = {int(key[len(prefix) :]): row[key] for key in row if key.startswith(prefix)}
    return [found[layer] for layer in sorted(found)]
