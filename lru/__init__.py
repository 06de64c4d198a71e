"""Linear and Lattice Recurrent Units in JAX and Flax.

`LRU` and `LRUCell` are the *Linear* Recurrent Unit of Orvieto et al. (2023), for Flax Linen;
`lru.nnx` holds the same layer for Flax NNX. The *Lattice* Recurrent Unit of Ahuja & Morency (2018)
is in `lru.lattice`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lru.linear import LRU, LRUCell
    from lru.recurrence import linear_recurrence

__version__ = "0.1.0"

__all__ = ["LRU", "LRUCell", "linear_recurrence"]

_MODULES = {"LRU": "linear", "LRUCell": "linear", "linear_recurrence": "recurrence"}


def __getattr__(name: str) -> Any:
    # Not imported above: what needs no JAX, such as processes that make data, starts without it.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
