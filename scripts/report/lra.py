"""The page of the Long Range Arena: our records beside Orvieto et al. (2023)."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paper.lra import MAIN, NAMES, NONLINEARITY, PARAMETERIZATION, RINGS, SPEED, TASKS

from report import rows
from report.format import (
    Record,
    by_provenance,
    chance,
    coverage,
    device,
    differing,
    finished,
    join,
    mean,
    same_runs,
    span,
    table,
    time_and_data,
)
from report.pictures import Picture

Cell = tuple[str, str, str]  # task, ablation, size
Ring = tuple[str, float, float]  # ablation, r_min, r_max, as in Table 5
# Classes and test examples of `:quick`.
_CHANCE = {
    "cifar": (10, 10_000),
    "listops": (10, 2_000),
    "text": (2, 25_000),
    "retrieval": (2, 2_000),
    "pathfinder": (2, 2_500),
    "pathx": (2, 2_500),
}
_PROVENANCE = {
    "paper": ("full", "generated"),
    "quick": ("full", "generated", "stand-in"),
}  # by size
_COLUMNS = "{} | paper | ours | accuracy @ step | time | data"
_TABLES = {
    "Table 3: the LRU, S4D and S5": ("model", MAIN),
    "Tables 1 and 6: dense recurrences": ("recurrence", NONLINEARITY),
    "Tables 2, 7 and 8: from a dense recurrence to the LRU": ("recurrence", PARAMETERIZATION),
}
_INTRODUCTION = """\
# Long Range Arena

Test accuracy in per cent of the checkpoint with the best validation accuracy, and its step. "Paper"
is Orvieto et al. (2023): mean (standard error) of three runs; "x" stayed at chance. The
[index](README.md) explains the rest."""


class Sorted(NamedTuple):
    """Records by the rows that they count for."""

    cells: dict[Cell, list[Record]]
    rings: dict[Ring, list[Record]]
    others: dict[str, Record]  # by file name


def sort(records: Mapping[str, Record]) -> Sorted:
    """Sorts records by row; a run counts for every row that has its options."""
    cells: dict[Cell, list[Record]] = defaultdict(list)
    rings: dict[Ring, list[Record]] = defaultdict(list)
    others: dict[str, Record] = {}
    for name, record in records.items():
        found, ring = cells_of(record), ring_of(record)
        for cell in found:
            cells[cell].append(record)
        if ring:
            rings[ring].append(record)
        if not found and not ring:
            others[name] = record
    return Sorted(cells, rings, others)


def page(records: Mapping[str, Record], pictures: Sequence[Picture] = ()) -> str:
    """Returns the page as Markdown.

    Args:
      records: by file name.
      pictures: of these records.
    """
    cells, rings, others = sort(records)
    small, whole = (
        [picture.markdown() for picture in pictures if size in picture.name]
        for size in ("quick", "paper")
    )
    shorter = shortened(others)
    return join([
        _INTRODUCTION,
        _quick(cells),
        *small,
        _shortened(shorter, others),
        *(_table(title, what, paper, cells) for title, (what, paper) in _TABLES.items()),
        *whole,
        _speed(cells),
        _rings(rings),
        _coverage(cells, rings),
        _others({name: run for name, run in others.items() if name not in shorter}),
    ])  # fmt: skip


@functools.cache
def _known() -> dict[Cell, dict[str, Any]]:
    """Returns the config of every task, ablation and size."""
    return {
        (task, ablation, size): rows.lra(task, ablation, size).load()
        for task in TASKS
        for ablation in NAMES
        for size in _PROVENANCE
    }


def cells_of(record: Record) -> list[Cell]:
    """Returns the cells whose config has the options of a run; two ablations are equal on ListOps.

    The source of the data may differ, see `by_provenance`, but only the same data or data generated
    by the same rules stand beside the paper's numbers. Synthetic data count only for configs that
    ask for them.
    """
    return [cell for cell, config in _known().items() if _counts(record, cell[2], config)]


def _counts(record: Record, size: str, config: Mapping[str, Any]) -> bool:
    others = differing(record, config)
    if record["data"] == "made-up":
        return not others
    return record["data"] in _PROVENANCE[size] and others <= {"data.source"}


def ring_of(record: Record) -> Ring | None:
    """Returns the cell of Table 5 of a run: sCIFAR at the paper's size, with another ring."""
    mixer = record["config"]["model"]["mixer"]
    for ablation in ("exp", "stable_exp", "lru"):
        ring = {"model.mixer.r_min", "model.mixer.r_max"}
        if differing(record, _known()["cifar", ablation, "paper"]) <= ring:
            key = (ablation, mixer["r_min"], mixer["r_max"])
            return key if key in RINGS else None
    return None


