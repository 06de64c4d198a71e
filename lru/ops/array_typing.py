"""Annotations of array shapes: `Float[Array, "*B T H"]` is a float array (..., T, H).

They serve as documentation. The tests check those of some modules at run time with jaxtyping and
beartype, through an import hook in tests/conftest.py. The library runs without jaxtyping: names
such as `Float` are then aliases of `typing.Annotated`.

Common letters: B batch (`*B` for any number of batch axes), T time, H model width, N state size,
L layers, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from jax.typing import ArrayLike

if TYPE_CHECKING:  # a type checker sees `jax.Array`, whether jaxtyping is installed or not
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

Shape = tuple[Any, ...]  # integers, or symbolic dimensions while a program is exported

# The roles of arguments. Arrays may be JAX or NumPy arrays, or lists.
Carry = Any  # the state between two calls: an array, or a tree of arrays; None at the start
Lengths = Any  # the number of valid steps of each sequence, integers (*B,); None: all steps
Resets = Any  # where a new sequence starts, booleans (*B, T); None: nowhere
Timesteps = Any  # the time from the previous step to each step, (*B, T); None: 1 everywhere


class LayerOptions(TypedDict, total=False):
    """The keyword arguments of a layer's call except `return_carry`, for type checkers."""

    initial_carry: Carry
    init_key: Any
    seq_lengths: Lengths
    reset: Resets
    timesteps: Timesteps
    time_major: bool | None
    reverse: bool | None
    keep_order: bool | None


class ModelOptions(TypedDict, total=False):
    """The keyword arguments of a model's call except `return_carry`, for type checkers."""

    initial_carry: Carry
    seq_lengths: Lengths
    reset: Resets
    timesteps: Timesteps
    train: bool


__all__ = [
    "Array", "ArrayLike", "Bool", "Carry", "Complex", "Float", "Int", "LayerOptions", "Lengths",
    "ModelOptions", "Num", "PRNGKeyArray", "Real", "Resets", "Shape", "Timesteps",
]  # fmt: skip
