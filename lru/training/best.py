"""What a run came to: the model of its best checkpoint."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.config import recall
from lru.training.data_digests import check_data
from lru.training.experiment import Experiment, State
from lru.training.selection import best_row
from lru.training.writers import JsonLines


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
    config = recall(workdir)
    nothing = UserError(f"{workdir} has no evaluated checkpoint yet; let lru.train go on first")
    if not (workdir / "checkpoints").is_dir():
        raise nothing
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        kept = set(checkpoints.steps())
        rows = [row for row in JsonLines(workdir / "metrics.jsonl").read() if row["step"] in kept]
        if not any(row["split"] == "validation" for row in rows):
            raise nothing
        experiment = Experiment(config, data_dir, manual_dir)
        check_data(experiment.dataset, workdir)
        best = best_row(rows, experiment.settings.select)
        assert best is not None
        return (
            experiment,
            checkpoints.restore(best["step"], experiment.state_shapes()),
            best["step"],
        )
