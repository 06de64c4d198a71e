"""Evaluates a trained model after reducing it to several numbers of modes by several methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lru.analysis.reduction import METHODS, hankel_singular_values
from lru.errors import UserError
from lru.io.files import new_folder
from lru.training.figures import run_name
from lru.training.reducing import TrainedRun, each_layer, state_moments
from lru.training.run_config import load_run_config

WAYS = {  # for each line of the figure, by label: --method and --inputs of lru.reduce
    "balanced": ("balanced", "white"),
    "balanced, measured inputs": ("balanced", "measured"),
    "perturbation, measured inputs": ("perturbation", "measured"),
    "modal": ("modal", "white"),
}
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0b3c8c", "marker": "o"},
    {"color": "#c0392b", "marker": "^"},
    {"color": "black", "marker": "v", "linestyle": ":"},
    {"color": "0.5", "marker": "s", "linestyle": "--"},
)
_SCORES = {  # by metric: the label of the y-axis, a factor, and a format
    "bits_per_character": ("bits per character", 1, ".2f"),
    "rmse": ("RMSE", 1, ".4g"),
    "accuracy": ("accuracy (%)", 100, ".2f"),
}
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


def sweep(run: TrainedRun) -> dict[str, Any]:
    """Evaluates a run's model, reduced to about an eighth to three quarters of its modes.

    The reductions are those of `WAYS`: balanced truncation for white noise, balanced truncation and
    singular perturbation for the inputs of the layers in training, and modal truncation.

    Returns:
      A dict with `name`, the run's name; `split`, the evaluated split; `step`, the step of the
      checkpoint; `d_state`, N; `modes`, the numbers K; `whole`, the metrics with all N modes; for
      each key of `WAYS`, a list of the metrics for each K; and `hankel_singular_values`, by layer,
      for white noise.

    Raises:
      UserError: the run has no split to evaluate on, or a layer's inputs cannot be measured, or a
        layer cannot be reduced.
    """
    if run.split is None:
        raise UserError(
            "--sweep evaluates the model; expected a --split other than none, and a data set that "
            "can be read"
        )
    sizes = sorted({max(round(share * run.d_state), 1) for share in _SHARES})
    sigma = each_layer(hankel_singular_values, run, {})
    moments: dict[str, dict[str, Any]] = {"white": {}, "measured": state_moments(run)}
    scores = {}
    for name, (method, inputs) in WAYS.items():
        options = METHODS[method], run, moments[inputs]
        scores[name] = [run.evaluate(each_layer(*options, modes=modes)) for modes in sizes]
    return {
        "name": run_name(load_run_config(run.workdir)),
        "split": run.split,
        "step": run.step,
        "d_state": run.d_state,
        "modes": sizes,
        "whole": run.evaluate(),
        **scores,
        "hankel_singular_values": {
            path: [float(f"{value:.4g}") for value in values] for path, values in sigma.items()
        },
    }


def save_sweep(found: Mapping[str, Any], out: Path) -> None:
    """Writes `sweep.json` and `sweep.png` into a new folder, atomically."""
    with new_folder(out) as folder:
        (folder / "sweep.json").write_text(json.dumps(found) + "\n")
        draw_sweep(found).savefig(folder / "sweep.png", dpi=110)


def draw_sweep(found: Mapping[str, Any]) -> Figure:
    """Draws the result of `sweep`: the scores, and each layer's relative Hankel singular values."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    scores, values = figure.subplots(1, 2)
    _plot_scores(scores, found)
    for number, sigma in enumerate(found["hankel_singular_values"].values(), start=1):
        _plot_values(values, np.array(sigma), number, len(found["hankel_singular_values"]))
    values.set(yscale="log", xlabel="number / 2 (a mode is two states)")
    values.set(ylabel="Hankel singular value / largest", ylim=(max(values.get_ylim()[0], 1e-8), 2))
    for axis in (scores, values):
        axis.axvline(found["d_state"] / 2, color="0.85", linewidth=1, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    values.legend(frameon=False, fontsize=9)
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{found['name']}: {found['d_state']} modes, reduced", fontsize=11)
    return figure


def _plot_scores(axis: Any, found: Mapping[str, Any]) -> None:
    name = next(name for name in _SCORES if name in found["whole"])
    label, unit, digits = _SCORES[name]
    whole = unit * found["whole"][name]
    axis.axhline(whole, color="0.7", linestyle=":", label=f"all modes: {whole:{digits}}")
    sizes = [*found["modes"], found["d_state"]]
    for method, style in zip(WAYS, _STYLES):
        points = [unit * score[name] for score in found[method]]
        axis.plot(sizes, [*points, whole], label=method, markersize=4, **style)
    axis.set(xlabel="modes of each layer")
    axis.set(ylabel=f"{found['split']} {label}")


def _plot_values(axis: Any, sigma: np.ndarray, number: int, layers: int) -> None:
    shade = str(0.7 * (number - 1) / max(layers - 1, 1))
    axis.plot(np.arange(len(sigma)) / 2, sigma / sigma[0], color=shade, label=f"layer {number}")
