"""What the paper compares the Linear Recurrent Unit with: layers with the call of `lru.LRU`."""

from lru.baselines.dense import DenseRNN
from lru.baselines.diagonal import DiagonalRNN

__all__ = ["DenseRNN", "DiagonalRNN"]
