"""Restores and evaluates a run's best checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.config import load_run_config
from lru.training.data_digests import check_data
from lru.training.description import Description
from lru.training.experiment import Experiment, State
from lru.training.names import check_allow, check_config
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
    restore_config(workdir, _logger.warning)
    config, allow = load_run_config(workdir), check_allow(allow)
    check_config(config.to_dict(), allow)
    if not (workdir / "checkpoints").is_dir():
        raise _nothing(workdir)
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        rows, complete = evaluated_rows(workdir, checkpoints)
        experiment = _experiment(config, workdir, data_dir, manual_dir, allow, read_data)
        settings = experiment.settings
        if not complete:
            kept = set(checkpoints.steps())
            check_rows(rows, kept, settings.eval_every, workdir / "metrics.jsonl")
        best = best_of(rows, checkpoints, settings.select)
        return (
            experiment,
            checkpoints.restore(best["step"], experiment.state_shapes()),
            best["step"],
        )


def evaluated_rows(
    workdir: Path, checkpoints: Checkpoints
) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """Returns a run's rows of metrics, and whether the best one is surely among them.

    Raises:
      UserError: no checkpoint was evaluated.
    """
    kept = set(checkpoints.steps())
    if not kept:
        raise _nothing(workdir)
    rows, complete = known_rows(workdir, _refuse)
    if not any(row["split"] == "validation" and row["step"] in kept for row in rows):
        raise _nothing(workdir)
    return rows, complete


def best_of(
    rows: Sequence[Mapping[str, Any]], checkpoints: Checkpoints, select: str
) -> Mapping[str, Any]:
    """Returns the row of the best checkpoint that there is, and logs if a better one is missing.

    Args:
      rows: of `evaluated_rows`.
      checkpoints: of the run.
      select: "accuracy" or "loss", what the best one is chosen by.
    """
    kept = set(checkpoints.steps())
    best, whole = (
        best_row([row for row in rows if row["step"] in kept], select),
        best_row(rows, select),
    )
    assert best is not None and whole is not None
    if best is not whole:
        _logger.warning(missing_best(checkpoints.path(whole["step"]), best))
    return best


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
    experiment = Experiment(config, data_dir, manual_dir, allow=allow)
    check_data(experiment.dataset, workdir)
    return experiment


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
