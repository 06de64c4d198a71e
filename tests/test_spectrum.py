"""The eigenvalues that are found and drawn are those of the layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import lru
from lru.models import SequenceClassifier
from lru.spectrum import model_eigenvalues, plot_eigenvalues


def test_every_layer_of_a_model_is_found():
    mixer = functools.partial(lru.LRU, 5, r_min=0.6, r_max=0.7)
    model = SequenceClassifier(2, d_model=3, num_layers=3, mixer=mixer, vocab_size=4)
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 4), int))["params"]
    found = model_eigenvalues(params)
    assert list(found) == [f"stack/blocks_{layer}/mixer" for layer in range(3)]
    layer = params["stack"]["blocks_1"]["mixer"]
    want = np.exp(-np.exp(layer["nu_log"]) + 1j * np.exp(layer["theta_log"]))
    np.testing.assert_allclose(found["stack/blocks_1/mixer"], want, atol=1e-6)


def test_a_layer_by_itself_and_a_model_without_any():
    params = jax.jit(lru.LRU(5).init)(jax.random.key(0), jnp.ones((1, 4, 3)))["params"]
    assert model_eigenvalues(params)[""].shape == (5,)
    assert model_eigenvalues({"dense": {"kernel": jnp.ones(3)}}) == {}


def test_the_plot_holds_both_sets_of_eigenvalues():
    lam, initial = np.array([0.5 + 0.1j, -0.3j]), np.array([0.4 + 0.2j, -0.2j])
    axis = plot_eigenvalues(Figure().subplots(), lam, initial)
    drawn = [collection.get_offsets() @ [1, 1j] for collection in axis.collections]
    np.testing.assert_allclose(drawn, [initial, lam])
