"""Functions that the pages of results share, to match records to configs and format numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lru.training.run_config import differences

Record = Mapping[str, Any]

# Options of speed, memory and logging: a run counts for its row whatever values they have.
_SPEED = {
    "train.eval_batch_size",
    "train.log_every",
    "train.checkpoint_every",
    "train.record_gradient_norms",
}


def differing(record: Record, config: Mapping[str, Any]) -> set[str]:
    """Returns the keys of the options that differ between a run's config and another config.

    The seed, `data.release`, and options of speed, memory and logging are ignored.
    """
    return differences(record["config"], config).keys() - {"seed", "data.release"} - _SPEED


def by_provenance(runs: Iterable[Record]) -> list[list[Record]]:
    """Groups runs by the provenance of their data; only runs of one group should be averaged."""
    groups: dict[str, list[Record]] = {}
    for record in runs:
        groups.setdefault(record["data"], []).append(record)
    return [groups[provenance] for provenance in sorted(groups)]


def finished(runs: Iterable[Record]) -> list[Record]:
    """Returns the last run of each seed among the runs that have a test score."""
    return list({record["seed"]: record for record in runs if "test" in record}.values())


def mean(values: Sequence[float], digits: int = 1) -> str:
    """Formats a mean, its standard error if there are several seeds, and the number of seeds.

    Example:
      >>> mean([60.0, 62.0]), mean([60.0]), mean([1.0, 1.01], digits=3)
      ('61.0 (1.0), 2 seeds', '60.0, 1 seed', '1.005 (0.005), 2 seeds')
    """
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({statistics.stdev(values) / len(values) ** 0.5:.{digits}f})"
    return f"{text}, {len(values)} seed{'s' * (len(values) > 1)}"


def span(values: Iterable[int]) -> str:
    """Formats the range of some numbers, or one number if they are all equal.

    Example:
      >>> span([1500, 1500]), span([1500, 1000])
      ('1,500', '1,000 to 1,500')
    """
    least, *_, most = sorted(values) * 2
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def time_and_data(runs: Sequence[Record]) -> list[str]:
    """Formats the runs' mean duration on each type of device, and the provenance of their data."""
    seconds: dict[str, list[float]] = {}
    for record in runs:
        seconds.setdefault(device(record), []).append(record["seconds"])
    times = [f"{_duration(statistics.mean(each))}, {where}" for where, each in seconds.items()]
    provenance = sorted({_data(record) for record in runs})
    return ["; ".join(times), ", ".join(provenance)]


def same_runs(runs: Sequence[Record], shown: dict[frozenset[int], str], name: str) -> str:
    """Returns a note that names the earlier row with the same runs; "" if there is none.

    Args:
      runs: the runs of this row.
      shown: the names of the earlier rows of the table, by the identities of their runs. If no
        earlier row has the same runs, this row is added, unless it has no runs.
      name: the name of this row.
    """
    key = frozenset(map(id, runs))
    earlier = shown.setdefault(key, name) if runs else name
    return "" if earlier == name else f"the same runs as {earlier}"


def device(record: Record) -> str:
    """Returns the hardware of a run, in words."""
    hardware = record["hardware"]
    if hardware["platform"] == "cpu":
        cores = hardware["cpu_cores"]
        return f"{cores} CPU core{'s' * (cores > 1)}"
    return f"{hardware['devices']} x {hardware['device']}"


def _data(record: Record) -> str:
    note = record.get("remark")
    return f"{record['data']} ({note})" if note else record["data"]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def table(columns: str, lines: Iterable[Sequence[str]]) -> str:
    """Formats a Markdown table; `columns` are the names of the columns, separated by vertical bars.

    Example:
      >>> print(table("model | loss", [["LRU", "1.0"]]))
      | model | loss |
      |---|---|
      | LRU | 1.0 |
    """
    rule = "---".join("|" * (columns.count("|") + 2))
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"| {columns} |", rule, *rows])


def totals(counted: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Returns the numbers of rows that were run and of all rows, summed over the tables.

    Args:
      counted: see `coverage`.

    Example:
      >>> totals({"Table 1": (1, 3), "Table 2": (2, 2)})
      (3, 5)
    """
    run, total = map(sum, zip(*counted.values()))
    return run, total


def coverage(counted: Mapping[str, tuple[int, int]], reason: str, command: str) -> str:
    """Formats the section on what was not run, with a line for each table that has missing rows.

    Returns "" if all rows were run.

    Args:
      counted: by table, the number of its rows that were run, and the number of all its rows.
      reason: why some rows were not run.
      command: the command that runs the rows.

    Example:
      >>> print(coverage({"Table 1": (1, 3), "Table 2": (2, 2)}, "Each takes a day.", "make rows"))
      ## What was not run
      <BLANKLINE>
      Each takes a day. This command runs them: `make rows`.
      <BLANKLINE>
      - Table 1: 2 of 3 rows were not run.
    """
    missing = [
        f"- {name}: {total - run} of {total} rows were not run."
        for name, (run, total) in counted.items()
        if run < total
    ]  # fmt: skip
    if not missing:
        return ""
    head = f"## What was not run\n\n{reason} This command runs them: `{command}`."
    return "\n\n".join([head, "\n".join(missing)])


def chance(classes: int, examples: int) -> tuple[float, float]:
    """Returns the accuracy of random guessing, and its standard error, in percent.

    Args:
      classes: the number of classes.
      examples: the number of test examples.

    Example:
      >>> chance(2, 2_500)
      (50.0, 1.0)
    """
    p = 1 / classes
    return 100 * p, 100 * (p * (1 - p) / examples) ** 0.5


def join(sections: Iterable[str]) -> str:
    """Joins the nonempty sections with blank lines, and ends the result with a newline."""
    return "\n\n".join(section for section in sections if section) + "\n"
