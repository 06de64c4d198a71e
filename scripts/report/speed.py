"""The page on speed and memory: the main ratios, then the records of `scripts/benchmark.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import COLUMNS, format_row
from paper.lra import SPEED, TASKS

from report.format import Record, device, join, table

_HEAD = """\
# Speed and memory

`scripts/benchmark.py` made these measurements. The programs of one record ran in turns, each in its
own process, so their ratios are meaningful even if the machine was busy. Do not compare numbers of
different records."""
_APPENDIX_A = """\
## Against the layer of Appendix A

The table compares training steps of six layers at the paper's widths: the library's default, which
recomputes states in the backward pass, and the same model with the layer of the paper's Appendix A.
Temporaries are the memory that XLA allocates in addition to arguments and results."""
_TABLE_4 = """\
## Table 4: the recurrences side by side

The table shows training steps per second of six layers at Table 10's widths, with all states
saved for the backward pass, and the speed relative to the tanh RNN. The paper's relative speed,
on an A100 with the batches of Table 10, is in parentheses. Our batches are small. On a CPU, many
small matrix products, which the tanh RNN computes, are not much slower than one large product.
So the LRU gains less than on a GPU, where sequential steps leave most of the device idle. S4D
computes its kernel of length T in every training step, which is costly for a small batch. GRU is
Flax's GRU of width H; the paper does not report a GRU."""
_CANDIDATES = {"tanh": "tanh", "GRU": "", "lru, kept": "lru", "S4D": "s4d", "S5, kept": "s5"}
_NAMES = {"tanh": "tanh RNN", "lru, kept": "LRU", "S5, kept": "S5"}
_SHAPES = {"scifar": "cifar"}  # shapes whose names differ from their tasks'
_RECORDS = """\
## All records

The newest record is first. "Times the first" is the time of a program divided by the time of the
first program, as the median over the rounds. The docstrings of `scripts/benchmark.py` and of the
modules in `scripts/benchmarks` explain the columns and the programs."""


def page(records: Mapping[str, Record]) -> str:
    """Returns the page as Markdown.

    Args:
      records: the records of `benchmark.py`, by file name.
    """
    newest = sorted(records, key=lambda name: records[name]["date"], reverse=True)
    return join([
        _HEAD,
        _appendix_a(records),
        _table_4(records),
        _RECORDS if records else "",
        *(_section(name, records[name]) for name in newest),
    ])  # fmt: skip


def steps(records: Mapping[str, Record]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Finds the newest record with training steps of both the tanh RNN and the LRU on a task.

    Returns:
      The name of the record, and its rows of training steps on such tasks, by task and candidate;
      an empty name and no rows if there is no such record.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(records, key=lambda name: records[name]["date"], reverse=True):
        for row in records[name]["rows"]:
            task = _SHAPES.get(row["shape"], row["shape"])
            if task in TASKS and row["part"] == "step" and "seconds" in row:
                found.setdefault(task, {})[row["contestant"]] = row
        found = {task: rows for task, rows in found.items() if {"tanh", "lru, kept"} <= rows.keys()}
        if found:
            return name, found
    return "", {}


def times_as_fast(rows: Mapping[str, Mapping[str, Any]], candidate: str = "lru, kept") -> float:
    """Returns a candidate's speed relative to the tanh RNN, from the rows of one task."""
    return rows["tanh"]["ratio"] / rows[candidate]["ratio"]


def _table_4(records: Mapping[str, Record]) -> str:
    name, found = steps(records)
    if not name:
        return ""
    record = records[name]
    lines = []
    for task in TASKS:
        if rows := found.get(task):
            shape = rows["tanh"]
            lines.append([
                f"{TASKS[task]}, B={shape['batch']}, T={shape['time']:,}",
                *(_speed(task, rows, candidate) for candidate in _CANDIDATES),
            ])  # fmt: skip
    columns = " | ".join(_NAMES.get(candidate, candidate) for candidate in _CANDIDATES)
    return join([
        _TABLE_4,
        _where(record),
        table(f"steps per second | {columns}", lines),
        f"```sh\n{record['command']}\n```",
    ]).rstrip()  # fmt: skip


def _speed(task: str, rows: Mapping[str, Any], candidate: str) -> str:
    row = rows.get(candidate)
    if row is None:
        return ""
    text = f"{1 / row['median_seconds']:.2g}"
    if candidate == "tanh":
        return text
    text += f", {times_as_fast(rows, candidate):.2g} x"
    if paper := _CANDIDATES[candidate]:
        text += f" ({float(SPEED[task, paper]) / float(SPEED[task, 'tanh']):.2g} x)"
    return text


def against_appendix_a(records: Mapping[str, Record]) -> dict[str, tuple[float, int, int]]:
    """Compares our training steps with those of the layer of Appendix A.

    Returns:
      By shape, how many times as fast our step is, the bytes of our temporaries, and the bytes of
      the temporaries of Appendix A. If several records have both layers at a shape, the newest is
      used. The shapes of the kind "length" are left out.
    """
    found: dict[str, tuple[float, int, int]] = {}
    for name in sorted(records, key=lambda name: records[name]["date"]):
        rows = [row for row in records[name]["rows"]
                if row["part"] == "step" and "seconds" in row]  # fmt: skip
        by_candidate = {(row["shape"], row["contestant"]): row for row in rows}
        for (shape, candidate), theirs in by_candidate.items():
            ours = by_candidate.get((shape, "lru"))
            if candidate == "Appendix A" and ours and not shape.startswith("T="):
                found[shape] = (
                    theirs["ratio"] / ours["ratio"],
                    ours["temporary_bytes"],
                    theirs["temporary_bytes"],
                )
    return found


def _appendix_a(records: Mapping[str, Record]) -> str:
    lines = [
        [shape, f"{ratio:.1f}", f"{ours / 1e6:,.0f} MB instead of {theirs / 1e6:,.0f}"]
        for shape, (ratio, ours, theirs) in against_appendix_a(records).items()
    ]
    columns = "shape | times as fast | temporaries"
    return join([_APPENDIX_A, table(columns, lines)]).rstrip() if lines else ""


def _where(record: Record) -> str:
    jax, commit = record["hardware"]["versions"]["jax"], record["commit"] or "unknown"
    return f"{record['date'][:10]}, {device(record)}, jax {jax}, commit `{commit[:7]}`."


def _section(name: str, record: Record) -> str:
    return join([
        f"### {Path(name).stem}",
        f"```sh\n{record['command']}\n```",
        f"{_where(record)} [Record]({name}).",
        table(COLUMNS, (format_row(row) for row in record["rows"])),
    ]).rstrip()  # fmt: skip
