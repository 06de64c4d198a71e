"""What the papers compare with: layers with the call of `lru.LRU`."""

from lru.baselines.dense import DenseRNN
from lru.baselines.diagonal import DiagonalRNN
from lru.baselines.recurrent import GRU, LSTM, RHN, GridLSTM
from lru.baselines.s4d import S4D
from lru.baselines.s5 import S5

__all__ = ["GRU", "LSTM", "RHN", "S4D", "S5", "DenseRNN", "DiagonalRNN", "GridLSTM"]
