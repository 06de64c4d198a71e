"""The modes that are found are those of the layers, whatever these call their parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.baselines import S4D, S5, DenseRNN, DiagonalRNN
from lru.models import SequenceClassifier
from lru.spectra.layers import eigenvalues, layer_modes, model_eigenvalues


def params_of(layer):
    return jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 4, 3)))["params"]


def test_every_layer_of_a_model_is_found():
    mixer = functools.partial(lru.LRU, 5, r_min=0.6, r_max=0.7)
    model = SequenceClassifier(2, d_model=3, num_layers=3, mixer=mixer, vocab_size=4)
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 4), int))["params"]
    found = model_eigenvalues(params)
    assert list(found) == [f"stack/blocks_{layer}/mixer" for layer in range(3)]
    layer = params["stack"]["blocks_1"]["mixer"]
    want = np.exp(
        -np.exp(np.float64(layer["nu_log"])) + 1j * np.exp(np.float64(layer["theta_log"]))
    )
    np.testing.assert_allclose(found["stack/blocks_1/mixer"], want, rtol=1e-12)


def test_eigenvalues_near_the_unit_circle_keep_their_distance_from_it():
    """A modulus in single precision has it to three digits at best."""
    nu_log = np.log(np.float32([1e-6]))
    layer = params_of(lru.LRU(1)) | {"nu_log": nu_log}
    distance = -np.log(np.abs(eigenvalues(layer)))
    np.testing.assert_allclose(distance, np.exp(np.float64(nu_log)), rtol=1e-9)


def exp(p):
    return np.exp(-p["nu"] + 1j * p["theta"])


def stable_exp(p):
    return np.exp(-np.exp(p["nu_log"]) + 1j * p["theta"])


def s5(p):
    return np.exp((p["Lambda_re"] + 1j * p["Lambda_im"]) * np.exp(p["log_step"]))


def s4d(p):
    return np.exp((-np.exp(p["nu_log"]) + 1j * p["Lambda_im"]) * np.exp(p["log_step"])[:, None])


@pytest.mark.parametrize(
    ("layer", "formula"),
    [
        (DiagonalRNN(4, "real_imag"), lambda p: p["a"] + 1j * p["b"]),
        (DiagonalRNN(4, "exp"), exp),
        (DiagonalRNN(4, "stable_exp"), stable_exp),
        (S5(4), s5),
        (S4D(4), s4d),
    ],
)
def test_the_eigenvalues_of_the_rivals_are_those_of_their_formulas(layer, formula):
    params = params_of(layer)
    want = formula({name: np.float64(value) for name, value in params.items()})
    np.testing.assert_allclose(eigenvalues(params), want.ravel(), rtol=1e-12)


def test_a_layer_without_diagonal_modes_has_none():
    params = params_of(DenseRNN(4))
    assert layer_modes(params) == () and model_eigenvalues({"mixer": params}) == {}
    with pytest.raises(ValueError, match="no diagonal layer has the parameters A, B"):
        eigenvalues(params)


def test_a_bidirectional_layer_has_the_same_modes_twice_and_two_read_outs():
    params = params_of(lru.LRU(5, bidirectional=True))
    forward, backward = layer_modes(params)
    np.testing.assert_array_equal(forward.lam, backward.lam)
    np.testing.assert_allclose(forward.out, params["C_re"] + 1j * params["C_im"], rtol=1e-6)
    np.testing.assert_allclose(backward.out, params["C2_re"] + 1j * params["C2_im"], rtol=1e-6)
