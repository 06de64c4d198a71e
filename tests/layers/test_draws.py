"""Every layer draws each of its parameters independently."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.baselines import GRU, LSTM, RHN, S4D, S5, DenseRNN, DiagonalRNN, GridLSTM
from lru.lattice import PSLRU, RGLRU, Lattice

H = 8
LAYERS = {
    "LRU": functools.partial(lru.LRU, 16, bidirectional=True),
    "DenseRNN": functools.partial(DenseRNN, 16, bidirectional=True),
    "S4D": functools.partial(S4D, 16, bidirectional=True),
    "S5": functools.partial(S5, 16, bidirectional=True),
    **{
        f"DiagonalRNN, {kind}": functools.partial(DiagonalRNN, 16, kind, bidirectional=True)
        for kind in ("real_imag", "exp", "stable_exp")
    },
    **{
        stack.__name__: functools.partial(stack, H, 2)
        for stack in (Lattice, PSLRU, RGLRU, GRU, LSTM, GridLSTM, RHN)
    },
}
# Parameters that are functions of another one, or not random.
NOT_DRAWN = {
    "LRU": {"gamma_log"},
    "S4D": {"nu_log", "Lambda_im"},
    "S5": {"Lambda_re", "Lambda_im"},
    "DiagonalRNN, real_imag": {"a", "b"},  # two numbers of one eigenvalue
}


@functools.cache
def drawn(name, seed):
    """Returns the order of the first numbers of each drawn parameter, by path."""
    init = jax.jit(LAYERS[name]().init)
    params = init(jax.random.key(seed), jnp.ones((1, 3, H)))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {
        path: np.argsort(np.ravel(leaf)[:H]).tolist()
        for path, leaf in found.items()
        if path not in NOT_DRAWN.get(name, ())
    }


@pytest.mark.parametrize("name", LAYERS)
def test_no_two_parameters_share_random_numbers(name):
    """Increasing functions of the same random numbers would have the same order."""
    orders = drawn(name, seed=0)
    for one, other in itertools.combinations(orders, 2):
        assert orders[one] not in (orders[other], orders[other][::-1]), (one, other)


@pytest.mark.parametrize("name", LAYERS)
def test_every_random_parameter_depends_on_the_key(name):
    one, other = (drawn(name, seed) for seed in (0, 1))
    assert all(one[path] != other[path] for path in one)
