"""Laws of impulse responses and gains, against the layer's steps and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.analysis.modes import layer_modes
from lru.analysis.responses import (
    impulse_norm,
    impulse_response,
    input_gains,
    measured_gain,
    ring_gain,
)
from lru.baselines import S4D, S5, DiagonalRNN

TIME, H = 12, 3
LAYERS = [
    lru.LRU(5, r_min=0.7, r_max=0.95),
    lru.LRU(5, bidirectional=True),
    DiagonalRNN(5, "exp"),
    S5(6),
    S4D(6),
]


def stepped(layer, params):
    """Returns the response of all channels to an impulse in each: `(T, outputs, inputs)`."""
    impulses = jnp.zeros((H, TIME, H)).at[jnp.arange(H), 0, jnp.arange(H)].set(1)
    run = jax.jit(lambda params, u: layer.apply({"params": params}, u))
    without_skip = params | {"D": jnp.zeros(H)}
    return np.moveaxis(run(without_skip, impulses), 0, 2)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_impulse_response_equals_that_of_the_layer(layer):
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, TIME, H)))["params"]
    modes, steps = layer_modes(params, layer)[0], np.arange(TIME)
    if getattr(layer, "bidirectional", False):  # backward, the impulse's own step counts too
        params = params | {"C2_re": jnp.zeros((H, 5)), "C2_im": jnp.zeros((H, 5))}
    want = stepped(layer, params)
    np.testing.assert_allclose(
        impulse_norm(modes, steps), np.linalg.norm(want, axis=(1, 2)), rtol=1e-4
    )
    if modes.lam.ndim == 1:
        np.testing.assert_allclose(impulse_response(modes, steps), want, atol=1e-5)
        some = impulse_response(modes, steps, outputs=[2], inputs=[0, 1])
        np.testing.assert_allclose(some, want[:, [2]][..., [0, 1]], atol=1e-5)


def state_after(lam, gamma, inputs):
    x = np.zeros_like(lam)
    for u in inputs:
        x = lam * x + gamma * u
    return np.abs(x)


def test_the_gains_equal_the_long_run_state_of_a_mode():
    lam = np.array([0.9 * np.exp(0.3j), 0.5 * np.exp(2j), 0.8])
    gamma = np.array([0.4, 0.7, 1.0])
    gains, steps = input_gains(lam, gamma), np.arange(400)
    np.testing.assert_allclose(gains.constant, state_after(lam, gamma, np.ones(400)))
    tuned = np.exp(1j * np.angle(lam) * steps[:, None])
    np.testing.assert_allclose(gains.resonant, state_after(lam, gamma, tuned))
    noise = np.random.default_rng(0).normal(size=(400, 4_000, 1))
    measured = np.sqrt(np.mean(state_after(np.broadcast_to(lam, (4_000, 3)), gamma, noise) ** 2, 0))
    np.testing.assert_allclose(gains.noise, measured, rtol=0.05)


def test_initial_gamma_keeps_the_size_of_white_noise():
    params = jax.jit(lru.LRU(8, r_max=0.99).init)(jax.random.key(0), jnp.ones((1, 2, H)))["params"]
    gains = input_gains(layer_modes(params)[0].lam, np.exp(np.float64(params["gamma_log"])))
    np.testing.assert_allclose(gains.noise, 1, rtol=1e-4)


@pytest.mark.parametrize(("r_min", "r_max"), [(0.0, 0.9), (0.5, 0.9), (0.9, 0.99)])
def test_proposition_3_3_equals_a_simulation(r_min, r_max):
    """It also equals the average gain over the ring, which has no simulation error."""
    rng, n = np.random.default_rng(0), 500
    modulus = np.sqrt(r_min**2 + (rng.permutation(n) + 0.5) / n * (r_max**2 - r_min**2))
    lam = modulus * np.exp(2j * np.pi * rng.uniform(size=n))
    predicted = ring_gain(r_min, r_max)
    assert np.mean(input_gains(lam).noise ** 2) == pytest.approx(predicted, rel=2e-2)
    time = int(20 / (1 - r_max))
    projected = rng.normal(size=(time, n, 2)) @ [1, 1j]
    assert measured_gain(lam, projected) == pytest.approx(predicted, rel=0.03)


def test_a_thin_ring_is_nearly_a_circle():
    assert ring_gain(0.9, 0.9 + 1e-6) == pytest.approx(ring_gain(0.9, 0.9), rel=1e-4)
