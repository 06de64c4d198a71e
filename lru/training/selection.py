"""Model selection and early stopping.

Both depend only on the validation rows and the config, so an interrupted run decides in the same
way as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lru.errors import UserError


def best_row(rows: Iterable[Mapping[str, Any]], by: str) -> Mapping[str, Any] | None:
    """Returns the best validation row, or the first of equally good ones; None if there is none.

    Args:
      rows: the lines of a run's `metrics.jsonl`.
      by: "accuracy" for the highest accuracy and, if several rows have it, the lowest loss; "loss"
        or "rmse" for the lowest loss or RMSE.

    Raises:
      UserError: a validation row lacks the metric.

    Example:
      >>> row = {"split": "validation", "accuracy": 0.5, "loss": 1.0}
      >>> best_row([row | {"step": 1}, row | {"step": 2, "loss": 0.9}], by="accuracy")["step"]
      2
    """
    candidates = [row for row in rows if row["split"] == "validation"]
    for row in candidates:
        if by not in row:
            raise UserError(
                f"the validation metrics of step {row['step']:,} have no {by}, which "
                "config.train.select names; restore metrics.jsonl, or train in a new --workdir"
            )
    keys = {
        "accuracy": lambda row: (row["accuracy"], -row["loss"]),
        "loss": lambda row: -row["loss"],
        "rmse": lambda row: -row["rmse"],
    }
    return max(candidates, key=keys[by], default=None)


def stops_early(
    losses: Iterable[float], *, patience: int, least_improvement: float, improvement_over: str
) -> bool:
    """Returns whether there were `patience` evaluations in a row without an improvement.

    Args:
      losses: the validation losses, in order of evaluation.
      patience: the number of evaluations without an improvement after which to stop; 0 for never.
      least_improvement: the smallest decrease of the loss that counts as an improvement.
      improvement_over: what a loss is compared with: "best", the lowest loss so far; or "previous",
        the preceding loss, as in the code of Ahuja & Morency (2018). With "previous", a loss that
        rises and then falls again can count as improved.

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
