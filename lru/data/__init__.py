"""Data sets, one module each, and the pipeline that turns a data set into batches.

This package does not depend on models. Importing it is fast, because it does not import TensorFlow
Datasets; the modules of data sets do.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from lru.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from lru.data.builder import SequenceDataset


def dataset_class(name: str) -> type[SequenceDataset]:
    """Returns the class of a data set by its name, which is also the name of its module.

    Raises:
      UserError: if there is no such data set.

    Example:
      >>> dataset_class("listops").num_classes
      10
    """
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    found = _find(name) if name in modules else None
    if found is None:
        known = [module for module in modules if _find(module)]
        raise UserError(f"there is no data set {name!r}; {did_you_mean(name, known)}")
    return found


def _find(module: str) -> type[SequenceDataset] | None:
    for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
        if isinstance(value, type) and getattr(value, "name", None) == module:
            return value
    return None
