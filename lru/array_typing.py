"""The annotations of array shapes: `Float[Array, "*B T H"]` is a float array (..., T, H).

They document, and the tests check them at run time (jaxtyping and beartype, switched on in
tests/conftest.py). The library itself runs without jaxtyping: annotations are never evaluated.

Letters: B batch (`*B` any number of batch axes), T time, H model width, N state size,
L layers, V vocabulary.
"""

from __future__ import annotations

from typing import Any

try:
    from jaxtyping import Array, Bool, Complex, Float, Int, Num, PRNGKeyArray, Real
except ModuleNotFoundError:
    from typing import Annotated

    from jax import Array

    Bool = Complex = Float = Int = Num = Real = Annotated  # type: ignore[assignment,misc]
    PRNGKeyArray = Array  # type: ignore[misc]

Shape = tuple[Any, ...]  # of whole numbers; while a program is exported, symbols among them

__all__ = ["Array", "Bool", "Complex", "Float", "Int", "Num", "PRNGKeyArray", "Real", "Shape"]
