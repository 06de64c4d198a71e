"""Linear and Lattice Recurrent Units in JAX and Flax.

`LRU` and `LRUCell` are the *Linear* Recurrent Unit of Orvieto et al. (2023), for Flax Linen;
`lru.nnx` has both for Flax NNX. The *Lattice* Recurrent Unit of Ahuja & Morency (2018) is in
`lru.lattice`.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["LRU", "LRUCell", "linear_recurrence"]

_MODULES = {
    "LRU": "layers.linear",
    "LRUCell": "layers.linear",
    "linear_recurrence": "ops.recurrence",
}

if TYPE_CHECKING:
    from lru import analysis as analysis
    from lru import baselines as baselines
    from lru import export as export
    from lru import lattice as lattice
    from lru import layers as layers
    from lru import models as models
    from lru import nnx as nnx
    from lru import ops as ops
    from lru import spectrum as spectrum
    from lru.layers.linear import LRU, LRUCell
    from lru.ops.recurrence import linear_recurrence
else:
    # Modules and names are imported on first use, so processes that need no JAX, such as those that
    # prepare data, start without it.
    def __getattr__(name):
        import importlib

        if name in _MODULES:
            return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        module = f"{__name__}.{name}"
        try:
            if not name.startswith("_"):
                return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # the module exists, but a package that it imports does not
                raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        import pkgutil

        modules = [module.name for module in pkgutil.iter_modules(__path__)]
        return sorted({*__all__, "__doc__", "__file__", "__path__", "__version__", *modules})
