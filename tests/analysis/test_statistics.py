"""Laws of time scales, histograms and initial distributions, against NumPy and each other."""

import jax
import numpy as np
import pytest

from lru.analysis.modes import eigenvalues
from lru.analysis.statistics import (
    fractions,
    frequencies,
    glorot_eigenvalues,
    phase_density,
    ring_density,
    ring_fractions,
    time_scales,
)
from lru.ops.initializers import lru_initializers

RINGS = [(0.0, 1.0), (0.5, 0.9), (0.999, 0.9999)]


def test_after_a_time_scale_a_mode_has_decayed_to_1_over_e():
    lam = np.array([0.9, -0.5, 0.999j])
    np.testing.assert_allclose(np.abs(lam) ** time_scales(lam), np.exp(-1), rtol=1e-9)


def test_modes_that_do_not_decay_have_an_infinite_time_scale_and_zero_modes_none():
    assert time_scales(np.array([1.0, 1j, -1.5, 0.0])).tolist() == [np.inf, np.inf, np.inf, 0]


def test_the_fractions_of_a_histogram_sum_to_one_and_lose_nothing():
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    found = fractions(np.array([-1.0, 0.5, 1.0, 1.5, 3.0, 4.0, np.inf, 9.0]), edges)
    np.testing.assert_array_equal(found, [2 / 8, 2 / 8, 4 / 8])


@pytest.mark.parametrize("ring", RINGS)
def test_ring_fractions_sum_to_one_and_their_slope_is_the_density(ring):
    edges = np.linspace(*ring, 1001)
    assert ring_fractions(edges, *ring).sum() == pytest.approx(1)
    middle = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(
        ring_density(middle, *ring) * np.diff(edges), ring_fractions(edges, *ring), rtol=1e-6
    )
    outside = np.array([ring[0] - 0.1, ring[1] + 0.1])
    np.testing.assert_array_equal(ring_density(outside, *ring), 0)


@pytest.mark.parametrize("law", [ring_fractions, ring_density])
def test_the_density_of_a_circle_raises(law):
    with pytest.raises(ValueError, match="r_min=0.9, r_max=0.9; expected r_min < r_max"):
        law(np.array([0.0, 0.9, 1.0]), 0.9, 0.9)


@pytest.mark.parametrize("max_phase", [0.3, 4.0, 2 * np.pi])
def test_drawn_eigenvalues_follow_the_laws_of_ring_and_phase(max_phase):
    ring, n = (0.5, 0.9), 20_000
    table = lru_initializers(1, n, r_min=ring[0], r_max=ring[1], max_phase=max_phase)
    keys = jax.random.split(jax.random.key(0), len(table))
    lam = eigenvalues({k: init(key, shape) for key, (k, (init, shape)) in zip(keys, table.items())}
                      | {"gamma_log": np.zeros(n)})  # fmt: skip
    error = 4 * np.sqrt(0.1 / n)  # four standard errors of a bin with a tenth in it
    edges = np.linspace(0.5, 0.9, 11)
    found = fractions(np.abs(lam), edges)
    np.testing.assert_allclose(found, ring_fractions(edges, *ring), atol=error)
    edges = np.linspace(0, np.pi, 401)
    density = phase_density((edges[1:] + edges[:-1]) / 2, max_phase) * np.diff(edges)
    coarse = fractions(frequencies(lam), edges).reshape(10, 40).sum(axis=1)
    np.testing.assert_allclose(coarse, density.reshape(10, 40).sum(axis=1), atol=2 * error)


def test_a_glorot_matrix_follows_the_circular_law():
    lam = glorot_eigenvalues(np.random.default_rng(0), 400)
    edges = np.linspace(0, 1.1, 6)
    np.testing.assert_allclose(fractions(np.abs(lam), edges), ring_fractions(edges), atol=0.03)
    assert np.abs(np.sum(lam.imag)) < 1e-9  # of a real matrix
