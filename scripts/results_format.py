"""What the pages of results share: which config a record is of, and how its numbers are written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lru.training.config import differences

Record = Mapping[str, Any]


def differing(record: Record, config: Mapping[str, Any]) -> set[str]:
    """The keys in which a run's config is not that one, but for those of no other experiment."""
    return differences(record["config"], config).keys() - {"seed", "data.release"}


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
    """How long runs took, on what, and on which kind of data."""
    seconds = statistics.mean(record["seconds"] for record in runs)
    devices = sorted({device(record) for record in runs})
    kinds = sorted({_data(record) for record in runs})
    return [f"{_duration(seconds)}, {', '.join(devices)}", ", ".join(kinds)]


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


def join(parts: Iterable[str]) -> str:
    """Parts of a page, those that are empty left out."""
    return "\n\n".join(part for part in parts if part) + "\n"
