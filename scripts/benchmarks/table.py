"""Formats a row of a benchmark's record as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    "shape | part | candidate | ms, median (min - max) | times the first | per second "
    "| temporaries MB | peak MB | compile s"
)


def format_row(row: Mapping[str, Any]) -> list[str]:
    """Returns a row of the table, with one string for each column named in `COLUMNS`."""
    cells = [row["shape"], row["part"], row["contestant"]]  # the key in existing records
    if "skipped" in row:
        cells += [f"not run: {row['skipped']}", "", ""]
    else:
        least, most = (f(row["seconds"]) * 1e3 for f in (min, max))
        cells += [f"{row['median_seconds'] * 1e3:,.1f} ({least:,.1f} - {most:,.1f})"]
        cells += [f"{row['ratio']:.2f}", _rate(row)]
    cells += [f"{row['temporary_bytes'] / 1e6:,.0f}", f"{row.get('peak_bytes', 0) / 1e6:,.0f}"]
    return [*cells, f"{row['compile_seconds']:.1f}"]


def _rate(row) -> str:
    """Returns the gigabytes, tokens or calls per second, as text.

    For a training step with the paper's batch size, the text includes the LRU's speed in the paper.
    """
    if "bytes_per_second" in row:
        return f"{row['bytes_per_second'] / 1e9:,.1f} GB"
    if "tokens_per_second" in row:
        return f"{row['tokens_per_second']:,.0f} tokens"
    rate = f"{1 / row['median_seconds']:,.2f}"
    if row["part"] == "step" and row["batch"] == row["paper_batch"]:
        rate += f" (A100, Table 4: {row['paper_steps_per_second']})"
    return rate
