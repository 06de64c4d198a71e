"""Pictures of the runs on the Long Range Arena."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper_lra import NAMES, TASKS
from pictures import Picture, panels
from results_format import Record, by_kind, finished
from results_lra import Cell, sort

Rungs = Mapping[str, Sequence[float]]  # test accuracies in per cent, one a seed, by rung


def pictures(records: Mapping[str, Record]) -> list[Picture]:
    """The ladder of each size, of the tasks on which three rungs or more were run.

    Args:
      records: by their file names.
    """
    cells, found = sort(records).cells, []
    for size, kind in (("quick", "small models"), ("paper", "the paper's sizes")):
        tasks = _accuracies(cells, size)
        if tasks:
            caption = (
                f"The ladder, {kind}: test accuracy in per cent. A dot a seed, a line at their "
                "mean; from the top down, from dense recurrences to the LRU, and its rivals."
            )
            figure = functools.partial(plot_ladder, tasks)
            found.append(Picture(f"lra/ladder_{size}.png", caption, figure))
    return found


def _accuracies(cells: Mapping[Cell, Sequence[Record]], size: str) -> dict[str, Rungs]:
    """By task, where there are rungs to compare; of a rung on several kinds of data the first."""
    found: dict[str, Rungs] = {}
    for task in TASKS:
        rungs = {}
        for rung in NAMES:
            done = finished(next(iter(by_kind(cells[task, rung, size])), []))
            if done:
                rungs[rung] = [100 * record["test"]["accuracy"] for record in done]
        if len(rungs) > 2:
            found[task] = rungs
    return found


def plot_ladder(tasks: Mapping[str, Rungs]) -> Figure:
    """Test accuracies: a panel for each task, a line for each rung."""
    figure, axes = panels(len(tasks))
    for panel, (task, rungs) in zip(axes, tasks.items()):
        _plot_rungs(panel, rungs)
        panel.set(title=TASKS[task], xlabel="test accuracy, per cent")
    return figure


def _plot_rungs(panel: Axes, rungs: Rungs) -> None:
    for place, (rung, accuracies) in enumerate(rungs.items()):
        colour = "tab:red" if rung == "lru" else "black"
        panel.plot(accuracies, [place] * len(accuracies), "o", color=colour, alpha=0.5)
        panel.plot(statistics.mean(accuracies), place, "|", color=colour, markersize=16)
    panel.set_yticks(range(len(rungs)), [NAMES[rung] for rung in rungs])
    panel.invert_yaxis()
