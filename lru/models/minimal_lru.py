"""Trained models of minimal-LRU as models of this package.

minimal-LRU is another implementation of Orvieto et al. (2023) in JAX and Flax, by N. Zucchet et al.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Variables = Mapping[str, Any]
_DENSE = ("kernel", "bias")
_LRU = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im", "D")


def from_minimal_lru(variables: Variables) -> dict[str, Any]:
    """Converts the variables of minimal-LRU's `ClassificationModel`, or of its batched version.

    The arrays are the same, but have other names, and the two layers of each gated linear unit are
    one layer here. The result fits a `lru.models.SequenceClassifier` with the same sizes, norm and
    pooling, and `mixer=lru.LRU(d_hidden)`; the default norm of minimal-LRU is
    `norm="batch", prenorm=False` here. The softmax of the classifier's logits equals the
    exponential of minimal-LRU's outputs. The variables of a model without pooling fit a
    `lru.models.SequenceTagger`.

    Args:
      variables: nested dicts of arrays, with `params` and, for batch normalization, `batch_stats`.

    Raises:
      ValueError: if an array is missing.

    Example:
      >>> from lru.models.minimal_lru import from_minimal_lru
      >>> from_minimal_lru({"params": {}})
      Traceback (most recent call last):
      ...
      ValueError: the variables lack params/encoder; expected those of minimal-LRU's models
    """
    found = _Tree(variables, "")
    encoder = found["params"]["encoder"]
    blocks = {
        name.replace("layers_", "blocks_"): {
            "norm": layer["normalization"].arrays("scale", "bias"),
            "mixer": layer["seq"].arrays(*_LRU),
            "glu": _side_by_side(layer["out1"].arrays(*_DENSE), layer["out2"].arrays(*_DENSE)),
        }
        for name in encoder.value
        if name.startswith("layers_")
        for layer in [encoder[name]]
    }
    params = {
        "encoder": encoder["encoder"].arrays(*_DENSE),
        "stack": blocks,
        "head": found["params"]["decoder"].arrays(*_DENSE),
    }
    result: dict[str, Any] = {"params": params}
    if variables.get("batch_stats"):
        statistics = found["batch_stats"]["encoder"]
        result["batch_stats"] = {
            "stack": {
                name.replace("layers_", "blocks_"): {
                    "norm": layer["normalization"].arrays("mean", "var")
                }
                for name in statistics.value
                for layer in [statistics[name]]
            }
        }
    return jax.tree.map(jnp.asarray, result)


class _Tree:
    """Nested dicts whose errors name the whole path of a missing key."""

    def __init__(self, value: Any, path: str):
        self.value, self._path = value, path

    def __getitem__(self, name: str) -> _Tree:
        path = f"{self._path}/{name}".lstrip("/")
        if not isinstance(self.value, Mapping) or name not in self.value:
            raise ValueError(f"the variables lack {path}; expected those of minimal-LRU's models")
        return _Tree(self.value[name], path)

    def arrays(self, *names: str) -> dict[str, Any]:
        return {name: self[name].value for name in names}


def _side_by_side(value: Variables, gate: Variables) -> dict[str, Any]:
    return {name: jnp.concatenate([value[name], gate[name]], axis=-1) for name in _DENSE}
