"""The page on Recall: how gamma, the ring and the phases affect memory, in small models."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lru.analysis.responses import ring_gain
from report.format import (
    Record,
    chance,
    differing,
    finished,
    join,
    mean,
    table,
)
from report.pictures import Picture
from report.rows import RECALL_ABLATIONS, RECALL_LENGTHS, RECALL_RATES, recall

NAMES = {
    "relu": "dense, ReLU",
    "tanh": "dense, tanh",
    "linear": "dense, linear",
    "real_imag": "full disk, real + imaginary",
    "exp": "full disk, exponential",
    "stable_exp": "full disk, stable exponential",
    "ring": "ring, small phases (LRU without gamma)",
    "ring_full_phase": "ring, all phases, without gamma",
    "full_phase": "LRU, all phases",
    "lru": "LRU",
    "s4d": "S4D, its own time scales",
    "s4d_fit": "S4D, time scales of the task",
    "s5": "S5, its own time scales",
    "s5_fit": "S5, time scales of the task",
}
_VARIED = {"data.length", "optimizer.learning_rate", "optimizer.end_learning_rate"}
_LEARNED = 0.99  # validation accuracy

_INTRODUCTION = """\
# Recall: the claim about memory

**The claim.** According to Orvieto et al. (2023), a linear recurrence learns dependencies over
thousands of steps if its eigenvalues start on a ring close to the unit circle, its input is
normalized by gamma, and its phases start small. Dense recurrences, and recurrences whose
eigenvalues are drawn from the whole disk, stay at chance (the Path-X column of their Tables 2, 3, 7
and 8).

**The test.** The task is to name the first of T tokens ({classes} classes) after reading the last;
the other T - 1 tokens are drawn from {distractors} others. The model has one layer with H = N =
{width} and layer normalization, and reads out the last step. Adam trains it at a constant learning
rate for {steps:,} steps, each with {batch} new sequences. Chance accuracy is {chance:.1f} %; with
{tests:,} test sequences, its standard error is {error:.1f} %.

This command trains the LRU at T = 1,024:

    python -m lru.train --config=configs/recall.py:quick --workdir=runs/recall

`:quick,ring`, `:quick,tanh` and so on train the ablations. These two commands run all of them, and
the table of lengths and learning rates:

    python scripts/reproduce.py --table=recall --size=quick --rate=0.003
    python scripts/reproduce.py --table=recall --length=256,1024,4096

