"""The picture of results in the README: memory and depth, side by side."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from report import charlm, recall
from report.charlm import Cells
from report.charlm_plots import draw_depth
from report.format import Record, finished
from report.pictures import Picture, panels
from report.recall_plots import draw_curves

_RECALL = ("tanh", "stable_exp", "ring", "s4d", "s5", "lru")


def pictures(records: Mapping[str, Mapping[str, Record]]) -> list[Picture]:
    """Returns a list with the overview picture; an empty list if there are too few records.

    Args:
      records: the records, by page and file name.
    """
    quick = recall.sort(records["recall"]).quick
    lines = {ablation: quick[ablation] for ablation in _RECALL if ablation in quick}
    cells, _ = charlm.sort(records["charlm"])
    deep = {cell: runs for cell, runs in cells.items() if cell.size == "quick" and finished(runs)}
    if len(lines) < 2 or len({cell.depth for cell in deep}) < 2:
        return []
    caption = (
        "Left: the accuracy of recalling the first of 1,024 tokens, during training. Right: the "
        "test loss of small character models on the Penn Treebank against their depth."
    )
    return [Picture("overview.png", caption, functools.partial(plot_overview, lines, deep))]


def plot_overview(lines: Mapping[str, Sequence[Record]], cells: Cells) -> Figure:
    """Plots accuracy against steps on Recall, and test loss against depth on the Penn Treebank."""
    figure, (memory, depth) = panels(2)
    draw_curves(memory, lines)
    memory.set_title("Linear: recall over 1,024 steps", fontsize=11)
    draw_depth(depth, cells)
    depth.set(xlabel="layers", ylabel="test loss (nats)", xticks=[2, 4, 6, 8])
    depth.set_title("Lattice: depth, Penn Treebank", fontsize=11)
    for panel, columns in ((memory, 2), (depth, 3)):
        panel.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=columns,
            fontsize=8,
            frameon=False,
        )
    return figure
