"""Linear and Lattice Recurrent Units in JAX and Flax.

`LRU` and `LRUCell` are the *Linear* Recurrent Unit of Orvieto et al. (2023), for Flax Linen;
`lru.nnx` holds the same layer for Flax NNX.
"""

from lru.linear import LRU, LRUCell
from lru.recurrence import linear_recurrence

__version__ = "0.1.0"

__all__ = ["LRU", "LRUCell", "linear_recurrence"]
