"""The page of speed and memory: what `scripts/benchmark.py` measured, as it measured it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark import COLUMNS, format_row
from results_format import Record, device, join, table

_HEAD = """\
# Speed and memory

What `scripts/benchmark.py` measured, newest first. The programs of one record were measured in
turns, so that its ratios mean something even where its seconds were taken on a busy machine;
numbers of different records are not to be compared. "Times the first" is the median, over the
rounds, of a program's seconds over those of the first one named. What is compared with what is
explained at the head of `scripts/benchmark.py`, and of the modules that build the programs.
"""


def page(records: Mapping[str, Record]) -> str:
    """Its Markdown.

    Args:
      records: those of `benchmark.py`, by file name.
    """
    newest = sorted(records, key=lambda name: records[name]["date"], reverse=True)
    return join([_HEAD.rstrip(), *(_section(name, records[name]) for name in newest)])


def _section(name: str, record: Record) -> str:
    jax, commit = record["hardware"]["versions"]["jax"], record["commit"] or "unknown"
    return join(
        [
            f"## [{Path(name).stem}]({name})",
            f"```sh\n{record['command']}\n```",
            f"{record['date'][:10]}, {device(record)}, jax {jax}, commit `{commit[:7]}`.",
            table(COLUMNS, (format_row(row) for row in record["rows"])),
        ]
    ).rstrip()
