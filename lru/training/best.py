"""Restores and evaluates a run's best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.config import recall
from lru.training.description import Description
from lru.training.experiment import Experiment, State
from lru.training.names import check_allow, check_config
from lru.training.selection import best_row
from lru.training.writers import JsonLines


def evaluate_best(
    workdir: Path,
    split: str,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run, and returns the row that training logged for it.

    Args:
      workdir, data_dir, manual_dir, allow: see `restore_best`.
      split: "train", "validation" or "test".

    Raises:
      UserError: see `restore_best`.
    """
    experiment, state, step = restore_best(
        workdir, data_dir=data_dir, manual_dir=manual_dir, allow=allow
    )
    return {"step": step, "split": split} | experiment.evaluate(state, split)


def restore_best(
    workdir: Path,
    *,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
    read_data: bool = True,
) -> tuple[Experiment, State, int]:
    """Restores a run's best checkpoint: its experiment, the state, and the step.

    The run may be a stranger's: nothing that it names is imported but `lru` and `flax`.

    Args:
      workdir: of the run.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.
      allow: packages whose classes the config may name as well, such as `("my_package",)`.
      read_data: False if the data set is not needed. It is read even so if the run was begun by a
        version that wrote no `dataset.json`.

    Raises:
      UserError: there is no run, no evaluated checkpoint, it cannot be read, or the config names a
        package that is not allowed.
    """
    config, allow = recall(workdir), check_allow(allow)
    check_config(config.to_dict(), allow)
    if not (workdir / "checkpoints").is_dir():
        raise _nothing(workdir)
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        rows = rows_of_checkpoints(workdir, checkpoints)
        experiment = _experiment(config, workdir, data_dir, manual_dir, allow, read_data)
        best = best_row(rows, experiment.settings.select)
        assert best is not None
        return (
            experiment,
            checkpoints.restore(best["step"], experiment.state_shapes()),
            best["step"],
        )


def rows_of_checkpoints(workdir: Path, checkpoints: Checkpoints) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl` about the checkpoints that there are.

    Raises:
      UserError: none of them was evaluated.
    """
    kept = set(checkpoints.steps())
    rows = [row for row in JsonLines(workdir / "metrics.jsonl").read() if row["step"] in kept]
    if not any(row["split"] == "validation" for row in rows):
        raise _nothing(workdir)
    return rows


def _nothing(workdir: Path) -> UserError:
    return UserError(f"{workdir} has no evaluated checkpoint yet; let lru.train go on first")


def _experiment(
    config: ConfigDict,
    workdir: Path,
    data_dir: Path | None,
    manual_dir: Path | None,
    allow: Sequence[str],
    read_data: bool,
) -> Experiment:
    if not read_data and (description := Description.load(workdir)) is not None:
        devices = jax.local_devices()[:1]  # one is enough for weights, whatever the batch size
        return Experiment(config, None, devices=devices, description=description, allow=allow)
    return Experiment(config, data_dir, manual_dir, allow=allow)
