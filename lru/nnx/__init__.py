"""Flax NNX modules: the LRU and its cell, the lattice and its cells, a residual block and models.

Parameters have the same names as in Linen. `nnx.update(module, variables["params"])` copies them
from Linen, and `nnx.to_pure_dict(nnx.state(module, nnx.Param))` returns them for Linen.
"""

from lru.nnx.linear import LRU, LRUCell
from lru.nnx.wrapped import (
    LanguageModel,
    Lattice,
    LatticeCell,
    ResidualBlock,
    SequenceClassifier,
)

__all__ = [
    "LRU",
    "LRUCell",
    "LanguageModel",
    "Lattice",
    "LatticeCell",
    "ResidualBlock",
    "SequenceClassifier",
]
