"""Compares runs by the files in their work directories, without building their models."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lru.errors import UserError
from lru.io.terminal import aligned
from lru.training.figures import run_name, save_validation_curves
from lru.training.history import METRICS, TIMING
from lru.training.record import format_score
from lru.training.recovery import read_run_record
from lru.training.run_config import differences, load_run_config
from lru.training.selection import best_row
from lru.training.writers import JsonLines

COLUMNS = (
    "run", "task", "model", "seed", "steps", "validation", "test", "minutes", "parameters"
)  # fmt: skip
_TEXTS = ("run", "task", "model", "validation", "test")


class Run(NamedTuple):
    """What the files of a run say about it.

    Attributes:
      name: the name of the work directory; its path if another run has the same name.
      config: the run's config.
      record: the run's record; empty if there is none.
      step: the number of steps done, as far as the files show.
      validation: the validation lines of `metrics.jsonl`.
      best: the validation metrics of the best evaluation, by `config.train.select`; None if neither
        `metrics.jsonl` nor the record has any.
      test: the test metrics in the record; None if it has none.
      seconds: the total time of the run so far, in seconds.
    """

    name: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    step: int
    validation: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any] | None
    test: Mapping[str, Any] | None
    seconds: float

    @property
    def state(self) -> str:
        """The reason why the run has no test score; "" if it has one."""
        if self.test:
            return ""
        if "diverged_at" in self.record:
            return f"diverged at step {self.record['diverged_at']:,}"
        return "stopped" if self.record else "not finished"


def compare(workdirs: Sequence[Path], picture: Path | None = None) -> str:
    """Returns a table of runs, followed by the options in which runs of the same task differ.

    Args:
      workdirs: the work directories of the runs.
      picture: the file for a picture of the validation curves; the suffix of the file determines
        the format. None for no picture.

    Raises:
      UserError: there is no run in a directory, or a file of a run is damaged; or, with a picture,
        its format is unknown, or no run has been evaluated.
    """
    names = [workdir.resolve().name for workdir in workdirs]
    runs = [
        read_run(workdir, name if names.count(name) == 1 else str(workdir))
        for workdir, name in zip(workdirs, names)
    ]
    if picture is not None:
        curves = {run.name: run.validation for run in runs if run.validation}
        save_validation_curves(curves, picture)
    table = [COLUMNS, *([row[name] for name in COLUMNS] for row in map(_row, runs))]
    return "\n".join([aligned(table, left=_TEXTS), *_differing(runs)])


def read_run(workdir: Path, name: str) -> Run:
    """Reads the files of a run.

    Args:
      workdir: the work directory of the run.
      name: the name that stands for the run in tables and pictures.

    Raises:
      UserError: there is no run, or a file is damaged.
    """
    config = load_run_config(workdir).to_dict()
    record = read_run_record(workdir) or {}
    rows = JsonLines(workdir / "metrics.jsonl", METRICS).read()
    timing = JsonLines(workdir / "timing.jsonl", TIMING).read()
    try:
        run_name(config)
        select = config["train"].get("select", "accuracy")
        validation = [row for row in rows if row["split"] == "validation"]
        best = best_row(validation, select) or record.get("validation")
    except (AttributeError, LookupError, TypeError) as error:
        raise UserError(
            f"the config or the metrics in {workdir} are damaged: {type(error).__name__}: {error}"
        ) from error
    seconds = timing[-1]["seconds"] if timing else record.get("seconds", 0.0)
    step = max([record.get("steps", 0), *(row["step"] for row in rows)])
    return Run(name, config, record, step, validation, best, record.get("test"), seconds)


def _row(run: Run) -> dict[str, str]:
    task, _, model = run_name(run.config).partition(", ")
    steps = run.record.get("steps_planned") or run.config["train"].get("steps")
    planned = f"{steps:,}" if steps else f"{run.config['train'].get('epochs')} epochs"
    size = run.record.get("parameters")
    return {
        "run": run.name,
        "task": task,
        "model": model,
        "seed": f"{run.config.get('seed')}",
        "steps": f"{run.step:,}" if run.test else f"{run.step:,} of {planned}",
        "validation": format_score(run.best) if run.best else "",
        "test": format_score(run.test) if run.test else f"({run.state})",
        "minutes": f"{run.seconds / 60:.1f}",
        "parameters": f"{size:,}" if size else "?",
    }


def _differing(runs: Sequence[Run]) -> list[str]:
    """Formats the options, except the seed, that differ between runs of a task, as lines."""
    lines = []
    for task in dict.fromkeys(run.config["data"]["type"] for run in runs):
        alike = [run for run in runs if run.config["data"]["type"] == task]
        keys = {key for run in alike for key in differences(alike[0].config, run.config)}
        for run in alike:
            given = {key: _value(run.config, key) for key in sorted(keys - {"seed"})}
            text = ", ".join(f"{key}={value}" for key, value in given.items() if value is not None)
            if text:
                lines += textwrap.wrap(f"{run.name}: {text}", 80, subsequent_indent="  ",
                                       break_on_hyphens=False)  # fmt: skip
    return ["", "options that differ:", *lines] if lines else []


def _value(config: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        config = config.get(name, {}) if isinstance(config, Mapping) else {}
    return None if config == {} else config
