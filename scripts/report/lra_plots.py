"""Pictures of the runs on the Long Range Arena."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper.lra import NAMES, TASKS

from report.format import Record, by_kind, finished
from report.lra import Cell, sort
from report.pictures import Picture, panels

Ablations = Mapping[str, Sequence[float]]  # test accuracies in per cent, one a seed, by ablation


def pictures(records: Mapping[str, Record]) -> list[Picture]:
    """The ladder of each size, of the tasks on which more than one ablation was run.

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


def _accuracies(cells: Mapping[Cell, Sequence[Record]], size: str) -> dict[str, Ablations]:
    """By task, where there are ablations to compare; of an ablation on several kinds of data the first."""
    found: dict[str, Ablations] = {}
    for task in TASKS:
        ablations = {}
        for ablation in NAMES:
            done = finished(next(iter(by_kind(cells[task, ablation, size])), []))
            if done:
                ablations[ablation] = [100 * record["test"]["accuracy"] for record in done]
        if len(ablations) > 1:
            found[task] = ablations
    return found


def plot_ladder(tasks: Mapping[str, Ablations]) -> Figure:
    """Test accuracies: a panel for each task, a line for each ablation."""
    figure, axes = panels(len(tasks))
    for panel, (task, ablations) in zip(axes, tasks.items()):
        _plot_ablations(panel, ablations)
        panel.set(title=TASKS[task], xlabel="test accuracy, per cent")
    return figure


def _plot_ablations(panel: Axes, ablations: Ablations) -> None:
    for place, (ablation, accuracies) in enumerate(ablations.items()):
        colour = "tab:red" if ablation == "lru" else "black"
        panel.plot(accuracies, [place] * len(accuracies), "o", color=colour, alpha=0.5)
        panel.plot(statistics.mean(accuracies), place, "|", color=colour, markersize=16)
    panel.set_yticks(range(len(ablations)), [NAMES[ablation] for ablation in ablations])
    panel.invert_yaxis()
