"""What the paper compares the Linear Recurrent Unit with: layers with the call of `lru.LRU`."""

from lru.baselines.dense import DenseRNN
from lru.baselines.diagonal import DiagonalRNN
from lru.baselines.s4d import S4D
from lru.baselines.s5 import S5

__all__ = ["S4D", "S5", "DenseRNN", "DiagonalRNN"]
