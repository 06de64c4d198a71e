"""The plot of `benchmark.py length`: time and memory of a training step against sequence length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402


def plot_lengths(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Plots each candidate's training time and temporaries against T, with a line of slope one.

    All axes are logarithmic, so the line shows linear growth.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    panels = (
        ("median_seconds", 1, "seconds a training step"),
        ("temporary_bytes", 1e6, "temporaries of the compiled step, MB"),
    )
    for panel, (key, unit, label) in zip(axes, panels):
        for number, candidate in enumerate(dict.fromkeys(row["contestant"] for row in rows)):
            points = [
                (row["time"], row[key] / unit)
                for row in rows
                if row["contestant"] == candidate and key in row
            ]
            panel.loglog(*zip(*points), "os^D"[number % 4] + "-", label=candidate, markersize=4)
        lengths = sorted({row["time"] for row in rows})
        first = min(row[key] / unit for row in rows if row["time"] == lengths[-1] and key in row)
        straight = [first / 2 * length / lengths[-1] for length in lengths]
        panel.loglog(lengths, straight, ":", color="grey", label="linear")
        panel.set_xscale("log", base=2)
        panel.set(xlabel="length T", ylabel=label)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    row = rows[0]
    figure.suptitle(
        f"B={row['batch']}, H={row['d_model']}, N={row['d_state']}, {row['layers']} layers"
    )
    figure.savefig(file, dpi=120)
    plt.close(figure)
