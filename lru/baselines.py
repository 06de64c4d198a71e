"""Baseline layers for comparison with the two LRUs, with the call signature of `lru.LRU`."""

from lru.layers.dense import DenseRNN
from lru.layers.diagonal import DiagonalRNN
from lru.layers.gated import GRU, LSTM, RHN, GridLSTM
from lru.layers.s4d import S4D
from lru.layers.s5 import S5

__all__ = ["GRU", "LSTM", "RHN", "S4D", "S5", "DenseRNN", "DiagonalRNN", "GridLSTM"]
