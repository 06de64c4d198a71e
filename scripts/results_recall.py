"""The page of Recall: what gamma, the ring and the phase do for memory, at a small size."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pictures import Picture
from results_format import (
    Record,
    differing,
    finished,
    join,
    mean,
    table,
)
from rows import RECALL_LENGTHS, RECALL_RATES, RECALL_RUNGS, recall

from lru.spectra.responses import ring_gain

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
_LEARNED = 0.99  # of the validation accuracy

_INTRODUCTION = """\
# Recall: the claim about memory

**The claim.** Orvieto et al. (2023): a linear recurrence learns dependencies over thousands of
steps if its eigenvalues start on a ring close to the unit circle, its input is normalised by gamma,
and its phases start small; dense recurrences and eigenvalues from the whole disk stay at chance
(the Path-X column of their Tables 2, 3, 7 and 8).

**The test.** Name the first of T tokens ({classes} classes) after reading the last; the other
T - 1 are drawn from {distractors} other tokens. One layer, H = N = {width}, layer normalisation,
the last step read, Adam at a constant rate, {steps:,} steps of {batch} new sequences. Always
guessing has {chance:.1f} %; with {tests:,} test sequences its standard error is {error:.1f} %.

    python -m lru.train --config=configs/recall.py:quick --workdir=runs/recall

trains the LRU at T = 1,024; `:quick,ring`, `:quick,tanh` and so on the others. All runs of this
page are made by

    python scripts/reproduce.py --table=recall --length=256,1024,4096

and the page and its figures by `python scripts/results.py`, from the records in `recall/`. A record
names its config, seed, commit and machine."""


class Cell(NamedTuple):
    """What a run is of."""

    rung: str
    length: int
    rate: str


Cells = Mapping[Cell, Sequence[Record]]


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    """The config of every rung, at one length and rate."""
    return {rung: recall(rung, RECALL_LENGTHS[0], RECALL_RATES[0]).load() for rung in RECALL_RUNGS}


def sort(records: Mapping[str, Record]) -> tuple[dict[Cell, list[Record]], dict[str, Record]]:
    """The finished runs by cell, and all other records by their file names."""
    cells: dict[Cell, list[Record]] = defaultdict(list)
    others = {}
    for name, record in records.items():
        cell = cell_of(record)
        if cell and "test" in record:
            cells[cell].append(record)
        else:
            others[name] = record
    return {cell: finished(runs) for cell, runs in cells.items()}, others


def cell_of(record: Record) -> Cell | None:
    """The cell of a run; None if it has other numbers than all of the table's."""
    length = record["config"]["data"].get("length")
    rate = record["config"]["optimizer"]["learning_rate"]
    rates = {float(name): name for name in RECALL_RATES}
    if length not in RECALL_LENGTHS or rate not in rates:
        return None
    for rung, config in _known().items():
        if differing(record, config) <= _VARIED:
            return Cell(rung, length, rates[rate])
    return None


def best(cells: Cells, rung: str, length: int) -> tuple[Cell, Sequence[Record]] | None:
    """The learning rate that is best on validation, and its runs; None if there are none.

    Seeds that not every rate has are left out of the comparison.
    """
    found = {cell: cells[cell] for cell in _rates(rung, length) if cells.get(cell)}
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


def _rates(rung: str, length: int) -> list[Cell]:
    return [Cell(rung, length, rate) for rate in RECALL_RATES]


def learned_at(record: Record) -> int | None:
    """The first evaluated step with a validation accuracy of at least 99 %; None if there is none.

    Example:
      >>> learned_at({"validation_curve": [(50, 1.4, 0.25), (100, 0.1, 0.995)]})
      100
    """
    steps = (step for step, _, accuracy in record["validation_curve"] if accuracy >= _LEARNED)
    return next(steps, None)


def accuracies(runs: Sequence[Record]) -> list[float]:
    """Test accuracies in per cent."""
    return [100 * run["test"]["accuracy"] for run in runs]


def page(records: Mapping[str, Record], pictures: Sequence[Picture] = ()) -> str:
    """The page, as Markdown.

    Args:
      records: by their file names.
      pictures: those that there are.
    """
    cells, others = sort(records)
    return join([
        _introduction(),
        _best(cells),
        *[picture.shown() for picture in pictures],
        _explanation(cells),
        _all(cells),
        _coverage(cells),
        _others(others),
    ])  # fmt: skip


def _introduction() -> str:
    config = _known()["lru"]
    data, train = config["data"], config["train"]
    chance = 1 / data["classes"]
    return _INTRODUCTION.format(
        classes=data["classes"],
        distractors=data["distractors"],
        width=config["model"]["d_model"],
        steps=train["steps"],
        batch=train["batch_size"],
        tests=data["num_test"],
        chance=100 * chance,
        error=100 * (chance * (1 - chance) / data["num_test"]) ** 0.5,
    )


