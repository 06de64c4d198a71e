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
from lru.training import processes
from lru.training.checkpoint import Checkpoints
from lru.training.data_digests import check_data
from lru.training.description import Description
from lru.training.experiment import Experiment
from lru.training.names import check_allow, check_config
from lru.training.recovery import (
    best_available,
    check_rows,
    known_rows,
    read_run_record,
    restore_config,
)
from lru.training.run_config import load_run_config, on_one_device, time_devices
from lru.training.step import State

_logger = logging.getLogger(__name__)


def evaluate_best(
    workdir: Path,
    split: str,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluates a run's best checkpoint on a split; returns a row like those of `metrics.jsonl`.

    Args:
      workdir, data_dir, manual_dir, allow: see `restore_best`.
      split: "train", "validation" or "test".

    Raises:
      UserError: there is no such split; or see `restore_best`.
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
    """Restores a run's best checkpoint.

    If this checkpoint is missing, a warning is logged and the next best is restored. A missing or
    damaged `config.json` is first rewritten, if possible. The source of the run may be untrusted:
    of the modules that the config names, only those in `lru`, `flax.linen` and the packages in
    `allow` are imported.

    Args:
      workdir: the work directory of the run.
      data_dir: the directory of prepared data sets; may be None if the data set is not read.
      manual_dir: the directory with files of official releases.
      allow: more packages that the config may name, such as `("my_package",)`.
      read_data: False if the data set is not needed. It is still read if the work directory has no
        `dataset.json`.

    Returns:
      The experiment of the run, the restored state, and the step of the checkpoint.

    Raises:
      UserError: there is no run or no evaluated checkpoint; a file of the run is damaged; the data
        set cannot be read or has changed; or the config is invalid or names a package that is not
        allowed.
    """
    processes.in_turn(lambda: restore_config(workdir, _logger.warning))
    config, allow = load_run_config(workdir), check_allow(allow)
    check_config(config.to_dict(), allow)
    if not (workdir / "checkpoints").is_dir():
        raise _no_checkpoint(workdir)
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        rows, complete = evaluated_rows(workdir, checkpoints)
        experiment = build_experiment(config, workdir, data_dir, manual_dir, allow, read_data)
        settings = experiment.settings
        if not complete:
            steps = checkpoints.steps()
            check_rows(rows, steps, settings.eval_every, workdir / "metrics.jsonl")
        best = best_available(rows, checkpoints, settings.select, _logger.warning)
        assert best is not None  # one of the rows has a checkpoint
        return (
            experiment,
            checkpoints.restore(best["step"], experiment.state_shapes()),
            best["step"],
        )


def evaluated_rows(
    workdir: Path, checkpoints: Checkpoints
) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """Returns the rows of metrics, and whether they certainly include the best validation row.

    Raises:
      UserError: there is no evaluated checkpoint, or a file that contains metrics is damaged.
    """
    saved = set(checkpoints.steps())
    if not saved:
        raise _no_checkpoint(workdir)
    rows, complete = known_rows(workdir, _refuse)
    if not any(row["split"] == "validation" and row["step"] in saved for row in rows):
        raise _no_checkpoint(workdir)
    return rows, complete


def build_experiment(
    config: ConfigDict,
    workdir: Path,
    data_dir: Path | None,
    manual_dir: Path | None,
    allow: Sequence[str],
    read_data: bool,
) -> Experiment:
    """Builds the experiment of a run.

    If `read_data` is False, the description of the run's data set, if there is one, replaces the
    data set. Time is not divided among devices if `read_data` is False, or if the number of devices
    is not a multiple of `time_devices`. `config` is the config of the run; for the other arguments,
    see `restore_best`.

    Raises:
      UserError: the config is invalid, the data set cannot be read or has changed, or
        `dataset.json` or `data.json` is damaged.
    """
    if not read_data or jax.device_count() % time_devices(config):
        config = on_one_device(config)
    if not read_data and (description := Description.load(workdir)) is not None:
        # On several devices, the batch size would have to be a multiple of their number.
        devices = jax.local_devices()[:1]
        return Experiment(config, None, devices=devices, description=description, allow=allow)
    experiment = Experiment(config, data_dir, manual_dir, allow=allow)
    check_data(experiment.dataset, workdir)
    return experiment


def _refuse(text: str) -> NoReturn:
    raise UserError(f"{text}; move it elsewhere to leave it out")


def _no_checkpoint(workdir: Path) -> UserError:
    record = read_run_record(workdir)
    if record and "test" in record:  # lru.train does not train a finished run again
        return UserError(
            f"the run in {workdir} has ended, but its best checkpoint, of step "
            f"{record['test']['step']:,}, is gone; restore it from a copy, or train in a "
            "new --workdir"
        )
    return UserError(
        f"the run in {workdir} has no evaluated checkpoint yet; continue it with lru.train first"
    )
