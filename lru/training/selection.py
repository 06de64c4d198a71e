"""Which checkpoint of a run is kept, and when it has been long enough since there was a better one.

Both are functions of the validation rows alone, so that an interrupted run decides as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def best_row(rows: Iterable[Mapping[str, Any]], by: str) -> Mapping[str, Any] | None:
    """The validation row that selects the model; of equals the first.

    Args:
      rows: the lines of a run's `metrics.jsonl`.
      by: "accuracy": the highest, then the lowest loss; or "loss": the lowest.

    Example:
      >>> row = {"split": "validation", "accuracy": 0.5, "loss": 1.0}
      >>> best_row([row | {"step": 1}, row | {"step": 2, "loss": 0.9}], by="accuracy")["step"]
      2
    """
    candidates = [row for row in rows if row["split"] == "validation"]
    keys = {
        "accuracy": lambda row: (row["accuracy"], -row["loss"]),
        "loss": lambda row: -row["loss"],
    }
    return max(candidates, key=keys[by], default=None)


def stops_early(
    losses: Iterable[float], *, patience: int, least_improvement: float, improvement_over: str
) -> bool:
    """Whether so many evaluations in a row, at any time, brought no improvement.

    Args:
      losses: on the validation split, in the order in which they were found.
      patience: how many evaluations without one end a training; 0: none do.
      least_improvement: by which a loss has to be lower, to be one.
      improvement_over: "previous": lower than the loss before it, as the code of Ahuja & Morency
        (2018) has it, by which a loss that rises and falls again has improved; or "best".

    Example:
      >>> rule = dict(patience=2, least_improvement=0.1)
      >>> losses = [3.0, 2.0, 2.5, 2.3, 2.4]
      >>> [stops_early(losses, improvement_over=what, **rule) for what in ("previous", "best")]
      [False, True]
    """
    if not patience:
        return False
    waited, reference = 0, math.inf
    for loss in losses:
        waited = 0 if loss <= reference - least_improvement else waited + 1
        if waited == patience:
            return True
        reference = min(reference, loss) if improvement_over == "best" else loss
    return False
