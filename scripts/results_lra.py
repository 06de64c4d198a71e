"""The page of the Long Range Arena: what our records say beside Orvieto et al. (2023)."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import rows
from paper_lra import MAIN, NAMES, NONLINEARITY, PARAMETERIZATION, RINGS, SPEED, TASKS
from pictures import Picture
from results_format import (
    Record,
    by_kind,
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

Cell = tuple[str, str, str]  # task, rung, size
Ring = tuple[str, float, float]  # rung, r_min, r_max: of Table 5
_KINDS = {"paper": ("full", "generated"), "quick": ("full", "generated", "made-up")}  # by size
_COLUMNS = "{} | paper | ours | accuracy @ step | time | data"
_INTRODUCTION = """\
# Long Range Arena

Test accuracy in per cent of the checkpoint that was best on validation, and the step it is of.
"Paper" is Orvieto et al. (2023): mean (standard error) of three runs; "x" stayed at chance. The
rest is explained in [the index](README.md)."""


class Sorted(NamedTuple):
    """Records by what they are of."""

    cells: dict[Cell, list[Record]]
    rings: dict[Ring, list[Record]]
    others: dict[str, Record]  # by their file names


def sort(records: Mapping[str, Record]) -> Sorted:
    """Records by what they are of; a run is of every row that has its numbers."""
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
    """The page, as Markdown.

    Args:
      records: by their file names.
      pictures: those that there are.
    """
    cells, rings, others = sort(records)
    small, whole = (
        [picture.shown() for picture in pictures if size in picture.name]
        for size in ("quick", "paper")
    )
    return join([
        _INTRODUCTION,
        _quick(cells),
        *small,
        _table("Table 3: the LRU and its rivals", "task, model", MAIN, cells),
        _table("Tables 1 and 6: dense recurrences", "task, recurrence", NONLINEARITY, cells),
        _table(
            "Tables 2, 7 and 8: from a dense recurrence to the LRU",
            "task, recurrence", PARAMETERIZATION, cells,
        ),
        *whole,
        _speed(cells),
        _rings(rings),
        _others(others),
    ])  # fmt: skip


@functools.cache
def _known() -> dict[Cell, dict[str, Any]]:
    """The config of every task, rung and size."""
    return {
        (task, rung, size): rows.lra(task, rung, size).load()
        for task in TASKS
        for rung in NAMES
        for size in _KINDS
    }


def cells_of(record: Record) -> list[Cell]:
    """What a run is of, if its numbers are those of config files: on ListOps of two rungs.

    Wherever the data are from: that is another kind, see `by_kind`. Beside the paper's numbers
    stand none but of the same data, or of such as are made alike.
    """
    return [
        cell
        for cell, config in _known().items()
        if record["data"] in _KINDS[cell[2]] and differing(record, config) <= {"data.source"}
    ]


def ring_of(record: Record) -> Ring | None:
    """The cell of Table 5 that a run is of: sCIFAR at the paper's size, but for its ring."""
    mixer = record["config"]["model"]["mixer"]
    for rung in ("exp", "stable_exp", "lru"):
        ring = {"model.mixer.r_min", "model.mixer.r_max"}
        if differing(record, _known()["cifar", rung, "paper"]) <= ring:
            key = (rung, mixer["r_min"], mixer["r_max"])
            return key if key in RINGS else None
    return None


def _ours(runs: Sequence[Record]) -> list[str]:
    """The cells ours, accuracy @ step, time, data."""
    done = finished(runs)
    if done:
        accuracies = [100 * record["test"]["accuracy"] for record in done]
        where = span(record["test"]["step"] for record in done)
        ours, at = mean(accuracies), f"{statistics.mean(accuracies):.1f} @ {where}"
    elif runs:
        furthest = max(runs, key=lambda record: record["steps"])
        ours = f"step {furthest['steps']:,} of {furthest['steps_planned']:,}"
        best = furthest.get("validation")
        at = f"validation {100 * best['accuracy']:.1f} @ {best['step']:,}" if best else ""
    else:
        return ["not run", "", "", ""]
    return [ours, at, *time_and_data(done or runs)]


