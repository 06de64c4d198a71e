"""Plots of eigenvalues and gains: each function `plot_...` draws on Matplotlib `Axes`.

Each of these functions returns the `Axes`. In plots of eigenvalues, initial values are gray rings,
and trained or current values are dark blue dots. The plots of distributions are in
`lru.analysis.histograms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lru.analysis.responses import InputGains
from lru.analysis.statistics import time_scales
from lru.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINED = "#0b3c8c"


def plot_eigenvalues(axis: Any, lam: np.ndarray, initial: np.ndarray | None = None) -> Any:
    """Draws eigenvalues on the unit disk and, if given, their initial values in gray.

    Args:
      axis: the Matplotlib `Axes` to draw on.
      lam: the eigenvalues, `(N,)` complex.
      initial: the initial eigenvalues, `(N,)` complex, or None.

    Returns:
      The `Axes`.
    """
    _draw_disk(axis)
    if initial is not None:
        lines = np.stack([initial, lam])
        axis.plot(lines.real, lines.imag, color="0.75", linestyle="-", linewidth=0.6, zorder=1)
        _draw_rings(axis, initial, "initial")
    axis.scatter(lam.real, lam.imag, s=7, color=_TRAINED, label="trained")
    return axis


def near_circle(lam: np.ndarray) -> bool:
    """Returns whether all eigenvalues are near the unit circle, with 0.95 < |lambda| < 1.

    In a plot of the unit disk, the distances of such eigenvalues from the circle are hard to see.

    Example:
      >>> near_circle(np.array([0.999, 0.9999j])), near_circle(np.array([0.5, 0.999]))
      (True, False)
    """
    modulus = np.abs(lam)
    return bool(np.all((modulus > 0.95) & (modulus < 1)))


def plot_near_circle(axis: Any, lam: np.ndarray, initial: np.ndarray | None = None) -> Any:
    """Draws eigenvalues by phase and distance from the unit circle, on logarithmic axes.

    Modes on or outside the unit circle, and modes with phase 0, are left out. For the arguments and
    the result, see `plot_eigenvalues`.
    """
    points = [np.stack([np.abs(np.angle(x)), 1 - np.abs(x)]) for x in (lam, initial)
              if x is not None]  # fmt: skip
    points = [np.where(x > 0, x, np.nan) for x in points]
    if initial is not None:
        lines = np.stack(points)
        axis.plot(lines[:, 0], lines[:, 1], color="0.75", linestyle="-", linewidth=0.6, zorder=1)
        _draw_rings(axis, points[1][0] + 1j * points[1][1], "initial")
    axis.scatter(*points[0], s=7, color=_TRAINED, label="trained")
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="phase |arg λ| (radians per step)", ylabel="1 − |λ|")
    for scale in (axis.xaxis, axis.yaxis):
        set_log_ticks(scale)
    return axis


def set_log_ticks(scale: Any) -> None:
    """Labels the powers of ten on a logarithmic scale.

    If the scale spans less than a factor of 50, two and five times each power are labeled too.

    Args:
      scale: the Matplotlib `Axis` with the scale: the `xaxis` or `yaxis` of `Axes`.
    """
    # Imported here, so that `lru.spectrum` computes modes where Matplotlib is not installed.
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    class Locator(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            self.set_params(subs=(1, 2, 5) if vmax < 50 * vmin else (1,))
            return super().tick_values(vmin, vmax)

    scale.set_major_locator(Locator())
    scale.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(9, 9)))
    scale.set_minor_formatter(NullFormatter())


def plot_trajectory(axis: Any, trajectory: np.ndarray) -> Any:
    """Draws the trajectories of eigenvalues over training, with their initial and current values.

    Args:
      axis: the Matplotlib `Axes` to draw on.
      trajectory: the eigenvalues, `(K, N)` complex, one row per evaluation, the earliest first.

    Returns:
      The `Axes`.
    """
    _draw_disk(axis)
    path = dict(color="0.45", linestyle="-", linewidth=0.7, zorder=1)
    axis.plot(trajectory.real, trajectory.imag, **path)
    _draw_rings(axis, trajectory[0], "initial")
    axis.scatter(trajectory[-1].real, trajectory[-1].imag, s=7, color=_TRAINED, label="now")
    return axis


def plot_impulse_responses(
    axis: Any, steps: np.ndarray, responses: Mapping[str, tuple[np.ndarray, dict[str, Any]]]
) -> Any:
    """Draws norms of impulse responses against the time since the impulse, on logarithmic axes.

    Args:
      axis: the Matplotlib `Axes` to draw on.
      steps: the numbers of steps since the impulse, `(K,)`, positive.
      responses: for each line's label, `(norms, style)`: the norms `(K,)`, and keyword arguments
        of `Axes.plot`.

    Returns:
      The `Axes`.
    """
    for name, (norms, style) in responses.items():
        axis.plot(steps, np.where(norms > 0, norms, np.nan), label=name, **style)
    highest = max((norms.max() for norms, _ in responses.values()), default=1.0)
    axis.set(xscale="log", yscale="log", ylim=(1e-4 * highest, 2 * highest))
    axis.set(xlabel="steps since the impulse", ylabel="‖Re[C Λᵏ B]‖")
    return axis


def plot_gains(axis: Any, lam: np.ndarray, gains: InputGains) -> Any:
    """Draws the gains of modes against their time scales, on logarithmic axes.

    Args:
      axis: the Matplotlib `Axes` to draw on.
      lam: the eigenvalues, `(N,)` complex.
      gains: the gains of the modes; see `lru.spectrum.input_gains`.

    Returns:
      The `Axes`.
    """
    styles: dict[str, dict[str, Any]] = {
        "resonant": {"marker": "^", "facecolors": "none", "edgecolors": "0.5"},
        "constant": {"marker": ".", "color": _TRAINED},
        "noise": {"marker": "_", "color": "black"},
    }
    names = {"resonant": "own frequency", "constant": "constant", "noise": "white noise (rms)"}
    for field, style in styles.items():
        axis.scatter(time_scales(lam), getattr(gains, field), s=18, label=names[field], **style)
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="time scale −1/log|λ| (steps)", ylabel="|state| for an input of size one")
    axis.legend(frameon=False, fontsize=8)
    return axis


def plot_norms(axis: Any, radius: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> Any:
    """Draws measured and predicted gains against 1 - r_max, on logarithmic axes.

    The prediction is Proposition 3.3 of Orvieto et al. (2023).

    Args:
      axis: the Matplotlib `Axes` to draw on.
      radius: the values of r_max, `(K,)`.
      predicted: `lru.spectrum.ring_gain` for each radius, `(K,)`.
      measured: `lru.spectrum.measured_gain` for each radius, `(K,)` or `(runs, K)`.

    Returns:
      The `Axes`.
    """
    distance = 1 - np.asarray(radius)
    axis.plot(distance, predicted, color="0.4", label="Proposition 3.3")
    for number, run in enumerate(np.atleast_2d(measured)):
        label = None if number else "measured"
        axis.scatter(distance, run, s=16, color=_TRAINED, label=label, zorder=3)
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="distance from the unit circle, 1 − r_max", ylabel="E‖x‖² / E‖Bu‖²")
    axis.invert_xaxis()
    axis.legend(frameon=False, fontsize=8)
    return axis


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Saves a figure in the format that the suffix of the path names.

    Raises:
      UserError: if the path has no suffix, or the suffix of an unknown format.
    """
    try:
        if not path.suffix:  # Matplotlib would add a suffix, and write to another path
            raise ValueError("no ending")
        figure.savefig(path, dpi=dpi)
    except ValueError as error:
        raise UserError(
            f"the name of a picture is {path}; expected a name that ends in .png or .pdf"
        ) from error


def _draw_disk(axis: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    axis.plot(np.cos(angle), np.sin(angle), color="0.6", linewidth=0.8)
    axis.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axis.set(xlabel="Re λ", ylabel="Im λ")
    axis.set_aspect("equal")


def _draw_rings(axis: Any, lam: np.ndarray, label: str) -> None:
    axis.scatter(
        lam.real, lam.imag, s=14, facecolors="none", edgecolors="0.6", linewidths=0.7,
        label=label,
    )  # fmt: skip
