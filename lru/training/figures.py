"""Draws figures of runs: metrics against the step, and eigenvalues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lru.analysis.modes import model_eigenvalues
from lru.analysis.plots import near_circle, plot_eigenvalues, plot_near_circle, save_figure
from lru.errors import UserError


def run_name(config: Mapping[str, Any]) -> str:
    """Returns a run's name for titles: the names of its config's data set and mixer.

    If the config has no mixer, the name of the model replaces that of the mixer.

    Example:
      >>> data, mixer = {"type": "lru.data.listops:ListOps.create"}, {"type": "lru:LRU"}
      >>> run_name({"data": data, "model": {"type": "lru.models:LanguageModel", "mixer": mixer}})
      'listops, LRU'
    """
    data = config["data"]["type"].partition(":")[0].rpartition(".")[2]
    model = config["model"].get("mixer", config["model"])["type"]
    return f"{data}, {model.rpartition(':')[2]}"


def save_curves(rows: Sequence[Mapping[str, Any]], best_step: int, path: Path, title: str) -> None:
    """Draws the loss, and the accuracy or RMSE, of each split against the step; saves the figure.

    Args:
      rows: the lines of `metrics.jsonl`.
      best_step: the step of the selected checkpoint, which is marked on the test curve.
      path: the file to write.
      title: the title of the figure.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    styles = {
        "train": {"color": "0.55", "linewidth": 1.2},
        "validation": {"color": "#0b3c8c", "linewidth": 1.8},
        "test": {"color": "#c0392b", "linestyle": "--", "marker": "*", "markersize": 12},
    }
    if any("rmse" in row for row in rows):
        names = {"loss": "mean squared error, standardized", "rmse": "RMSE"}
    else:
        names = {"loss": "cross entropy (nats)", "accuracy": "accuracy (%)"}
    for axis, (name, label) in zip(figure.subplots(1, 2), names.items()):
        unit = 100 if name == "accuracy" else 1
        for split, style in styles.items():
            points = [(row["step"], row[name]) for row in rows if row["split"] == split]
            if points:
                steps, values = np.array(points).T
                marked = np.flatnonzero(steps == best_step).tolist()
                axis.plot(steps, unit * values, label=split, markevery=marked, **style)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)


def save_spectrum(
    initial: Mapping[str, Any],
    trained: Mapping[str, Any],
    path: Path,
    title: str,
    layers: Mapping[str, Any] | None = None,
) -> bool:
    """Draws the initial and trained eigenvalues of a model, layer by layer, and saves the figure.

    The eigenvalues are drawn on the unit disk. If all of them are inside the unit circle but close
    to it, they are drawn by phase and distance from the circle instead.

    Args:
      initial, trained: the parameters of a model before and after training.
      path: the file to write.
      title: the title of the figure.
      layers: see `lru.analysis.modes.model_modes`.

    Returns:
      Whether the figure was saved; it is not if the model has no eigenvalues.
    """
    before, after = (model_eigenvalues(params, layers) for params in (initial, trained))
    if not after:
        return False
    columns = len(after) if len(after) <= 4 else -(-len(after) // 2)
    lines = -(-len(after) // columns)
    width = max(3.1 * columns, 6.2)  # the title needs 6.2
    figure = Figure(figsize=(width, 3.1 * lines + 0.8), layout="constrained")
    near = all(near_circle(lam) for found in (before, after) for lam in found.values())
    plot = plot_near_circle if near else plot_eigenvalues
    axes = figure.subplots(lines, columns, squeeze=False, sharex=near, sharey=near).ravel()
    for axis, (layer, name) in zip(axes, enumerate(after)):
        plot(axis, after[name], before.get(name))
        axis.set_title(f"layer {layer + 1}", fontsize=10)
    for axis in axes[:-columns]:
        axis.set_xlabel("")
    for axis in np.delete(axes, slice(0, None, columns)):
        axis.set_ylabel("")
    for axis in axes[len(after) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    return True


def save_validation_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draws the validation loss, and the accuracy or RMSE, of several runs; saves the figure.

    Args:
      curves: the validation lines of `metrics.jsonl`, by the name of the run.
      path: the file to write; its suffix determines the format.

    Raises:
      UserError: there are no curves, or the path has no suffix of a known format.
    """
    if not curves:
        raise UserError("no run has been evaluated yet, so there are no curves to draw")
    rows = [row for found in curves.values() for row in found]
    second = "accuracy" if any("accuracy" in row for row in rows) else "rmse"
    labels = {"loss": "validation loss", "accuracy": "accuracy (%)", "rmse": "RMSE"}
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name in zip(axes, ("loss", second)):
        unit = 100 if name == "accuracy" else 1
        for run, found in curves.items():
            points = [(row["step"], unit * row[name]) for row in found if name in row]
            axis.plot(*zip(*points), marker=".", label=run) if points else axis.plot([], label=run)
        axis.set(xlabel="step", ylabel=labels[name])
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    for text in legend.get_texts():  # in names of directories, $ is not mathematical notation
        text.set_parse_math(False)
    save_figure(figure, path, dpi=150)
