"""Plots draw the numbers given, and return axes with labels and units."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lru.analysis.plots import (
    plot_eigenvalues,
    plot_gains,
    plot_impulse_responses,
    plot_norms,
    plot_trajectory,
)
from lru.analysis.responses import InputGains, input_gains
from lru.analysis.statistics import time_scales

LAM, INITIAL = np.array([0.5 + 0.1j, -0.3j]), np.array([0.4 + 0.2j, -0.2j])


@pytest.fixture
def axis():
    return Figure().subplots()


def dots(axis):
    return [collection.get_offsets() @ [1, 1j] for collection in axis.collections]


def test_the_plot_of_eigenvalues_shows_both_sets(axis):
    assert plot_eigenvalues(axis, LAM, INITIAL) is axis
    np.testing.assert_allclose(dots(axis), [INITIAL, LAM])
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Re λ", "Im λ")


def test_a_trajectory_goes_from_initial_to_current_eigenvalues(axis):
    path = np.stack([INITIAL, 0.9 * INITIAL, LAM])
    assert plot_trajectory(axis, path) is axis
    np.testing.assert_allclose(dots(axis), [INITIAL, LAM])
    _, *lines = [line.get_xydata() @ [1, 1j] for line in axis.lines]
    np.testing.assert_allclose(lines, path.T)
    assert axis.get_xlabel() == "Re λ"


def test_impulse_responses_are_drawn_without_zeros(axis):
    norms = np.array([1.0, 0.5, 0.0])
    steps = np.arange(1, 4)
    assert plot_impulse_responses(axis, steps, {"one": (norms, {"color": "0.5"})}) is axis
    (line,) = axis.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 1], [2, 0.5], [3, np.nan]])
    assert axis.get_xlabel() == "steps since the impulse"
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")


def test_gains_are_drawn_over_the_time_scales_of_their_modes(axis):
    gains = input_gains(LAM)
    assert plot_gains(axis, LAM, gains) is axis
    drawn = dict(zip((text.get_text() for text in axis.get_legend().get_texts()), dots(axis)))
    names = {"own frequency": "resonant", "constant": "constant", "white noise (rms)": "noise"}
    assert drawn.keys() == names.keys() and {*names.values()} == {*InputGains._fields}
    for label, field in names.items():
        np.testing.assert_allclose(drawn[label], time_scales(LAM) + 1j * getattr(gains, field))
    assert "(steps)" in axis.get_xlabel()


def test_measured_norms_are_drawn_beside_predicted_ones(axis):
    radius, predicted, runs = (
        np.array([0.9, 0.99]),
        np.array([2.0, 4.0]),
        np.array([[2, 3], [1, 5]]),
    )
    assert plot_norms(axis, radius, predicted, runs) is axis
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0.1, 2], [0.01, 4]])
    np.testing.assert_allclose(dots(axis), [[0.1 + 2j, 0.01 + 3j], [0.1 + 1j, 0.01 + 5j]])
    assert axis.get_xlabel() and axis.get_ylabel()
