"""Compares a run's files with its newest readable checkpoint.

Some of the files that are lost or differ are rewritten, and the others are reported.

A checkpoint contains the run's history, and a digest that shows whether the history is intact. A
file that contradicts an intact history is wrong. Later rows in `metrics.jsonl` and `timing.jsonl`
are allowed, and so are other numbers of steps or epochs in `config.json`, and other values of
options that do not affect the results. Checkpoints of older versions have no history, so the files
of their runs are checked against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lru.errors import UserError
from lru.io.files import write_atomically
from lru.training.checkpoint import Checkpoints
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.history import METRICS, TIMING, checkpoint_steps, latest_history
from lru.training.record import read_record
from lru.training.run_config import differences, load_run_config
from lru.training.selection import best_row
from lru.training.writers import JsonLines

Log = Callable[[str], None]
# A run may be extended to more steps than its first checkpoints were saved with.
_MAY_GROW = {"train.steps", "train.epochs"}


def read_run_record(workdir: Path) -> dict[str, Any] | None:
    """Returns the record of a run; None if there is none.

    Raises:
      UserError: the record is damaged.
    """
    try:
        advice = "delete it, and lru.train writes it again"
        return read_record(workdir / "record.json", advice)
    except (FileNotFoundError, NotADirectoryError):
        return None


def restore_config(workdir: Path, log: Log) -> None:
    """Rewrites a lost or damaged `config.json`, and checks an existing one.

    An existing config is compared with that in the newest readable checkpoint. The number of steps
    or epochs may differ, and so may options that affect the results at most by rounding.

    Args:
      workdir: the work directory of the run.
      log: called with a line of text if the file is rewritten.

    Raises:
      UserError: the config differs in another way; or it is damaged, or missing beside checkpoints,
        and cannot be rewritten; or the record is damaged.
    """
    known, file = _known_config(workdir), workdir / "config.json"
    try:
        there = load_run_config(workdir).to_dict() if file.exists() else None
    except UserError:
        if known is None:
            raise
        there = None
    if there is None and known is not None:
        write_atomically(file, json.dumps(known[1], indent=2) + "\n")
        log(f"{file} was missing or damaged; it was written again from {known[0]}")
    elif there is None and checkpoint_steps(workdir / "checkpoints"):
        raise UserError(
            f"{workdir} has checkpoints, but no config.json, which describes their model; restore "
            "it from a copy, or choose another --workdir"
        )
    elif there is not None and known is not None:
        _check_config(file, there, known)


def _known_config(workdir: Path) -> tuple[str, dict[str, Any]] | None:
    """Returns `(source, config)` from the newest readable checkpoint or the record, else None.

    The record is read only if no checkpoint gives a config, and `config.json` is missing.
    """
    if found := latest_history(workdir / "checkpoints"):
        return f"checkpoint {found[0]}", found[1]["config"]
    if (workdir / "config.json").exists():
        return None
    record = read_run_record(workdir)
    return ("record.json", record["config"]) if record else None


def _check_config(
    file: Path, there: Mapping[str, Any], known: tuple[str, Mapping[str, Any]]
) -> None:
    where, config = known
    for key, (found, wanted) in differences(there, config).items():
        if key not in _MAY_GROW:
            raise UserError(
                f"{file} has changed since {where} was saved: config.{key} is {found!r}, and "
                f"{wanted!r} in {where}; delete config.json to have it written again from {where}"
            )


def restore_rows(
    lines: JsonLines, rows: Sequence[Mapping[str, Any]], file: Path, step: int, log: Log
) -> None:
    """Rewrites a file with a checkpoint's rows; logs if the file did not start with these rows."""
    if not lines.starts_with(rows):
        log(f"{file} was missing, cut or changed; it was written again from checkpoint {step}")
    lines.rewrite(rows)


def check_spectra(eigenvalue_log: EigenvalueLog, directory: Path, log: Log) -> None:
    """Logs up to five steps whose eigenvalues are missing or damaged, if there are any."""
    if damaged := eigenvalue_log.damaged():
        steps = ", ".join(f"{step:,}" for step in damaged[:5]) + ", ..." * (len(damaged) > 5)
        log(
            f"files of eigenvalues in {directory} are missing or damaged, of step {steps}: restore "
            "them from a copy, or the animation of lru.spectrum omits these steps"
        )


