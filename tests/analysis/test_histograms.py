"""Histograms show every mode once, in bins shared by both sets."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lru.analysis.histograms import plot_frequency, plot_modulus, plot_time_scales
from lru.analysis.statistics import ring_fractions, time_scales

RNG = np.random.default_rng(0)
INITIAL, LAM = (
    RNG.uniform(0.2, 0.99, size) * np.exp(1j * RNG.uniform(0, 6, size)) for size in (50, 80)
)


@pytest.mark.parametrize(
    ("plot", "quantity", "label"),
    [
        (plot_modulus, np.abs, "modulus |λ|"),
        (plot_frequency, lambda lam: abs(np.angle(lam)), "phase |arg λ| (radians per step)"),
        (plot_time_scales, time_scales, "time scale −1/log|λ| (steps)"),
    ],
)
def test_the_bars_of_each_set_are_its_histogram_and_sum_to_one(plot, quantity, label):
    axis = Figure().subplots()
    assert plot(axis, LAM, INITIAL) is axis
    for patch, lam in zip(axis.patches, (INITIAL, LAM), strict=True):
        heights, edges, _ = patch.get_data()
        assert heights.sum() == pytest.approx(1)
        want, _ = np.histogram(quantity(lam), edges)
        np.testing.assert_allclose(heights, want / len(lam), atol=1e-12)
    assert (axis.get_xlabel(), axis.get_ylabel()) == (label, "fraction of modes")


def test_bins_can_be_given_and_the_distribution_on_a_ring_drawn_in_them():
    edges = np.linspace(0, 1, 5)
    axis = plot_modulus(Figure().subplots(), LAM, ring=(0.2, 0.9), edges=edges)
    lam, ring = (patch.get_data() for patch in axis.patches)
    np.testing.assert_array_equal(lam.edges, edges)
    np.testing.assert_allclose(ring.values, ring_fractions(edges, 0.2, 0.9))


def test_modes_that_do_not_decay_are_in_the_last_bin_of_time_scales():
    lam = np.array([0.5, 0.9, 1.0, 1.1, 0.0])
    axis = plot_time_scales(Figure().subplots(), lam)
    heights = axis.patches[0].get_data().values
    assert axis.get_xscale() == "log"
    np.testing.assert_allclose([heights[0], heights[-1], heights.sum()], [0.4, 0.6, 1])


def test_equal_modes_can_be_drawn():
    for plot in (plot_modulus, plot_frequency, plot_time_scales):
        axis = plot(Figure().subplots(), np.full(3, 0.5))
        assert axis.patches[0].get_data().values.sum() == pytest.approx(1)
