"""What a run came to: the model of its best checkpoint."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.config import recall
from lru.training.experiment import Experiment, State
from lru.training.recovery import (
    check_rows,
    known_rows,
    missing_best,
    read_run_record,
    restore_config,
)
from lru.training.selection import best_row

_logger = logging.getLogger(__name__)


def evaluate_best(
    workdir: Path, split: str, *, data_dir: Path, manual_dir: Path | None = None
) -> dict[str, Any]:
    """The best checkpoint of a run, evaluated on a split: the line training logged for it.

    Raises:
      UserError: as of `restore_best`.
    """
    experiment, state, step = restore_best(workdir, data_dir=data_dir, manual_dir=manual_dir)
    return {"step": step, "split": split} | experiment.evaluate(state, split)


def restore_best(
    workdir: Path, *, data_dir: Path, manual_dir: Path | None = None
) -> tuple[Experiment, State, int]:
    """What a run trained, as it was at its best checkpoint, and that one's step.

    Args:
      workdir: of the run.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.

    Raises:
      UserError: there is no run, no evaluated checkpoint, or it cannot be read.
    """
    restore_config(workdir, _logger.warning)
    config = recall(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise _nothing(workdir)
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        kept = set(checkpoints.steps())
        if not kept:
            raise _nothing(workdir)
        rows, complete = known_rows(workdir, _refuse)
        if not any(row["split"] == "validation" and row["step"] in kept for row in rows):
            raise _nothing(workdir)
        experiment = Experiment(config, data_dir, manual_dir)
        settings = experiment.settings
        if not complete:
            check_rows(rows, kept, settings.eval_every, workdir / "metrics.jsonl")
        best = best_row([row for row in rows if row["step"] in kept], settings.select)
        assert best is not None
        if best is not (whole := best_row(rows, settings.select)) and whole is not None:
            _logger.warning(missing_best(checkpoints.path(whole["step"]), best))
        return (
            experiment,
            checkpoints.restore(best["step"], experiment.state_shapes()),
            best["step"],
        )


def _refuse(text: str) -> NoReturn:
    raise UserError(f"{text}; move it elsewhere, and the next best is taken")


def _nothing(workdir: Path) -> UserError:
    record = read_run_record(workdir)
    if record and "test" in record:  # lru.train would do nothing about it
        return UserError(
            f"{workdir} has ended, but its best checkpoint, of step {record['test']['step']:,}, is "
            "gone; restore it from a copy, or train in a new --workdir"
        )
    return UserError(f"{workdir} has no evaluated checkpoint yet; let lru.train go on first")