`python scripts/results.py` generates this page and its figures from the records in `recall/`. A
record has the config, seed, commit and hardware of its run."""


class Cell(NamedTuple):
    """The experiment of a run: its ablation, length and learning rate."""

    ablation: str
    length: int
    rate: str


Cells = Mapping[Cell, Sequence[Record]]


class Sorted(NamedTuple):
    """The records, grouped by the rows that they count for; `others` count for none."""

    cells: dict[Cell, list[Record]]  # finished runs
    quick: dict[str, list[Record]]  # finished runs of `:quick`, by ablation
    others: dict[str, Record]  # by file name
    diverged: dict[Cell, list[Record]]


@functools.cache
def _known(size: str = "table") -> dict[str, dict[str, Any]]:
    """Returns the config of each ablation at a size; T is 1,024 and the learning rate is 0.003."""
    return {ablation: recall(ablation, 1024, "0.003", size).load() for ablation in RECALL_ABLATIONS}


def sort(records: Mapping[str, Record]) -> Sorted:
    """Groups records by the rows that they count for.

    If several tested runs of a row have the same seed, only the last is kept.
    """
    cells: dict[Cell, list[Record]] = defaultdict(list)
    diverged: dict[Cell, list[Record]] = defaultdict(list)
    quick: dict[str, list[Record]] = defaultdict(list)
    others = {}
    for name, record in records.items():
        if "diverged_at" in record and (cell := cell_of(record)):
            diverged[cell].append(record)
        elif "test" not in record:
            others[name] = record
        elif cell := cell_of(record):
            cells[cell].append(record)
        elif ablation := quick_of(record):
            quick[ablation].append(record)
        else:
            others[name] = record
    return Sorted(
        {cell: finished(runs) for cell, runs in cells.items()},
        {ablation: finished(quick[ablation]) for ablation in RECALL_ABLATIONS if ablation in quick},
        others,
        dict(diverged),
    )


def quick_of(record: Record) -> str | None:
    """Returns the ablation of a run of `:quick`; None if the run has other options."""
    known = _known("quick").items()
    return next((ablation for ablation, config in known if not differing(record, config)), None)


def cell_of(record: Record) -> Cell | None:
    """Returns the cell of a run; None if the table has no row with the options of the run."""
    length = record["config"]["data"].get("length")
    rate = record["config"]["optimizer"]["learning_rate"]
    rates = {float(name): name for name in RECALL_RATES}
    if length not in RECALL_LENGTHS or rate not in rates:
        return None
    for ablation, config in _known().items():
        if differing(record, config) <= _VARIED:
            return Cell(ablation, length, rates[rate])
    return None


def best(cells: Cells, ablation: str, length: int) -> tuple[Cell, Sequence[Record]] | None:
    """Returns the cell with the best learning rate, and its runs; None if there are no runs.

    The best learning rate has the highest mean validation accuracy. Among rates with equal
    accuracy, the one with the lowest mean validation loss is the best. If some seeds were run at
    all rates that have runs, only the runs of these seeds are compared.
    """
    found = {cell: cells[cell] for cell in _rates(ablation, length) if cells.get(cell)}
    if not found:
        return None
    shared = set.intersection(*({run["seed"] for run in runs} for runs in found.values()))

    def score(cell: Cell) -> tuple[float, float]:
        rows = [run["validation"] for run in found[cell] if run["seed"] in shared or not shared]
        return (
            statistics.mean(row["accuracy"] for row in rows),
            -statistics.mean(row["loss"] for row in rows),
        )

    chosen = max(found, key=score)
    return chosen, found[chosen]


def at_best(cells: Cells, length: int) -> dict[str, Sequence[Record]]:
    """Returns the runs at each ablation's best rate for T = `length`; {} if the LRU has none."""
    found = {
        ablation: runs[1]
        for ablation in RECALL_ABLATIONS
        if (runs := best(cells, ablation, length))
    }
    return found if "lru" in found else {}


def _rates(ablation: str, length: int) -> list[Cell]:
    return [Cell(ablation, length, rate) for rate in RECALL_RATES]


def learned_at(record: Record) -> int | None:
    """Returns the first evaluated step with at least 99 % validation accuracy, or None.

    Example:
      >>> learned_at({"validation_curve": [(50, 1.4, 0.25), (100, 0.1, 0.995)]})
      100
    """
    steps = (step for step, _, accuracy in record["validation_curve"] if accuracy >= _LEARNED)
    return next(steps, None)


def accuracies(runs: Sequence[Record]) -> list[float]:
    """Returns the test accuracies of the runs, in percent."""
    return [100 * run["test"]["accuracy"] for run in runs]


def page(records: Mapping[str, Record], pictures: Sequence[Picture] = ()) -> str:
    """Returns the page as Markdown.

    Args:
      records: the records, by file name.
      pictures: the pictures of these records.
    """
    cells, quick, others, diverged = sort(records)
    return join([
        _introduction(),
        _best(cells, diverged),
        _quick(quick),
        *[picture.markdown() for picture in pictures],
        _explanation(max(at_best(cells, 1024), quick, key=len), at_best(cells, 256)),
        _all(cells, diverged),
        _coverage(cells, diverged, quick),
        _others(others),
    ])  # fmt: skip


