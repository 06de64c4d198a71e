"""How wide a recurrent stack is for a budget of parameters: rivals are compared at equal size."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from lru.errors import UserError
from lru.lattice import Lattice


def count_parameters(
    stack: Callable[..., Lattice], d_model: int, vocab_size: int, num_layers: int
) -> int:
    """The parameters of a `lru.models.LanguageModel` around such a stack.

    L of its layers, an embedding V h, and a read-out V h + V.

    Args:
      stack: makes it from h and L: `lru.lattice.Lattice`, `lru.baselines.GRU`, ...
      d_model: h.
      vocab_size: V.
      num_layers: L.

    Example:
      >>> from lru.lattice import Lattice
      >>> count_parameters(Lattice, 643, vocab_size=51, num_layers=2)
      9996129
    """
    layer = stack(d_model, num_layers).cell().count()
    return num_layers * layer + 2 * vocab_size * d_model + vocab_size


def hidden_size(
    stack: Callable[..., Lattice], budget: int, vocab_size: int, num_layers: int
) -> int:
    """The width h whose language model has most nearly as many parameters as the budget.

    Args:
      stack, vocab_size, num_layers: as of `count_parameters`.
      budget: the number of parameters wanted, embedding and read-out included.

    Raises:
      UserError: no width comes within 1 % of the budget.

    Example:
      >>> from lru.baselines import LSTM
      >>> from lru.lattice import Lattice
      >>> [hidden_size(stack, 10_000_000, 51, 2) for stack in (Lattice, LSTM)]
      [643, 787]
    """

    def count(d_model: int) -> int:
        return count_parameters(stack, d_model, vocab_size, num_layers)

    widths = range(1, math.isqrt(max(budget, 1)) + 2)  # a layer has more than h^2 parameters
    above = widths[min(bisect.bisect_left(widths, budget, key=count), len(widths) - 1)]
    nearest = min(max(above - 1, 1), above, key=lambda d_model: abs(count(d_model) - budget))
    if abs(count(nearest) - budget) > 0.01 * budget:
        raise UserError(
            f"no width of {num_layers} layers and {vocab_size} tokens has within 1 % of {budget} "
            f"parameters: the nearest, {nearest}, has {count(nearest)}; give another budget"
        )
    return nearest