def _table(title: str, first: str, paper: Mapping[tuple[str, str], str], cells) -> str:
    lines: list[list[str]] = []
    shown: dict[frozenset[int], str] = {}
    for task, rung in itertools.product(TASKS, dict.fromkeys(rung for _, rung in paper)):
        name = f"{TASKS[task]}, {NAMES[rung]}"
        for runs in by_kind(cells[task, rung, "paper"]) or [[]]:
            same = same_runs(runs, shown, name)
            lines.append([name, paper[task, rung], *([same, "", "", ""] if same else _ours(runs))])
    return f"## {title}\n\n{table(_COLUMNS.format(first), lines)}"


def _quick(cells: Mapping[Cell, list[Record]]) -> str:
    """Small models, which are ours alone: nothing here can be held against the paper."""
    chosen = [(task, rung) for task in TASKS for rung in NAMES if cells[task, rung, "quick"]]
    if not chosen:
        return ""
    lines: list[list[str]] = []
    shown: dict[frozenset[int], str] = {}
    for task, rung in chosen:
        name = f"{TASKS[task]}, {NAMES[rung]}"
        for runs in by_kind(cells[task, rung, "quick"]):
            if same := same_runs(runs, shown, name):
                lines.append([name, same, *[""] * 5])
                continue
            ours, *others = _ours(runs)
            losses = [record["test"]["loss"] for record in finished(runs)]
            loss = f"{statistics.mean(losses):.3f}" if losses else ""
            parameters = span(record["parameters"] for record in runs)
            lines.append([name, ours, loss, parameters, *others])
    columns = "task, model | test accuracy | test loss | parameters | accuracy @ step | time | data"
    return (
        "## Small models, minutes on two CPU cores\n\n"
        "The variants `:quick` of the configs: less depth, less width, fewer steps; ListOps of "
        "shorter\nexpressions, the first 1,023 characters of a text or of each of a pair, "
        "Pathfinder's paths of 6\ndashes, fewer images of paths. They show that everything trains "
        "and what the rungs do at that size;\nthey are no reproduction of the paper's numbers. "
        "Loss: in nats; of two classes, 0.693 by guessing.\n\n" + table(columns, lines)
    )


def _speed(cells: Mapping[Cell, list[Record]]) -> str:
    lines = []
    for (task, rung), paper in SPEED.items():
        rates: dict[str, list[float]] = defaultdict(list)
        for record in cells[task, rung, "paper"]:
            if record.get("steps_per_second"):
                rates[device(record)].append(record["steps_per_second"])
        ours = [f"{statistics.median(rate):.2g} ({where})" for where, rate in rates.items()]
        lines.append([f"{TASKS[task]}, {NAMES[rung]}", paper, ", ".join(ours) or "not run"])
    return (
        "## Table 4: training steps a second\n\nThe paper's on one A100.\n\n"
        f"{table('task, model | paper | ours', lines)}"
    )


def _rings(rings: Mapping[Ring, list[Record]]) -> str:
    lines = [
        [f"{NAMES[rung]}, r_min = {r_min}, r_max = {r_max}", paper,
         *_ours(rings.get((rung, r_min, r_max), []))]
        for (rung, r_min, r_max), paper in RINGS.items()
    ]  # fmt: skip
    columns = _COLUMNS.format("parameterisation, ring")
    return f"## Table 5: rings, sCIFAR\n\n{table(columns, lines)}"


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    lines = [[f"[{name}]({name})", *_ours([record])] for name, record in records.items()]
    columns = "record | test accuracy | accuracy @ step | time | data"
    return f"## Runs with other numbers\n\n{table(columns, lines)}"