def _introduction() -> str:
    config = _known()["lru"]
    data, train = config["data"], config["train"]
    guessing, error = chance(data["classes"], data["num_test"])
    return _INTRODUCTION.format(
        classes=data["classes"],
        distractors=data["distractors"],
        width=config["model"]["d_model"],
        steps=train["steps"],
        batch=train["batch_size"],
        tests=data["num_test"],
        chance=guessing,
        error=error,
    )


def _best(cells: Cells, diverged: Cells) -> str:
    lines = [
        [
            NAMES[ablation],
            *(_best_cell(cells, diverged, ablation, length) for length in RECALL_LENGTHS),
        ]
        for ablation in RECALL_ABLATIONS
        if any(best(cells, ablation, length) for length in RECALL_LENGTHS)
    ]
    if not lines:
        return ""
    columns = " | ".join(["recurrence", *(f"T = {length:,}" for length in RECALL_LENGTHS)])
    return (
        "## Test accuracy in percent, at the best learning rate\n\nThe table shows the mean "
        "(standard error) over seeds. The number after @ is the learning rate\nwith the best "
        'validation accuracy. If not all three learning rates were run, "of" and their number\n'
        "follow.\n\n" + table(columns, lines)
    )


def _best_cell(cells: Cells, diverged: Cells, ablation: str, length: int) -> str:
    found = best(cells, ablation, length)
    if not found:
        return "not run"
    cell, runs = found
    tried = sum(other in cells or other in diverged for other in _rates(ablation, length))
    few = f", of {tried}" if tried < len(RECALL_RATES) else ""
    return f"{mean(accuracies(runs))} @ {cell.rate}{few}"


def _coverage(cells: Cells, diverged: Cells, quick: Mapping[str, Sequence[Record]]) -> str:
    """Returns the section on what was not run, for `:quick` and for each length."""
    absent = [NAMES[ablation] for ablation in RECALL_ABLATIONS if ablation not in quick]
    every = len(RECALL_ABLATIONS) * len(RECALL_LENGTHS) * len(RECALL_RATES)
    known = cells.keys() | diverged.keys()
    runs = sum(map(len, (*cells.values(), *diverged.values())))
    lines = [
        "`:quick`: " + (f"not run: {'; '.join(absent)}." if absent else "all ablations were run."),
        f"The table has {runs} runs, for {len(known)} of the {every} combinations of recurrence, "
        "length and learning rate.",
        *(_missing(known, length) for length in RECALL_LENGTHS),
    ]
    return "## What was not run\n\n" + "\n".join(f"- {line}" for line in lines)


def _missing(known: Collection[Cell], length: int) -> str:
    absent, partial = [], []
    for ablation in RECALL_ABLATIONS:
        rates = [cell.rate for cell in _rates(ablation, length) if cell not in known]
        if len(rates) == len(RECALL_RATES):
            absent.append(NAMES[ablation])
        elif rates:
            partial.append(f"{NAMES[ablation]} at {' and '.join(rates)}")
    if len(absent) == len(RECALL_ABLATIONS):
        return f"T = {length:,}: nothing was run."
    missing = "; ".join(absent + partial)
    return f"T = {length:,}: " + (
        f"not run: {missing}." if missing else "all combinations were run."
    )


def _explanation(
    runs: Mapping[str, Sequence[Record]], short: Mapping[str, Sequence[Record]]
) -> str:
    """Returns the section on gamma and the phase; "" if `runs` has none of the LRU.

    Args:
      runs: the runs at T = 1,024, by ablation.
      short: the runs at T = 256, by ablation.
    """
    if "lru" not in runs:
        return ""
    sections = [
        "## The effects of gamma and the phase\n\nThese results are for T = 1,024, unless noted."
    ]
    if "ring" in runs:
        sections.append(_gamma(runs["lru"], runs["ring"]))
    if {"lru", "ring"} <= short.keys():
        sections[-1] += (
            f" At T = 256, with gamma, {_learned(short['lru'])}; without gamma, "
            f"{_learned(short['ring'])}. So gamma matters most for long memories."
        )
    if "full_phase" in runs:
        sections.append(_phase(runs["lru"], runs["full_phase"]))
    return "\n\n".join(sections)


