"""Checks that numbers in a config are in range, before a data set is prepared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lru.errors import UserError

_SIZE = (1, 2**20)
_LEAST_AND_MOST: dict[str, tuple[float, float]] = {
    "d_model": _SIZE,
    "d_state": _SIZE,
    "features": _SIZE,
    "blocks": _SIZE,
    "recurrence_depth": _SIZE,
    "num_layers": (1, 10_000),  # each layer is compiled
    "chunk_size": (0, 2**31 - 1),
    "r_min": (0, 1),
    "r_max": (0, 1),
    "least_improvement": (0, math.inf),
}
_ABOVE_ZERO = ("max_phase", "dt_min", "dt_max")
_RATES = ("dropout", "norm_momentum")
_ORDERED = (("r_min", "r_max"), ("dt_min", "dt_max"))


def check_ranges(target: Callable[..., Any], section: Mapping[str, Any], where: str) -> None:
    """Checks the numbers in a section of a config.

    Args:
      target: the class or function that takes the section's keys as arguments. If it is not in
        `lru` or `flax`, nothing is checked, because its arguments may have other meanings.
      section: the arguments, by name.
      where: the path of the section in the config, for messages.

    Raises:
      UserError: a number is not finite or is out of its range, or a minimum is above its maximum.
    """
    if getattr(target, "__module__", "").partition(".")[0] not in ("lru", "flax"):
        return
    for name, value in section.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check(name, value, f"{where}.{name}")
    for low, high in _ORDERED:
        least, most = section.get(low), section.get(high)
        if least is not None and most is not None and least > most:
            raise UserError(
                f"{where}.{low} is {least} and {high} is {most}; expected {low} <= {high}"
            )


def _check(name: str, value: float, where: str) -> None:
    if not math.isfinite(value):
        raise UserError(f"{where} is {value}; expected a finite number")
    if name in _RATES and not 0 <= value < 1:
        raise UserError(f"{where} is {value}; expected at least 0 and less than 1")
    if name in _ABOVE_ZERO and not value > 0:
        raise UserError(f"{where} is {value}; expected a number above 0")
    least, most = _LEAST_AND_MOST.get(name, (-math.inf, math.inf))
    if value < least:
        raise UserError(f"{where} is {value}; expected at least {least}")
    if value > most:
        raise UserError(f"{where} is {value}; expected at most {most:,}")
