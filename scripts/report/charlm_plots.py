"""Pictures of the runs of character language models."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from paper.charlm import DATA, NAMES, PERCENT, TALK, Points, read_curves

from report.charlm import Cells, epoch, sort, sort_key
from report.format import Record, finished
from report.pictures import Picture, panels

# The paper's colors, with darker yellow and cyan, and markers that identify models without color.
STYLE = {
    "gru": ("tab:green", "s"),
    "ps_lru": ("#c8a000", "^"),
    "rg_lru": ("black", "v"),
    "lru": ("#d000c0", "o"),
    "lstm": ("tab:blue", "D"),
    "rhn": ("#00a8b8", "x"),
    "grid_lstm": ("tab:red", "+"),
    "linear_lru": ("tab:orange", "*"),
}
_PALE = " Thin, pale lines are the paper's."


def pictures(records: Mapping[str, Record]) -> list[Picture]:
    """Returns the pictures of the runs of character language models.

    Args:
      records: the records of the runs, by file name.
    """
    cells, _ = sort(records)
    found = []
    for size in dict.fromkeys(cell.size for cell in sorted(cells, key=sort_key)):
        of_size = {cell: runs for cell, runs in cells.items() if cell.size == size}
        whole = {cell: runs for cell, runs in of_size.items() if not cell.percent}
        longer = {(cell.data, cell.depth) for cell, runs in whole.items() if _is_longer(runs)}
        drawn = {cell: runs for cell, runs in whole.items() if (cell.data, cell.depth) in longer}
        if drawn:
            figure = functools.partial(plot_curves, drawn)
            caption = (
                f"Test loss after every epoch, `:{size}`. Each line is one seed. The line is solid "
                "up to the epoch with the best validation loss, and dashed after it."
            )
            caption += _PALE * (size in ("10m", "24m"))
            found.append(Picture(f"charlm/curves_{size}.png", caption, figure))
        if len(whole) < len(of_size):
            caption = f"Test loss against the share of the text trained on, `:{size}`."
            caption += _PALE * (size == "10m")
            figure = functools.partial(plot_percent, of_size)
            found.append(Picture(f"charlm/percent_{size}.png", caption, figure))
    deep = {cell: runs for cell, runs in cells.items() if cell.size == "quick" and finished(runs)}
    if len({cell.depth for cell in deep}) > 1:
        caption = (
            "Test loss against depth. Left: our small models `:quick`; each dot is one run, and "
            "lines join the means. Right: the results of the authors' talk."
        )
        figure = functools.partial(plot_depth, deep)
        found.append(Picture("charlm/depth_quick.png", caption, figure))
    deepest = _with_norms(cells)
    if deepest:
        caption = (
            "Norm of the gradient by layer and step, `:quick`, one seed, on a common scale. Layer "
            "1 is next to the characters; each column is the mean over 100 steps. The GRU's two "
            "brighter columns contain the first steps of an epoch, which begin with a zero state."
        )
        figure = functools.partial(plot_gradients, deepest)
        found.append(Picture("charlm/gradients_quick.png", caption, figure))
    # The three epochs of `:quick` are too few to tell when a model is at its best.
    ended = {cell: runs for cell, runs in cells.items() if cell.size != "quick"}
    if any(_past_best(runs) for runs in ended.values()):
        caption = (
            "Epochs up to the best validation loss, for runs that continued after it. Each dot is "
            "one run."
        )
        found.append(Picture("charlm/epochs.png", caption, functools.partial(plot_epochs, ended)))
    return found


def _past_best(runs: Sequence[Record]) -> list[Record]:
    """Returns the finished runs that continued after their best epoch.

    The other finished runs ended at their best epoch, and might have improved further.
    """
    return [record for record in finished(runs) if record["validation"]["step"] < record["steps"]]


def _is_longer(runs: Sequence[Record]) -> bool:
    """Returns whether any of the runs has a curve of two or more points."""
    return any(len(curve(record)[0]) > 1 for record in runs)


def curve(record: Record) -> tuple[Points, int]:
    """Returns a run's pairs (epoch, test loss), and its best epoch on validation.

    Epochs are counted from 1. The best epoch is 0 if the run has not been evaluated yet.
    """
    curves, best = record.get("curves", {}), record.get("validation", {"step": 0})["step"]
    points = [(epoch(record, step), loss) for step, loss in curves.get("test", [])]
    return points, epoch(record, best)


def plot_curves(cells: Cells) -> Figure:
    """Plots test loss against epochs, with the paper's curves: a panel for each text and depth."""
    pairs = list(dict.fromkeys((cell.data, cell.depth) for cell in sorted(cells, key=sort_key)))
    figure, axes = panels(len(pairs))
    paper = read_curves()
    for panel, (data, depth) in zip(axes, pairs):
        chosen = {
            cell: runs for cell, runs in cells.items() if (cell.data, cell.depth) == (data, depth)
        }
        for cell, runs in sorted(chosen.items(), key=lambda item: sort_key(item[0])):
            if points := paper.get((data, cell.size, cell.model)):
                points = [(number + 1, loss) for number, loss in points]  # the paper counts from 0
                _line(panel, points, cell.model, linewidth=0.8, alpha=0.4, marker="", label="")
            for number, record in enumerate(runs):
                _draw_run(panel, record, cell.model, first=number == 0)
        panel.set_ylim(top=_highest(chosen.values()))
        panel.set(title=f"{DATA[data]}, {depth} layers", xlabel="epoch", ylabel="test loss, nats")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.legend(frameon=False, fontsize=8)
    return figure


