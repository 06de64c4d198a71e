"""What the pages of results share: which config a record is of, and how its numbers are written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lru.training.config import differences

Record = Mapping[str, Any]


# Settings of speed, memory and logging: a run counts for its row whatever they are.
_SPEED = {
    "model.remat",
    "model.chunk_size",
    "model.mixer.chunk_size",
    "train.matmul_precision",
    "train.eval_batch_size",
    "train.log_every",
    "train.checkpoint_every",
    "train.record_gradient_norms",
}


def differing(record: Record, config: Mapping[str, Any]) -> set[str]:
    """The keys that make a run another experiment than a config's."""
    return differences(record["config"], config).keys() - {"seed", "data.release"} - _SPEED


def by_kind(runs: Iterable[Record]) -> list[list[Record]]:
    """The runs on each kind of data apart: their results are no repetitions of each other."""
    kinds: dict[str, list[Record]] = {}
    for record in runs:
        kinds.setdefault(record["data"], []).append(record)
    return [kinds[kind] for kind in sorted(kinds)]


def finished(runs: Iterable[Record]) -> list[Record]:
    """Those that have a test, one of each seed."""
    return list({record["seed"]: record for record in runs if "test" in record}.values())


def mean(values: Sequence[float], digits: int = 1) -> str:
    """Mean (standard error), and of how many.

    Example:
      >>> mean([60.0, 62.0]), mean([60.0]), mean([1.0, 1.01], digits=3)
      ('61.0 (1.0), 2 seeds', '60.0, 1 seed', '1.005 (0.005), 2 seeds')
    """
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({statistics.stdev(values) / len(values) ** 0.5:.{digits}f})"
    return f"{text}, {len(values)} seed{'s' * (len(values) > 1)}"


def span(values: Iterable[int]) -> str:
    """One number, or from which to which.

    Example:
      >>> span([1500, 1500]), span([1500, 1000])
      ('1,500', '1,000 to 1,500')
    """
    least, *_, most = sorted(values) * 2
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def time_and_data(runs: Sequence[Record]) -> list[str]:
    """The mean duration on each kind of machine, and the kinds of data."""
    seconds: dict[str, list[float]] = {}
    for record in runs:
        seconds.setdefault(device(record), []).append(record["seconds"])
    times = [f"{_duration(statistics.mean(each))}, {where}" for where, each in seconds.items()]
    kinds = sorted({_data(record) for record in runs})
    return ["; ".join(times), ", ".join(kinds)]


def same_runs(runs: Sequence[Record], shown: dict[frozenset[int], str], name: str) -> str:
    """Names the earlier row that the same runs count for, or remembers this one.

    Args:
      runs: those of a row.
      shown: the rows of the table so far, by the identities of their runs.
      name: of this row.
    """
    key = frozenset(map(id, runs))
    earlier = shown.setdefault(key, name) if runs else name
    return "" if earlier == name else f"the same runs as {earlier}"


def device(record: Record) -> str:
    """What a run was on."""
    hardware = record["hardware"]
    if hardware["platform"] == "cpu":
        cores = hardware["cpu_cores"]
        return f"{cores} CPU core{'s' * (cores > 1)}"
    return f"{hardware['devices']} x {hardware['device']}"


def _data(record: Record) -> str:
    remark = record.get("remark")
    return f"{record['data']} ({remark})" if remark else record["data"]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def table(columns: str, lines: Iterable[Sequence[str]]) -> str:
    """Lines below the names of their columns, which stand between bars.

    Example:
      >>> print(table("model | loss", [["LRU", "1.0"]]))
      | model | loss |
      |---|---|
      | LRU | 1.0 |
    """
    rule = "---".join("|" * (columns.count("|") + 2))
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"| {columns} |", rule, *rows])


def coverage(counted: Mapping[str, tuple[int, int]], reason: str, command: str) -> str:
    """What was not run: a line for each table in place of its empty rows.

    Args:
      counted: by the table's name, how many of its rows were run, and how many it has.
      reason: why not all were.
      command: what runs them.

    Example:
      >>> print(coverage({"Table 1": (1, 3), "Table 2": (2, 2)}, "Each takes a day.", "make rows"))
      ## What was not run
      <BLANKLINE>
      Each takes a day. The command is `make rows`.
      <BLANKLINE>
      - Table 1: 2 of 3 rows.
    """
    missing = [
        f"- {name}: {total - run} of {total} rows." for name, (run, total) in counted.items()
        if run < total
    ]  # fmt: skip
    if not missing:
        return ""
    head = f"## What was not run\n\n{reason} The command is `{command}`."
    return "\n\n".join([head, "\n".join(missing)])


def chance(classes: int, examples: int) -> str:
    """Per cent that guessing has on so many examples, and its standard error.

    Example:
      >>> chance(2, 2_500)
      '50.0 (1.0)'
    """
    p = 1 / classes
    return f"{100 * p:.1f} ({100 * (p * (1 - p) / examples) ** 0.5:.1f})"


def join(parts: Iterable[str]) -> str:
    """Parts of a page, those that are empty left out."""
    return "\n\n".join(part for part in parts if part) + "\n"
