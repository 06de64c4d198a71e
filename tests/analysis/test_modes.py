"""The modes found equal those of the layers, whatever the names of their parameters."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
import lru.nnx
from lru.analysis.modes import (
    eigenvalues,
    find_layers,
    layer_modes,
    model_eigenvalues,
    model_modes,
)
from lru.baselines import S4D, S5, DenseRNN, DiagonalRNN
from lru.models import SequenceClassifier


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
    """From a float32 modulus, the distance has three digits at best."""
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
def test_the_eigenvalues_of_the_baselines_equal_their_formulas(layer, formula):
    params = params_of(layer)
    want = formula({name: np.float64(value) for name, value in params.items()})
    np.testing.assert_allclose(eigenvalues(params, layer), want.ravel(), rtol=1e-12)


def bilinear(lam, step):
    return (1 + lam * step / 2) / (1 - lam * step / 2)


def s5_bilinear(p):
    return bilinear(p["Lambda_re"] + 1j * p["Lambda_im"], np.exp(p["log_step"]))


def s5_clipped(p):
    return np.exp((np.minimum(p["Lambda_re"], -1e-4) + 1j * p["Lambda_im"]) * np.exp(p["log_step"]))


def s4d_bilinear(p):
    return bilinear(-np.exp(p["nu_log"]) + 1j * p["Lambda_im"], np.exp(p["log_step"])[:, None])


@pytest.mark.parametrize(
    ("layer", "formula"),
    [
        (S5(4, discretization="bilinear"), s5_bilinear),
        (S5(4, clip_eigenvalues=True), s5_clipped),
        (S4D(4, discretization="bilinear"), s4d_bilinear),
    ],
    ids=["S5 bilinear", "S5 clipped", "S4D bilinear"],
)
def test_the_modes_of_a_layer_in_a_model_come_from_the_layer(layer, formula):
    """Parameter names do not determine the discretization."""
    model = SequenceClassifier(2, 3, 1, layer, vocab_size=4)
    tokens = jnp.ones((1, 4), int)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    mixer = params["stack"]["blocks_0"]["mixer"]
    if layer == S5(4, clip_eigenvalues=True):
        mixer["Lambda_re"] = jnp.array([0.5, -0.5])  # learned out of the half plane
    want = formula({name: np.float64(value) for name, value in mixer.items()})
    found = model_eigenvalues(params, find_layers(model, tokens))
    assert list(found) == ["stack/blocks_0/mixer"]
    np.testing.assert_allclose(found["stack/blocks_0/mixer"], want.ravel(), rtol=1e-12)
    with pytest.warns(
        UserWarning, match="eigenvalues of stack/blocks_0/mixer are left out: the param"
    ):
        assert model_eigenvalues(params) == {}
    with pytest.raises(ValueError, match="give the layer"):
        eigenvalues(mixer)


@pytest.mark.parametrize("layer", [S5(4, discretization="bilinear"), DiagonalRNN(3), lru.LRU(3)])
def test_modes_are_a_recurrence_with_the_layers_outputs(layer):
    u = np.random.default_rng(0).normal(size=(5, 3))
    params = params_of(layer)
    (modes,) = layer_modes(params, layer)
    x, outputs = np.zeros(len(modes.lam), complex), []
    for step in u:
        x = modes.lam * x + modes.into @ step
        outputs.append((modes.out @ x).real + np.asarray(params["D"]) * step)
    got = layer.apply({"params": params}, jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(got, outputs, atol=1e-4)


def test_layers_are_found_in_any_flax_model():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = lru.LRU(3, name="first")(nn.Dense(4)(x))
            return nn.RNN(lru.LRUCell(2), name="second")(DenseRNN(3)(x))

    x = jnp.ones((1, 5, 2))
    params = jax.jit(Model().init)(jax.random.key(0), x)["params"]
    modes = model_modes(params, find_layers(Model(), x))
    assert {name: len(m[0].lam) for name, m in modes.items()} == {"first": 3, "LRUCell_0": 2}


def test_a_user_defined_layer_has_a_method_modes_or_is_left_out_with_a_warning():
    class Own(lru.LRU):
        def modes(self, params):
            return ()

    class Told(lru.LRU):
        def modes(self, params):
            (modes,) = super().modes(params)
            return (modes._replace(lam=modes.lam / 2),)

    x = jnp.ones((1, 4, 3))
    params = params_of(lru.LRU(2))
    want = eigenvalues(params)
    for layer in (nn.Sequential([Own(2)]), nn.Sequential([Told(2)])):
        layers = find_layers(layer, x)
        if isinstance(layer.layers[0], Told):
            found = model_eigenvalues({"layers_0": params}, layers)
            np.testing.assert_allclose(found["layers_0"], want / 2)
        else:
            with pytest.warns(UserWarning, match="layers_0 are left out: the layer has no"):
                assert model_eigenvalues({"layers_0": params}, layers) == {}


def test_the_nnx_layer_returns_the_modes_of_its_parameters():
    from flax import nnx

    layer = lru.nnx.LRU(3, 2, bidirectional=True, rngs=nnx.Rngs(0))
    want = layer_modes(layer.parameters(), lru.LRU(2, bidirectional=True))
    jax.tree.map(np.testing.assert_array_equal, layer.modes(), want)


def test_stacked_parameters_of_several_layers_are_left_out():
    params = jax.tree.map(lambda p: np.stack([p, p]), dict(params_of(lru.LRU(2))))
    for layer in (None, lru.LRU(2)):
        assert layer_modes(params, layer) == ()


def test_a_layer_without_diagonal_modes_has_none():
    params = params_of(DenseRNN(4))
    assert layer_modes(params) == () and model_eigenvalues({"mixer": params}) == {}
    with pytest.raises(ValueError, match="the parameters A, B, C, D alone do not determine"):
        eigenvalues(params)


def test_a_bidirectional_layer_has_the_same_modes_twice_and_two_read_outs():
    params = params_of(lru.LRU(5, bidirectional=True))
    forward, backward = layer_modes(params)
    np.testing.assert_array_equal(forward.lam, backward.lam)
    np.testing.assert_allclose(forward.out, params["C_re"] + 1j * params["C_im"], rtol=1e-6)
    np.testing.assert_allclose(backward.out, params["C2_re"] + 1j * params["C2_im"], rtol=1e-6)
