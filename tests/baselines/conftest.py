"""What the tests of several layers share."""

import jax
import numpy as np
import pytest


@pytest.fixture
def slopes():
    """`slopes(loss, params)`: the derivatives of a float64 function, by central differences."""

    def slope(loss, params, name, index):
        ends = []
        for step in (1e-6, -1e-6):
            moved = np.array(params[name], np.float64)
            moved[index] += step
            ends.append(loss(params | {name: moved}))
        return (ends[0] - ends[1]) / 2e-6

    def all_slopes(loss, params):
        params = jax.tree.map(np.float64, dict(params))
        return {
            name: np.reshape([slope(loss, params, name, i) for i in np.ndindex(p.shape)], p.shape)
            for name, p in params.items()
        }

    return all_slopes