def known_rows(workdir: Path, log: Log) -> tuple[list[dict[str, Any]], bool]:
    """Returns a run's rows of metrics, without changing a file.

    Returns:
      `(rows, complete)`. The rows are those in the newest readable checkpoint. If there is no such
      checkpoint, or it has no history, they are those in `metrics.jsonl`. If that file has no
      validation row, but `record.json` has the best one, only this row is returned. `complete` is
      False for rows from `metrics.jsonl`, which may lack the best row; else True.

    Raises:
      UserError: `metrics.jsonl` or the record is damaged.
    """
    if found := latest_history(workdir / "checkpoints", log):
        return found[1]["metrics"], True
    rows = JsonLines(workdir / "metrics.jsonl", METRICS).read()
    if not any(row["split"] == "validation" for row in rows):
        record = read_run_record(workdir) or {}
        if "validation" in record:
            return [{"split": "validation"} | record["validation"]], True
    return rows, False


def check_rows(
    rows: Iterable[Mapping[str, Any]], steps: Collection[int], eval_every: int, file: Path
) -> None:
    """Checks that every checkpoint at a multiple of `eval_every` steps has a validation row.

    Without its row, the best checkpoint would not be recognized, and training would delete it.

    Args:
      rows: the rows of `metrics.jsonl`.
      steps: the steps of the checkpoints.
      eval_every: the number of steps between two evaluations.
      file: the path of `metrics.jsonl`.

    Raises:
      UserError: a row is missing.
    """
    evaluated = {row["step"] for row in rows if row["split"] == "validation"}
    for step in steps:
        if step % eval_every == 0 and step not in evaluated:
            raise UserError(
                f"{file} lacks the validation row of step {step:,}, which has a checkpoint; "
                "restore the file from a copy, or train in a new --workdir"
            )


def check_no_lost_checkpoints(workdir: Path, rows: Sequence[Mapping[str, Any]], first: int) -> None:
    """Checks that a run without checkpoints has never had any.

    Args:
      workdir: the work directory of the run.
      rows: the rows of `metrics.jsonl`.
      first: the step of the first checkpoint, which is saved in the background. A run that was
        killed at or before step `2 * first` may therefore have no checkpoint.

    Raises:
      UserError: the run has had checkpoints, and they are gone.
    """
    steps = [row["step"] for row in rows] + EigenvalueLog(workdir / "spectra", {}).steps()
    record = read_run_record(workdir) or {"steps": 0}  # a record is written after a checkpoint
    if record["steps"] or any(step > 2 * first for step in steps):
        raise UserError(
            f"{workdir} has metrics of a run, but its checkpoints are gone; restore "
            "them, or choose another --workdir"
        )


def restore_finished(workdir: Path, record: Mapping[str, Any], log: Log) -> None:
    """Restores a finished run's metrics and timing; logs if eigenvalues are lost.

    Does nothing if `latest_history` finds no history.
    """
    found = latest_history(workdir / "checkpoints", log)
    if found is None:
        return
    step, history = found
    test = {"step": record["test"]["step"], "split": "test"} | record["test"]
    metrics = history["metrics"] + [test] * (test not in history["metrics"])
    for name, rows, fields in (
        ("metrics.jsonl", metrics, METRICS), ("timing.jsonl", history["timing"], TIMING)
    ):  # fmt: skip
        lines = JsonLines(workdir / name, fields)
        if not lines.starts_with(rows):
            restore_rows(lines, rows, workdir / name, step, log)
    check_spectra(EigenvalueLog(workdir / "spectra", history["spectra"]), workdir / "spectra", log)


def best_available(
    rows: Sequence[Mapping[str, Any]], checkpoints: Checkpoints, select: str, log: Log
) -> Mapping[str, Any] | None:
    """Returns the best row that has a checkpoint; logs if the best of all rows has none.

    Args:
      rows: the rows of a run's metrics.
      checkpoints: the checkpoints of the run.
      select: the metric that ranks the checkpoints; see `lru.training.selection.best_row`.
      log: called with a line of text if the best checkpoint is missing.

    Returns:
      The row; None if no evaluated checkpoint exists.
    """
    saved = set(checkpoints.steps())
    available = best_row([row for row in rows if row["step"] in saved], select)
    best = best_row(rows, select)
    if best is not None and best is not available:
        instead = f"that of step {available['step']:,}" if available else "the next evaluated one"
        checkpoint = checkpoints.path(best["step"])
        log(f"checkpoint {checkpoint}, the best so far, is missing; {instead} replaces it")
    return available
