"""Pictures of the runs on the Long Range Arena."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper.lra import NAMES, TASKS

from report.format import Record, by_provenance, finished
from report.lra import Cell, sort
from report.pictures import Picture, panels

Ablations = Mapping[str, Sequence[float]]  # test accuracies (percent) of the seeds, by ablation


def pictures(records: Mapping[str, Record]) -> list[Picture]:
    """Returns a picture of the ablations for each size that has tasks to show.

    A task is shown at a size if at least three ablations have finished runs.

    Args:
      records: the records, by file name.
    """
    cells, found = sort(records).cells, []
    for size, title in (("quick", "small models"), ("paper", "the paper's sizes")):
        tasks = _accuracies(cells, size)
        if tasks:
            caption = (
                f"The ablations, {title}: test accuracy in percent. Each dot is one seed, and a "
                "line marks the mean. The rows are, from top to bottom, the ablations from dense "
                "recurrences to the LRU, then S4D and S5."
            )
            figure = functools.partial(plot_ablations, tasks)
            found.append(Picture(f"lra/ladder_{size}.png", caption, figure))
    return found


def _accuracies(cells: Mapping[Cell, Sequence[Record]], size: str) -> dict[str, Ablations]:
    """Returns the accuracies, by task, of the tasks with finished runs of three or more ablations.

    For each ablation, only runs on data of one provenance count.
    """
    found: dict[str, Ablations] = {}
    for task in TASKS:
        ablations = {}
        for ablation in NAMES:
            done = finished(next(iter(by_provenance(cells[task, ablation, size])), []))
            if done:
                ablations[ablation] = [100 * record["test"]["accuracy"] for record in done]
        if len(ablations) > 2:
            found[task] = ablations
    return found


def plot_ablations(tasks: Mapping[str, Ablations]) -> Figure:
    """Plots test accuracies: a panel for each task, a row for each ablation."""
    figure, axes = panels(len(tasks))
    for panel, (task, ablations) in zip(axes, tasks.items()):
        _plot_panel(panel, ablations)
        panel.set(title=TASKS[task], xlabel="test accuracy (%)")
    return figure


def _plot_panel(panel: Axes, ablations: Ablations) -> None:
    for row, (ablation, accuracies) in enumerate(ablations.items()):
        color = "tab:red" if ablation == "lru" else "black"
        panel.plot(accuracies, [row] * len(accuracies), "o", color=color, alpha=0.5)
        panel.plot(statistics.mean(accuracies), row, "|", color=color, markersize=16)
    panel.set_yticks(range(len(ablations)), [NAMES[ablation] for ablation in ablations])
    panel.invert_yaxis()
