"""Figures of a run's modes: a page of plots, and an animation of the eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lru.analysis.histograms import (
    linear_edges,
    log_edges,
    plot_frequency,
    plot_modulus,
    plot_time_scales,
)
from lru.analysis.modes import Modes
from lru.analysis.plots import (
    plot_eigenvalues,
    plot_impulse_responses,
    plot_near_circle,
    plot_trajectory,
    save_figure,
)
from lru.analysis.responses import impulse_norm
from lru.analysis.statistics import frequencies, time_scales
from lru.errors import UserError

Layers = Mapping[str, tuple[Modes, ...]]
_MOST_LAYERS = 6  # more would be too small to read
_FEWEST_MODES = 20  # a histogram of fewer modes is not informative
_MOST_FRAMES = 150
_SECONDS, _HELD_SECONDS = 4.0, 2.0  # until the last frame (more for many frames), and on it
_MOST_STEPS = 100_000
_LINES: tuple[dict[str, Any], ...] = (  # one per direction
    {"linestyle": "-"},
    {"linestyle": "--"},
)


def save_page(initial: Layers, trained: Layers, path: Path, title: str) -> None:
    """Saves a figure of eigenvalues, histograms and impulse responses, with a column per layer.

    Eigenvalues are drawn on the unit disk, and also by phase and distance from the unit circle. If
    every layer shown has 20 modes or more, there are histograms of moduli, phases and time scales.
    If there are more than six layers, the page shows six of them, evenly spaced in depth.

    Args:
      initial: the modes of every layer before training; see `lru.spectrum.model_modes`.
      trained: the modes of every layer after training.
      path: the file to write; its suffix determines the format.
      title: the title of the figure.

    Raises:
      UserError: if the path has no suffix, or the suffix of an unknown format.
    """
    numbers = _chosen(len(trained))
    names = [list(trained)[number] for number in numbers]
    pairs = [(_lam(trained[name]), _lam(initial[name])) for name in names]
    both = np.concatenate([lam for pair in pairs for lam in pair])
    bins = {
        plot_modulus: linear_edges(np.abs(both)),
        plot_frequency: linear_edges(frequencies(both), least=0.0, most=math.pi),
        plot_time_scales: log_edges(time_scales(both)),
    }
    if min(len(lam) for lam, _ in pairs) < _FEWEST_MODES:
        bins = {}
    columns = len(names)
    rows = 3 + len(bins)
    figure = Figure(figsize=(max(2.5 * columns, 4.5) + 0.5, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    for column, (name, number, pair) in enumerate(zip(names, numbers, pairs)):
        disk, near, *histograms, responses = axes[:, column]
        plot_eigenvalues(disk, *pair).set_title(f"layer {number + 1}", fontsize=10)
        plot_near_circle(near, *pair)
        for axis, (plot, edges) in zip(histograms, bins.items()):
            plot(axis, *pair, edges=edges)
        _plot_responses(responses, initial[name], trained[name], _horizon(both))
    _tidy(axes)
    # The title contains the name of a directory, in which $ and _ are not mathematical notation.
    figure.suptitle(title, fontsize=11, parse_math=False)
    _draw_legend(figure, axes)
    save_figure(figure, path, dpi=110)


def save_animation(
    steps: Sequence[int], trajectories: Mapping[str, np.ndarray], file: Path
) -> None:
    """Saves a GIF of the trajectories of the layers' eigenvalues over training.

    Each frame shows the trajectories up to one evaluation. The animation has at most 150 frames and
    six layers; if there are more evaluations or layers, evenly spaced ones are shown. The last
    frame is held for two seconds. The frames before it take up to four seconds in all, or 80
    milliseconds each if there are more than 50 frames.

    Args:
      steps: the training steps of the K evaluations.
      trajectories: eigenvalues `(K, N)` by layer; see `lru.training.eigenvalue_log.EigenvalueLog`.
      file: the file to write, whose name must end with .gif.

    Raises:
      UserError: if the name of the file does not end with .gif.
    """
    if file.suffix.lower() != ".gif":
        raise UserError(f"--animation is {file}; expected a file name that ends in .gif")
    numbers = _chosen(len(trajectories))
    shown = [list(trajectories.values())[number] for number in numbers]
    columns = len(shown) if len(shown) <= 3 else -(-len(shown) // 2)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3 * columns + 0.4, 3.1 * rows + 0.5), dpi=80, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    canvas, images = FigureCanvasAgg(figure), []
    for frame in evenly(len(steps), _MOST_FRAMES):
        for axis, number, trajectory in zip(axes.flat, numbers, shown):
            axis.clear()
            plot_trajectory(axis, trajectory[: frame + 1])
            axis.set_title(f"layer {number + 1}", fontsize=10)
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        figure.suptitle(f"step {steps[frame]:,}", fontsize=11)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        figure.set_layout_engine("none")  # keep the first layout, as computing one is slow
    milliseconds = max(round(1000 * _SECONDS / len(images)), 80)
    durations = [milliseconds] * (len(images) - 1) + [round(1000 * _HELD_SECONDS)]
    first, *others = images
    first.save(file, save_all=True, append_images=others, duration=durations, loop=0)


def _plot_responses(
    axis: Any, initial: Sequence[Modes], trained: Sequence[Modes], horizon: int
) -> None:
    steps = np.unique(np.geomspace(1, horizon, 300).astype(int))
    lines = {}
    for kind, layer, color in (("initial", initial, "0.65"), ("trained", trained, "#0b3c8c")):
        for direction, modes, style in zip(("", ", backward"), layer, _LINES):
            style = style | {"color": color, "linewidth": 1.4}
            lines[kind + direction] = impulse_norm(modes, steps), style
    plot_impulse_responses(axis, steps, lines)


def _horizon(lam: np.ndarray) -> int:
    """Returns the number of steps in which the slowest mode decays to e^-5.

    Modes that do not decay are ignored. The result is at least 10 and at most `_MOST_STEPS`.
    """
    scales = time_scales(lam)
    longest = np.max(scales[np.isfinite(scales)], initial=2.0)
    return int(min(math.ceil(5 * longest), _MOST_STEPS))


def _lam(directions: Sequence[Modes]) -> np.ndarray:
    return directions[0].lam.ravel()


def _chosen(layers: int) -> list[int]:
    return evenly(layers, _MOST_LAYERS)


def evenly(count: int, most: int) -> list[int]:
    """Returns up to `most` integers from 0 to `count - 1`, as evenly spaced as possible."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _tidy(axes: np.ndarray) -> None:
    for axis in axes.flat:
        axis.xaxis.label.set_size(9)
        axis.yaxis.label.set_size(9)
        axis.tick_params(labelsize=8)
    for axis in axes[:, 1:].flat:
        axis.set_ylabel("")
    for axis in axes[1:].flat:
        axis.spines[["top", "right"]].set_visible(False)


def _draw_legend(figure: Figure, axes: np.ndarray) -> None:
    """Draws a legend of the first layer's markers and response lines, with each label once."""
    handles, labels = axes[0, 0].get_legend_handles_labels()
    for line, label in zip(*axes[-1, 0].get_legend_handles_labels()):
        if label not in labels:
            handles, labels = [*handles, line], [*labels, label]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
