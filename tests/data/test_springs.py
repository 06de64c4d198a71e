"""The simulated springs obey their equation of motion."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lru.data import springs
from lru.data.springs import EXAMPLES, spring_arrays

STEPS = 40


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_the_positions_solve_the_equation_of_motion(shape):
    rng = np.random.default_rng(shape)
    force, stiffness = rng.normal(size=(3, STEPS)), rng.uniform(0.5, 3, (3, STEPS))
    position = springs._simulate(force, stiffness, np.full(3, shape))
    for i in range(3):
        np.testing.assert_allclose(position[i], solved(force[i], stiffness[i], shape), atol=0.015)


def test_the_arrays_are_the_simulation_and_a_little_noise():
    arrays = spring_arrays("switching", 3, STEPS, seed=0)
    force, position = arrays["x"][..., 0], arrays["x"][..., 1]
    clean = springs._simulate(force, 1 + 2 * arrays["y"], np.ones(3, int))
    assert 0 < (position - clean).std() < 1.2 * springs._NOISE


def solved(force, stiffness, shape):
    """Returns the positions at the end of every step, by a Runge-Kutta method."""
    s = (np.tanh, lambda q: q, lambda q: q + q**3)[shape]
    state, found = np.zeros(2), []
    for u, k in zip(force, stiffness):

        def slope(_, y, u=u, k=k):
            return y[1], u - springs._DAMPING * y[1] - k * s(y[0])

        state = solve_ivp(slope, (0, springs._DT), state, rtol=1e-8, atol=1e-8).y[:, -1]
        found.append(state[0])
    return np.array(found)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_seed_determines_the_arrays(example):
    one, two, other = (spring_arrays(example, 5, STEPS, seed) for seed in (0, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert (one["x"] != other["x"]).any()
    assert one["lengths"].min() >= STEPS / 2 and one["lengths"].max() <= STEPS


def test_targets_have_their_ranges():
    arrays = {name: spring_arrays(name, 200, STEPS, 0)["y"] for name in EXAMPLES}
    assert set(arrays["shape"]) == {0, 1, 2} and set(arrays["switching"].ravel()) == {0, 1}
    assert 0.5 <= arrays["stiffness"].min() < 0.7 and 2.8 < arrays["stiffness"].max() <= 3
    assert arrays["motion"].shape == (200, STEPS)