def _ours(runs: Sequence[Record]) -> list[str]:
    """Returns the columns ours, accuracy @ step, time, data."""
    done = finished(runs)
    if done:
        accuracies = [100 * record["test"]["accuracy"] for record in done]
        where = span(record["test"]["step"] for record in done)
        ours, at = mean(accuracies), f"{statistics.mean(accuracies):.1f} @ {where}"
    else:
        furthest = max(runs, key=lambda record: record["steps"])
        ours = f"step {furthest['steps']:,} of {furthest['steps_planned']:,}"
        best = furthest.get("validation")
        at = f"validation {100 * best['accuracy']:.1f} @ {best['step']:,}" if best else ""
    return [ours, at, *time_and_data(done or runs)]


def _rows(paper: Mapping[tuple[str, str], str]) -> list[tuple[str, str]]:
    """Returns task and ablation of every row of a table, task by task."""
    return list(itertools.product(TASKS, dict.fromkeys(ablation for _, ablation in paper)))


def _table(title: str, what: str, paper: Mapping[tuple[str, str], str], cells) -> str:
    """Returns the rows that were run, beside the paper's numbers; empty if none was."""
    lines: list[list[str]] = []
    shown: dict[frozenset[int], str] = {}
    for task, ablation in _rows(paper):
        name = f"{TASKS[task]}, {NAMES[ablation]}"
        for runs in by_provenance(cells[task, ablation, "paper"]):
            same = same_runs(runs, shown, name)
            lines.append(
                [name, paper[task, ablation], *([same, "", "", ""] if same else _ours(runs))]
            )
    if not lines:
        return ""
    return f"## {title}\n\n{table(_COLUMNS.format(f'task, {what}'), lines)}"


def counted(
    cells: Mapping[Cell, Sequence[Record]], rings: Mapping[Ring, Sequence[Record]]
) -> dict[str, tuple[int, int]]:
    """Returns by table the number of its rows that were run in full, and of all its rows."""
    counted = {
        title: (
            sum(bool(finished(cells[*row, "paper"])) for row in _rows(paper)),
            len(_rows(paper)),
        )
        for title, (_, paper) in _TABLES.items()
    }
    counted["Table 5: rings, sCIFAR"] = sum(key in rings for key in RINGS), len(RINGS)
    return counted


def _coverage(
    cells: Mapping[Cell, Sequence[Record]], rings: Mapping[Ring, Sequence[Record]]
) -> str:
    reason = (
        "The paper's sizes, for all steps: a run takes 1 to 29 hours on the paper's A100, and days "
        "on a\nCPU."
    )
    command = "python scripts/reproduce.py --table=lra --ablation=all"
    return coverage(counted(cells, rings), reason, command)


def paper_steps(task: str, ablation: str) -> int:
    """Returns the number of training steps in the paper."""
    return _known()[task, ablation, "paper"]["train"]["steps"]


def shortened(records: Mapping[str, Record]) -> dict[str, tuple[str, str]]:
    """Returns by file name the cells of finished runs that differ from the paper in steps alone."""
    return {name: found for name, record in records.items() if (found := _shorter(record))}


def _shorter(record: Record) -> tuple[str, str] | None:
    steps = {"data.source", "train.steps", "train.eval_every"}
    if "test" not in record:
        return None
    found = (
        (task, ablation)
        for (task, ablation, size), config in _known().items()
        if size == "paper" and record["data"] in _PROVENANCE[size]
        and "train.steps" in (keys := differing(record, config)) and keys <= steps
    )  # fmt: skip
    return next(found, None)


