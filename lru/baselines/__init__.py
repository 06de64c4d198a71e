"""What the papers compare with: layers with the call of `lru.LRU`."""

from lru.baselines.dense import DenseRNN
from lru.baselines.diagonal import DiagonalRNN
from lru.baselines.recurrent import GRU, LSTM, RHN, GridLSTM

__all__ = ["GRU", "LSTM", "RHN", "DenseRNN", "DiagonalRNN", "GridLSTM"]