def _highest(cells: Iterable[Sequence[Record]]) -> float | None:
    """Returns the upper limit of a panel that shows our curves in full; the paper's may be cut off.

    Returns None if our curves have fewer than two different losses.
    """
    losses = [loss for runs in cells for record in runs for _, loss in curve(record)[0]]
    return max(losses) + 0.05 * (max(losses) - min(losses)) if len(set(losses)) > 1 else None


def _draw_run(panel: Axes, record: Record, model: str, first: bool) -> None:
    points, best = curve(record)
    _line(panel, points[:best], model, label=NAMES[model] if first else "")
    if len(points) > best:
        _line(panel, points[max(best - 1, 0) :], model, linestyle="--", marker="", label="")


def _line(panel: Axes, points: Sequence[tuple[float, float]], model: str, **options) -> None:
    color, marker = STYLE[model]
    every = max(len(points) // 8, 1)
    style: dict[str, Any] = dict(
        color=color, marker=marker, markersize=4, markevery=every, linewidth=1.3
    )
    panel.plot(*np.transpose(points), **(style | options))


def plot_epochs(cells: Cells) -> Figure:
    """Plots the best epochs of the runs that continued after them.

    Each size has its own panel, in which each model has a box.
    """
    ended = sorted((cell for cell in cells if _past_best(cells[cell])), key=sort_key)
    sizes = list(dict.fromkeys(cell.size for cell in ended))
    figure, axes = panels(len(sizes))
    for panel, size in zip(axes, sizes):
        epochs: dict[str, list[int]] = defaultdict(list)
        for cell in ended:
            if cell.size == size:
                epochs[cell.model] += [curve(record)[1] for record in _past_best(cells[cell])]
        shown = [model for model in NAMES if model in epochs]
        panel.boxplot(
            [epochs[model] for model in shown], tick_labels=[NAMES[model] for model in shown],
            showfliers=False, medianprops=dict(color="black"),
        )  # fmt: skip
        for x, model in enumerate(shown, start=1):
            color, marker = STYLE[model]
            panel.plot([x] * len(epochs[model]), epochs[model], marker, color=color, alpha=0.6)
        texts = ", ".join(dict.fromkeys(DATA[cell.data] for cell in ended if cell.size == size))
        depths = " and ".join(map(str, sorted({cell.depth for cell in ended if cell.size == size})))
        panel.set(title=f"{texts}, {depths} layers, :{size}")
        panel.set(ylabel="epochs to the best validation loss")
        panel.set_ylim(0, 1.1 * max(map(max, epochs.values())))
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
        panel.tick_params("x", rotation=30)
    return figure


def plot_depth(cells: Cells) -> Figure:
    """Plots test loss against depth on the Penn Treebank: our results, and those of the talk."""
    figure, (ours, talk) = panels(2)
    draw_depth(ours, cells)
    for model in NAMES:
        theirs = [(depth, float(number)) for (data, depth, other), number in TALK.items()
                  if (data, other) == ("ptb", model) and number != "-"]  # fmt: skip
        if theirs:
            _line(talk, theirs, model, label=NAMES[model], markevery=1)
    for panel, title in ((ours, "ours, :quick, Penn Treebank"), (talk, "the talk, Penn Treebank")):
        panel.set(title=title, xlabel="layers", ylabel="test loss, nats", xticks=[2, 4, 6, 8])
    handles, labels = ours.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def draw_depth(panel: Axes, cells: Cells) -> None:
    """Draws test loss against depth on the Penn Treebank.

    Each finished run on the config's share of the text is a dot, and a line joins the means of each
    model.
    """
    for model in NAMES:
        losses = {
            cell.depth: [record["test"]["loss"] for record in finished(runs)]
            for cell, runs in sorted(cells.items(), key=lambda item: sort_key(item[0]))
            if (cell.data, cell.model, cell.percent) == ("ptb", model, 0)
        }
        means = [(depth, statistics.mean(each)) for depth, each in losses.items()]
        if means:
            _line(panel, means, model, label=NAMES[model], markevery=1)
        for depth, each in losses.items():
            panel.plot([depth] * len(each), each, ".", color=STYLE[model][0], alpha=0.5)


def _with_norms(cells: Cells) -> dict[str, Record]:
    """Returns the deepest `:quick` runs of seed 0 that have gradient norms, by label."""
    runs = {
        cell: record
        for cell in sorted(cells, key=sort_key)
        for record in cells[cell]
        if cell.size == "quick" and record.get("gradient_norms") and record["seed"] == 0
    }
    deepest = max((cell.depth for cell in runs), default=0)
    return {
        f"{NAMES[cell.model]}, {cell.depth} layers, {DATA[cell.data]}": record
        for cell, record in runs.items()
        if cell.depth == deepest
    }


def plot_gradients(runs: Mapping[str, Record]) -> Figure:
    """Plots the norms of the layers' gradients against steps, as colors: a panel for each run."""
    figure, axes = panels(len(runs))
    norms = {name: np.array([row for _, row in run["gradient_norms"]]).T
             for name, run in runs.items()}  # fmt: skip
    least, most = min(map(np.min, norms.values())), max(map(np.max, norms.values()))
    scale = LogNorm(max(least, most / 1e6), most)
    for panel, (name, run) in zip(axes, runs.items()):
        steps = [step for step, _ in run["gradient_norms"]]
        layers = np.arange(1, len(norms[name]) + 1)
        image = panel.pcolormesh(steps, layers, norms[name], norm=scale, shading="nearest")
        panel.set(title=name, xlabel="step", ylabel="layer", yticks=layers)
        panel.grid(False)
    figure.colorbar(image, ax=axes, label="norm of the layer's gradient")
    return figure


def plot_percent(cells: Cells) -> Figure:
    """Plots mean test losses, with standard errors, against the share of the text.

    There is a panel for each text and depth for which some cell has a `percent` other than 0.
    """
    size = next(iter(cells)).size
    pairs = list(dict.fromkeys((c.data, c.depth) for c in sorted(cells, key=sort_key) if c.percent))
    figure, axes = panels(len(pairs))
    for panel, (data, depth) in zip(axes, pairs):
        for model in NAMES:
            wanted = (data, model, depth)
            found = [cell for cell in cells if (cell.data, cell.model, cell.depth) == wanted]
            points = sorted(_mean_loss(cells[cell]) for cell in found if finished(cells[cell]))
            if points:
                percents, losses, errors = zip(*points)
                _line(panel, list(zip(percents, losses)), model, label=NAMES[model], markevery=1)
                panel.errorbar(percents, losses, errors, fmt="none", color=STYLE[model][0])
            pale = [
                (percent, float(number))
                for (text, percent, other), number in PERCENT.items()
                if (text, other) == (data, model) and found and size == "10m"
            ]
            if pale:
                _line(panel, pale, model, linewidth=0.8, alpha=0.4, marker="", label="")
        shares = sorted({_mean_loss(runs)[0] for runs in cells.values() if finished(runs)})
        panel.set(xscale="log", xlabel="share of the text (%)")
        panel.set_xticks(shares, list(map(str, shares)))
        panel.set_xticks([], minor=True)
        panel.set(title=f"{DATA[data]}, {depth} layers, :{size}", ylabel="test loss, nats")
        panel.legend(frameon=False, fontsize=8)
    return figure


def _mean_loss(runs: Sequence[Record]) -> tuple[int, float, float]:
    """Returns the percentage of the text, and the finished runs' mean test loss and its error.

    The error is the standard error, given as 0 for a single run.
    """
    losses = [record["test"]["loss"] for record in finished(runs)]
    error = statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
    return runs[0]["config"]["data"]["percent"], statistics.mean(losses), error
