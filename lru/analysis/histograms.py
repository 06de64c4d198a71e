"""Histograms of modes on Matplotlib `Axes`: initial modes in gray, trained modes as a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lru.analysis.plots import set_log_ticks
from lru.analysis.statistics import fractions, frequencies, ring_fractions, time_scales

_BINS = 20


def plot_modulus(
    axis: Any,
    lam: np.ndarray,
    initial: np.ndarray | None = None,
    *,
    ring: tuple[float, float] | None = None,
    edges: np.ndarray | None = None,
) -> Any:
    """Draws a histogram of |lambda|.

    Args:
      axis: the Matplotlib `Axes` to draw on.
      lam: the eigenvalues after training, `(N,)` complex.
      initial: the eigenvalues before training, `(N,)` complex, drawn in gray; or None.
      ring: (r_min, r_max) with r_min < r_max. For comparison, a dotted line shows the expected
        fractions for eigenvalues uniform in area on this ring; (0, 1) gives the circular law. None
        for no such line.
      edges: the edges of the bins; by default, those of 20 bins that cover all values.

    Returns:
      The `Axes`.
    """
    edges = _draw(axis, np.abs, lam, initial, edges, linear_edges)
    if ring is not None:
        expected = ring_fractions(edges, *ring)
        axis.stairs(expected, edges, color="black", linestyle=":", linewidth=1.4, label="ring")
    axis.set(xlabel="modulus |λ|", ylabel="fraction of modes")
    axis.locator_params(axis="x", nbins=4)
    return axis


def plot_frequency(
    axis: Any,
    lam: np.ndarray,
    initial: np.ndarray | None = None,
    *,
    edges: np.ndarray | None = None,
) -> Any:
    """Draws a histogram of the phases |arg lambda|, in radians per step.

    For the arguments and the result, see `plot_modulus`.
    """
    _draw(axis, frequencies, lam, initial, edges, partial(linear_edges, least=0.0, most=math.pi))
    axis.set(xlabel="phase |arg λ| (radians per step)", ylabel="fraction of modes")
    return axis


def plot_time_scales(
    axis: Any,
    lam: np.ndarray,
    initial: np.ndarray | None = None,
    *,
    edges: np.ndarray | None = None,
) -> Any:
    """Draws a histogram of the time scales -1/log|lambda|, on a logarithmic scale.

    The default bins cover all positive, finite time scales. Modes on or outside the unit circle
    have an infinite time scale, and are counted in the last bin. For the arguments and the result,
    see `plot_modulus`.
    """
    _draw(axis, time_scales, lam, initial, edges, log_edges)
    axis.set(xscale="log", xlabel="time scale −1/log|λ| (steps)", ylabel="fraction of modes")
    set_log_ticks(axis.xaxis)
    return axis


def linear_edges(
    values: np.ndarray, least: float | None = None, most: float = math.inf
) -> np.ndarray:
    """Returns the edges of 20 bins of equal width that cover all values.

    `least` and `most` are bounds of the values. The first edge is `least`, if given, and the last
    edge is at most `most`.
    """
    low = values.min() if least is None else least
    return np.linspace(low, min(max(values.max(), low + 1e-6), most), _BINS + 1)


def log_edges(values: np.ndarray) -> np.ndarray:
    """Returns logarithmically spaced edges of 20 bins that cover all positive, finite values."""
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min(), values.max()) if len(values) else (1.0, 1.0)
    return np.geomspace(low, max(high, 1.01 * low), _BINS + 1)


def _draw(
    axis: Any,
    quantity: Callable[[np.ndarray], np.ndarray],
    lam: np.ndarray,
    initial: np.ndarray | None,
    edges: np.ndarray | None,
    choose_edges: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Draws the histograms of a quantity of the trained and, if given, the initial modes.

    Both histograms have the same bins, whose edges are returned.
    """
    values = [quantity(modes) for modes in (lam, initial) if modes is not None]
    edges = choose_edges(np.concatenate(values)) if edges is None else edges
    if initial is not None:
        axis.stairs(fractions(values[1], edges), edges, fill=True, color="0.8", label="initial")
    axis.stairs(fractions(values[0], edges), edges, color="#0b3c8c", linewidth=1.4, label="trained")
    return edges