def _gamma(lru: Sequence[Record], ring: Sequence[Record]) -> str:
    mixer = _known()["lru"]["model"]["mixer"]
    gain = ring_gain(mixer["r_min"], mixer["r_max"])
    return (
        f"**Gamma.** With eigenvalues on this ring and without gamma, the state has {gain:,.0f} "
        "times the energy of a white-noise input (Proposition 3.3); gamma removes this factor. The "
        f"first validation loss is {_first_loss(lru)} nats with gamma and {_first_loss(ring)} "
        f"without; chance is 1.386. With gamma, {_learned(lru)}; without gamma and with all else "
        f"equal, {_learned(ring)}."
    )


def _phase(lru: Sequence[Record], full: Sequence[Record]) -> str:
    return (
        "**Phase.** A mode rotates by its phase at every step. With phases below pi / 10, one turn "
        "takes at least 20 steps; with phases up to 2 pi, one turn of half of the modes takes at "
        f"most 4 steps. With phases below pi / 10, {_learned(lru)}; with all phases, "
        f"{_learned(full)}."
    )


def _first_loss(runs: Sequence[Record]) -> str:
    return f"{statistics.mean(run['validation_curve'][0][1] for run in runs):.2f}"


def _learned(runs: Sequence[Record]) -> str:
    """Returns, in words, the test accuracy, and which runs reached 99 % on validation and when."""
    accuracy = f"test accuracy is {statistics.mean(accuracies(runs)):.1f} %"
    steps = [step for run in runs if (step := learned_at(run))]
    if not steps:
        return f"{accuracy}, and no run reached 99 % on validation"
    number = f"{len(steps)} of {len(runs)} runs"
    return f"{accuracy}, and {number} reached 99 % on validation {_after(steps)}"


def _after(steps: Sequence[int]) -> str:
    least, most = min(steps), max(steps)
    return f"after {least:,} steps" if least == most else f"after {least:,} to {most:,} steps"


def _quick(runs: Mapping[str, Sequence[Record]]) -> str:
    if not runs:
        return ""
    lines = [
        [NAMES[ablation], mean(accuracies(each)), _when(each)] for ablation, each in runs.items()
    ]
    columns = "recurrence | test accuracy | 99 % on validation"
    return (
        "## `:quick`\n\nThis variant of the config has T = 1,024 and a learning rate of 0.003. "
        "With its 1,000 test sequences,\nthe standard error of chance accuracy is 1.4 %.\n\n"
        + table(columns, lines)
    )


def _when(runs: Sequence[Record]) -> str:
    """Returns, in words, when runs reached 99 % on validation, and how many; "no" if none did."""
    steps = [step for run in runs if (step := learned_at(run))]
    return f"{_after(steps)}, {len(steps)} of {len(runs)}" if steps else "no"


def _all(cells: Cells, diverged: Cells) -> str:
    every = itertools.product(RECALL_LENGTHS, RECALL_ABLATIONS, RECALL_RATES)
    lines = []
    for length, ablation, rate in every:
        cell = Cell(ablation, length, rate)
        runs, failed = cells.get(cell, []), diverged.get(cell, [])
        if runs or failed:
            results = [mean(accuracies(runs))] if runs else []
            results += [f"diverged at step {run['diverged_at']:,}" for run in failed]
            when = _when(runs) if runs else "no"
            lines.append([f"{length:,}", NAMES[ablation], rate, "; ".join(results), when])
    columns = "T | recurrence | rate | test accuracy | 99 % on validation"
    return f"## All runs\n\n{table(columns, lines)}" if lines else ""


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    lines = [
        [f"[{name}]({name})", f"{record['steps']:,} of {record['steps_planned']:,}"]
        for name, record in records.items()
    ]
    return f"## Runs with other options, or unfinished\n\n{table('record | steps', lines)}"
