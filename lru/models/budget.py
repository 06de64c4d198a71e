"""Chooses widths for a parameter budget, so that language models have about equal sizes."""

from __future__ import annotations

import bisect
import logging
import math
from collections.abc import Callable

from lru.errors import UserError
from lru.layers.linear import LRU
from lru.layers.stacks import RecurrentStack

_logger = logging.getLogger(__name__)
Stack = Callable[..., RecurrentStack] | type[LRU]


def count_layer(stack: Stack, d_model: int) -> int:
    """Returns the number of parameters of one layer of a stack.

    Args:
      stack: a class or function that makes the stack from H and L, such as `lru.lattice.Lattice`
        or `lru.baselines.GRU`; or `lru.LRU`, for which a layer is a residual block with N = H and a
        full GLU.
      d_model: H, the width of the layer.

    Example:
      >>> from lru.baselines import GRU
      >>> from lru.lattice import RGLRU
      >>> count_layer(GRU, 387), count_layer(RGLRU, 300)
      (900936, 901500)
    """
    if stack is LRU:
        layer, norm, glu = 4 * d_model**2 + 4 * d_model, 2 * d_model, 2 * d_model**2 + 2 * d_model
        return layer + norm + glu
    return stack(d_model, 1).cell().count()


def count_parameters(stack: Stack, d_model: int, vocab_size: int, num_layers: int) -> int:
    """Returns the number of parameters of an `lru.models.LanguageModel`.

    The model has L layers, an embedding with V H parameters, and a head with V H + V parameters.

    Args:
      stack, d_model: see `count_layer`.
      vocab_size: V, the number of tokens.
      num_layers: L, the number of layers.

    Example:
      >>> from lru.lattice import Lattice
      >>> count_parameters(Lattice, 643, vocab_size=51, num_layers=2)
      9996129
    """
    layers = num_layers * count_layer(stack, d_model)
    return layers + 2 * vocab_size * d_model + vocab_size


def hidden_size(
    stack: Stack, budget: int, vocab_size: int, num_layers: int, *, within: float = 0.01
) -> int:
    """Returns the width H for which a language model's size is nearest to a parameter budget.

    Args:
      stack, vocab_size, num_layers: see `count_parameters`.
      budget: the desired number of parameters, including those of the embedding and the head.
      within: the largest allowed difference from the budget, as a fraction of the budget. A
        difference of more than 1 % is logged.

    Raises:
      UserError: if the difference is larger than `within` for every width.

    Example:
      >>> from lru.baselines import LSTM
      >>> from lru.lattice import Lattice
      >>> [hidden_size(stack, 10_000_000, 51, 2) for stack in (Lattice, LSTM)]
      [643, 787]
    """

    def count(d_model: int) -> int:
        return count_parameters(stack, d_model, vocab_size, num_layers)

    width = nearest(count, budget)
    away = count(width) - budget
    if abs(away) > within * budget:
        raise UserError(
            f"no width gives a model with {num_layers} layers and {vocab_size} tokens within "
            f"{100 * within:g} % of {budget} parameters; the nearest width, {width}, gives "
            f"{count(width)}; choose another budget"
        )
    if abs(away) > 0.01 * budget:
        _logger.info(
            "note: for %s parameters, the nearest width is %d, with %s parameters, %.1f %% %s",
            f"{budget:,}", width, f"{count(width):,}", 100 * abs(away) / budget,
            "more" if away > 0 else "fewer",
        )  # fmt: skip
    return width


def nearest(count: Callable[[int], int], budget: int) -> int:
    """Returns the width for which `count(width)` is nearest to a budget.

    `count` must increase with the width, and be at least the square of the width.

    Example:
      >>> nearest(lambda width: 2 * width**2, 100)
      7
    """
    widths = range(1, math.isqrt(max(budget, 1)) + 2)
    above = widths[min(bisect.bisect_left(widths, budget, key=count), len(widths) - 1)]
    return min(max(above - 1, 1), above, key=lambda width: abs(count(width) - budget))