def _shortened(shorter: Mapping[str, tuple[str, str]], records: Mapping[str, Record]) -> str:
    if not shorter:
        return ""
    lines = []
    for name, (task, ablation) in shorter.items():
        steps = paper_steps(task, ablation)
        lines.append([
            f"[{TASKS[task]}, {NAMES[ablation]}]({name})",
            f"{records[name]['steps']:,} of {steps:,}",
            PARAMETERIZATION.get((task, ablation)) or MAIN[task, ablation], *_ours([records[name]]),
        ])  # fmt: skip
    lines.sort(key=lambda line: -int(line[1].partition(" ")[0].replace(",", "")))
    columns = "task, model | steps | paper, all steps | ours | accuracy @ step | time | data"
    return (
        "## The paper's sizes, fewer steps\n\n"
        "Whole schedules, warm-up and annealing included, over fewer steps than the paper's.\n\n"
        + table(columns, lines)
    )


def _quick(cells: Mapping[Cell, list[Record]]) -> str:
    """Returns the table of our small models, which cannot be compared with the paper."""
    chosen = [
        (task, ablation) for task in TASKS for ablation in NAMES if cells[task, ablation, "quick"]
    ]
    if not chosen:
        return ""
    lines: list[list[str]] = []
    shown: dict[frozenset[int], str] = {}
    for task, ablation in chosen:
        name = f"{TASKS[task]}, {NAMES[ablation]}"
        for runs in by_provenance(cells[task, ablation, "quick"]):
            if same := same_runs(runs, shown, name):
                lines.append([name, same, *[""] * 5])
                continue
            ours, *others = _ours(runs)
            losses = [record["test"]["loss"] for record in finished(runs)]
            loss = f"{statistics.mean(losses):.3f}" if losses else ""
            parameters = span(record["parameters"] for record in runs)
            lines.append([name, ours, loss, parameters, *others])
    columns = "task, model | test accuracy | test loss | parameters | accuracy @ step | time | data"
    chances = "; ".join(
        "{} {:.1f} ({:.1f})".format(TASKS[task], *chance(classes, examples))
        for task, (classes, examples) in _CHANCE.items()
        if task in {task for task, _ in chosen}
    )
    return (
        "## Small models, minutes on two CPU cores\n\n"
        "The variants `:quick` of the configs: less depth, less width, fewer steps; ListOps of "
        "shorter\nexpressions, the first 1,023 characters of a review, synthetic pairs, paths of 3 "
        "dashes in images of\n16 x 16 (PathFinder) and 32 x 32 pixels (Path-X). They show that "
        "every task is learned and what the\nparts of the LRU do at that size; they do not "
        "reproduce the paper's numbers. Without gamma (+ ring)\nthese small images of Path-X are "
        "learned, too; [Recall](recall.md) has a size at which gamma decides.\nLoss is in nats. "
        "Accuracy of guessing, with the "
        f"standard error of the test split: {chances}.\n\n" + table(columns, lines)
    )


def _speed(cells: Mapping[Cell, Sequence[Record]]) -> str:
    lines = []
    for (task, ablation), paper in SPEED.items():
        rates: dict[str, list[float]] = defaultdict(list)
        for record in cells[task, ablation, "paper"]:
            if record.get("steps_per_second"):
                rates[device(record)].append(record["steps_per_second"])
        ours = [f"{statistics.median(rate):.2g} ({where})" for where, rate in rates.items()]
        if ours:
            lines.append([f"{TASKS[task]}, {NAMES[ablation]}", paper, ", ".join(ours)])
    if not lines:
        return ""
    return (
        "## Table 4: training steps a second\n\nThe paper's on one A100. Programs measured side by "
        f"side: [speed](speed.md).\n\n{table('task, model | paper | ours', lines)}"
    )


def _rings(rings: Mapping[Ring, Sequence[Record]]) -> str:
    lines = [
        [f"{NAMES[ablation]}, r_min = {r_min}, r_max = {r_max}", paper,
         *_ours(rings[ablation, r_min, r_max])]
        for (ablation, r_min, r_max), paper in RINGS.items()
        if (ablation, r_min, r_max) in rings
    ]  # fmt: skip
    columns = _COLUMNS.format("parameterisation, ring")
    return f"## Table 5: rings, sCIFAR\n\n{table(columns, lines)}" if lines else ""


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    lines = [[f"[{name}]({name})", *_ours([record])] for name, record in records.items()]
    columns = "record | test accuracy | accuracy @ step | time | data"
    return f"## Runs with other options\n\n{table(columns, lines)}"
