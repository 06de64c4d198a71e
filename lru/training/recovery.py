"""Holds a run's files against its newest checkpoint, and writes what was lost again.

A checkpoint carries the run's history with a digest, so where the two differ the file is wrong.
Checkpoints of older versions carry none; there the files are checked against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lru.errors import UserError
from lru.io.files import write_whole
from lru.training.config import differences, load_run_config
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.history import METRICS, TIMING, checkpoint_steps, latest_history
from lru.training.record import read_record
from lru.training.writers import JsonLines

Log = Callable[[str], None]
# A run may go on with more steps than its first checkpoints were made for.
_MAY_GROW = {"train.steps", "train.epochs"}


def read_run_record(workdir: Path) -> dict[str, Any] | None:
    """Returns the record of a run; None if there is none.

    Raises:
      UserError: it is damaged.
    """
    try:
        advice = "delete it, and lru.train writes it again"
        return read_record(workdir / "record.json", advice)
    except (FileNotFoundError, NotADirectoryError):
        return None


def restore_config(workdir: Path, log: Log) -> None:
    """Writes a lost or damaged `config.json` again, and checks one that is there.

    Args:
      workdir: of the run.
      log: called with a line of text about what was wrong.

    Raises:
      UserError: the config is another one than that of the checkpoints, or it is lost and nothing
        else holds it.
    """
    known, file = _known_config(workdir), workdir / "config.json"
    try:
        there = load_run_config(workdir).to_dict() if file.exists() else None
    except UserError:
        if known is None:
            raise
        there = None
    if there is None and known is not None:
        write_whole(file, json.dumps(known[1], indent=2) + "\n")
        log(f"{file} was missing or damaged: written again from {known[0]}")
    elif there is None and checkpoint_steps(workdir / "checkpoints"):
        raise UserError(
            f"{workdir} has checkpoints, but no config.json, which says what they are of; restore "
            "it from a copy, or choose another --workdir"
        )
    elif there is not None and known is not None:
        _check_config(file, there, known)


def _known_config(workdir: Path) -> tuple[str, dict[str, Any]] | None:
    """The config that something else than `config.json` holds, and what that is."""
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
                f"{wanted!r} in {where}; delete config.json, and it is written again"
            )


def restore_rows(
    lines: JsonLines, rows: Sequence[Mapping[str, Any]], file: Path, step: int, log: Log
) -> None:
    """Leaves the rows that a checkpoint knows in a file, and says if others were there."""
    if not lines.begins_with(rows):
        log(f"{file} was missing, cut or changed: written again from checkpoint {step}")
    lines.rewrite(rows)


def check_spectra(eigenvalue_log: EigenvalueLog, directory: Path, log: Log) -> None:
    """Says which files of eigenvalues are missing or damaged, if any are."""
    if damaged := eigenvalue_log.damaged():
        steps = ", ".join(f"{step:,}" for step in damaged[:5]) + ", ..." * (len(damaged) > 5)
        log(
            f"{directory} lacks the eigenvalues of step {steps}, or they are damaged: restore them "
            "from a copy, or the animation of lru.spectrum is without them"
        )


def known_rows(workdir: Path, log: Log) -> tuple[list[dict[str, Any]], bool]:
    """Returns a run's rows of metrics, without changing a file.

    Returns:
      The rows, and whether the best one is surely among them: those of the newest checkpoint; or,
      of an older version's run, those of `metrics.jsonl`, of which nobody knows; or, if they are
      lost, the best row, which `record.json` has.
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
    """Checks that every checkpoint of an evaluation has its row.

    Without the row of the best one, another would be taken for the best, and the best deleted.

    Args:
      rows: of `metrics.jsonl`.
      steps: of the checkpoints.
      eval_every: steps between two evaluations.
      file: `metrics.jsonl`.

    Raises:
      UserError: a row is missing.
    """
    evaluated = {row["step"] for row in rows if row["split"] == "validation"}
    for step in steps:
        if step % eval_every == 0 and step not in evaluated:
            raise UserError(
                f"{file} lacks the validation row of step {step:,}, which has a checkpoint; "
                "restore the file from a copy, or start a new --workdir"
            )


def check_nothing_is_lost(workdir: Path, rows: Sequence[Mapping[str, Any]], first: int) -> None:
    """Checks that a run without checkpoints has not been further on before.

    Args:
      workdir: of the run.
      rows: of `metrics.jsonl`.
      first: the step of the first checkpoint; a run killed before it has none.

    Raises:
      UserError: it has.
    """
    steps = [row["step"] for row in rows] + EigenvalueLog(workdir / "spectra", {}).steps()
    record = read_run_record(workdir) or {"steps": 0}  # one is written after a checkpoint
    if record["steps"] or any(step > 2 * first for step in steps):
        raise UserError(
            f"{workdir} has metrics of a run, but its checkpoints are gone; restore "
            "them, or choose another --workdir"
        )


def restore_finished(workdir: Path, record: Mapping[str, Any], log: Log) -> None:
    """Writes lost files of a run that has ended again, as far as its checkpoints know them."""
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
        if not lines.begins_with(rows):
            restore_rows(lines, rows, workdir / name, step, log)
    check_spectra(EigenvalueLog(workdir / "spectra", history["spectra"]), workdir / "spectra", log)


def missing_best(checkpoint: Path, there: Mapping[str, Any] | None) -> str:
    """Returns a line about the best checkpoint of a run, which is not there any more."""
    instead = f"that of step {there['step']:,}" if there else "the next to be evaluated"
    return f"checkpoint {checkpoint}, the best so far, is missing; {instead} takes its place"