def _best(cells: Cells) -> str:
    lines = [
        [NAMES[rung], *(_best_cell(cells, rung, length) for length in RECALL_LENGTHS)]
        for rung in RECALL_RUNGS
    ]
    columns = " | ".join(["recurrence", *(f"T = {length:,}" for length in RECALL_LENGTHS)])
    return (
        "## Test accuracy in per cent, at the best learning rate\n\n"
        "Mean (standard error) over seeds. @ is the learning rate, the best on validation of those "
        "that\nwere run; where not all three were run, it is followed by how many.\n\n"
        + table(columns, lines)
    )


def _best_cell(cells: Cells, rung: str, length: int) -> str:
    found = best(cells, rung, length)
    if not found:
        return "not run"
    cell, runs = found
    tried = sum(bool(cells.get(other)) for other in _rates(rung, length))
    few = f", of {tried}" if tried < len(RECALL_RATES) else ""
    return f"{mean(accuracies(runs))} @ {cell.rate}{few}"


def _coverage(cells: Cells) -> str:
    """What was not run, in a line for each length in place of many empty rows."""
    every = len(RECALL_RUNGS) * len(RECALL_LENGTHS) * len(RECALL_RATES)
    lines = [
        f"Finished runs: {sum(map(len, cells.values()))}, of {len(cells)} of the {every} "
        "combinations of recurrence, length and learning rate.",
        *(_missing(cells, length) for length in RECALL_LENGTHS),
    ]
    return "## What was not run\n\n" + "\n".join(f"- {line}" for line in lines)


def _missing(cells: Cells, length: int) -> str:
    whole, parts = [], []
    for rung in RECALL_RUNGS:
        rates = [cell.rate for cell in _rates(rung, length) if not cells.get(cell)]
        if len(rates) == len(RECALL_RATES):
            whole.append(NAMES[rung])
        elif rates:
            parts.append(f"{NAMES[rung]} at {' and '.join(rates)}")
    if len(whole) == len(RECALL_RUNGS):
        return f"T = {length:,}: nothing was run."
    missing = "; ".join(whole + parts)
    return f"T = {length:,}: " + (f"not run: {missing}." if missing else "all were run.")


def _explanation(cells: Cells) -> str:
    """What gamma and the phase do, in two sentences each, by the runs at one length."""
    length, lru = 1024, best(cells, "lru", 1024)
    if not lru:
        return ""
    mixer = _known()["lru"]["model"]["mixer"]
    gain = ring_gain(mixer["r_min"], mixer["r_max"])
    parts = [f"## What gamma and the phase do\n\nAt T = {length:,}, from the records."]
    if ring := best(cells, "ring", length):
        parts.append(
            "**Gamma.** On this ring the state of white noise has "
            f"{gain:,.0f} times the energy of its input (Proposition 3.3), and gamma divides it "
            f"out: the first validation loss is {_first_loss(lru[1])} nats with gamma and "
            f"{_first_loss(ring[1])} without, where guessing has 1.386. "
            f"With everything else equal, accuracy is {_accuracy(lru[1])} % with gamma, "
            f"{_learned(lru[1])}, and {_accuracy(ring[1])} % without, {_learned(ring[1])}."
        )
    if full := best(cells, "full_phase", length):
        parts.append(
            "**Phase.** A mode turns by its phase at every step: with phases below pi / 10 once in "
            "20 steps or more, so the state is a slow average of what was read, and with phases up "
            "to 2 pi half of the modes turn within 4 steps. "
            f"With phases below pi / 10 the LRU has {_accuracy(lru[1])} %, {_learned(lru[1])}; "
            f"with all phases it has {_accuracy(full[1])} %, {_learned(full[1])}."
        )
    return "\n\n".join(parts)


def _accuracy(runs: Sequence[Record]) -> str:
    return f"{statistics.mean(accuracies(runs)):.1f}"


def _first_loss(runs: Sequence[Record]) -> str:
    return f"{statistics.mean(run['validation_curve'][0][1] for run in runs):.2f}"


def _learned(runs: Sequence[Record]) -> str:
    """When validation had 99 %, in words."""
    steps = [step for run in runs if (step := learned_at(run))]
    if not steps:
        return "and no run comes to 99 % on validation"
    return f"and {len(steps)} of {len(runs)} runs have 99 % on validation, {_after(steps)}"


def _after(steps: Sequence[int]) -> str:
    least, most = min(steps), max(steps)
    return f"after {least:,} steps" if least == most else f"after {least:,} to {most:,} steps"


def _all(cells: Cells) -> str:
    every = itertools.product(RECALL_LENGTHS, RECALL_RUNGS, RECALL_RATES)
    lines = []
    for length, rung, rate in every:
        if runs := cells.get(Cell(rung, length, rate)):
            steps = [step for run in runs if (step := learned_at(run))]
            learned = f"{_after(steps)}, {len(steps)} of {len(runs)}" if steps else "no"
            lines.append([f"{length:,}", NAMES[rung], rate, mean(accuracies(runs)), learned])
    columns = "T | recurrence | rate | test accuracy | 99 % on validation"
    return f"## All runs\n\n{table(columns, lines)}" if lines else ""


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    lines = [
        [f"[{name}]({name})", f"{record['steps']:,} of {record['steps_planned']:,}"]
        for name, record in records.items()
    ]
    return f"## Runs with other numbers, or unfinished\n\n{table('record | steps', lines)}"
