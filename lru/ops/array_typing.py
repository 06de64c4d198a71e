"""The annotations of array shapes: `Float[Array, "*B T H"]` is a float array (..., T, H).

They document, and the tests check them at run time (jaxtyping and beartype, switched on in
tests/conftest.py). The library itself runs without jaxtyping: annotations are never evaluated.

Letters: B batch (`*B` any number of batch axes), T time, H model width, N state size,
L layers, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from jax.typing import ArrayLike

if (
    TYPE_CHECKING
):  # to a type checker all of them are `jax.Array`, whether jaxtyping is there or not
    from typing import Annotated as Bool
    from typing import Annotated as Complex
    from typing import Annotated as Float
    from typing import Annotated as Int
    from typing import Annotated as Num
    from typing import Annotated as Real

    from jax import Array

    PRNGKeyArray = Array
else:
    try:
        from jaxtyping import Array, Bool, Complex, Float, Int, Num, PRNGKeyArray, Real
    except ModuleNotFoundError:
        from typing import Annotated

        from jax import Array

        Bool = Complex = Float = Int = Num = Real = Annotated
        PRNGKeyArray = Array

Shape = tuple[Any, ...]  # of whole numbers; while a program is exported, symbols among them


class LayerOptions(TypedDict, total=False):
    """The keyword arguments of a layer's call, for type checkers; `return_carry` is apart.

    Lengths, resets and states may be arrays of JAX or NumPy, or lists.
    """

    initial_carry: Any
    init_key: Any
    seq_lengths: Any
    reset: Any
    time_major: bool | None
    reverse: bool | None
    keep_order: bool | None


class ModelOptions(TypedDict, total=False):
    """The keyword arguments of a model's call, for type checkers; `return_carry` is apart."""

    initial_carry: Any
    seq_lengths: Any
    reset: Any
    train: bool


__all__ = [
    "Array", "ArrayLike", "Bool", "Complex", "Float", "Int", "LayerOptions", "ModelOptions", "Num",
    "PRNGKeyArray", "Real", "Shape",
]  # fmt: skip
