"""Laws of the vanilla RNN, against a float64 transcription of Eq. (1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.baselines import DenseRNN
from lru.layers.dense import haiku_normal, limit_spectral_radius

B, T, H, N = 2, 7, 3, 5
U = jax.random.normal(jax.random.key(0), (B, T, H))
NONLINEARITIES = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "linear": lambda x: x}


def make(activation, **options):
    layer = DenseRNN(N, activation, **options)
    return layer, jax.jit(layer.init)(jax.random.key(1), U)


def by_hand(activation, params, u):
    """h_k = f(A h_{k-1} + B u_k), y_k = C h_k + D u_k for one sequence u (T, H), step by step."""
    p = {name: np.float64(value) for name, value in params.items()}
    x, outputs = np.zeros(N), []
    for u_k in np.float64(u):
        x = NONLINEARITIES[activation](p["A"] @ x + p["B"] @ u_k)
        outputs.append(p["C"] @ x + p["D"] * u_k)
    return x, np.stack(outputs)


@pytest.mark.parametrize("activation", NONLINEARITIES)
def test_values_and_gradients_equal_the_float64_loop(activation, slopes):
    layer, variables = make(activation, chunk_size=3)
    params, weight = variables["params"], np.asarray(jax.random.normal(jax.random.key(2), U.shape))

    def run(params):
        carry, y = layer.apply({"params": params}, U, return_carry=True)
        return jnp.sum(weight * y), (carry, y)

    (_, (carry, y)), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    for row in range(B):
        want = by_hand(activation, params, U[row])
        np.testing.assert_allclose(carry[row], want[0], atol=1e-5)
        np.testing.assert_allclose(y[row], want[1], atol=1e-5)

    def loss(p):
        return sum(np.sum(weight[row] * by_hand(activation, p, U[row])[1]) for row in range(B))

    want = slopes(loss, params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-4), grads, want)


def test_matrices_are_drawn_as_in_haiku_and_there_is_no_bias():
    layer = DenseRNN(256, "linear", bidirectional=True)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 1, 100)))["params"]
    assert params.keys() == {"A", "B", "C", "C2", "D"}
    for name, fan_in in {"A": 256, "B": 100, "C": 256, "C2": 256}.items():
        scaled = np.asarray(params[name]) * np.sqrt(fan_in)
        assert params[name].shape[1] == fan_in
        assert 1.99 < abs(scaled).max() <= 2.00001
        np.testing.assert_allclose(scaled.std(), 0.8796, rtol=0.02)


def test_a_drawn_matrix_has_a_spectral_radius_of_0_88():
    matrix = haiku_normal(300)(jax.random.key(0), (300, 300))
    assert max(abs(np.linalg.eigvals(matrix))) == pytest.approx(0.88, abs=0.05)


def test_a_small_linear_layer_is_drawn_so_that_its_state_stays_finite():
    draw, keys = haiku_normal(16), jax.random.split(jax.random.key(0), 60)
    as_drawn = jax.vmap(lambda key: draw(key, (16, 16)))(keys)
    limited = jax.vmap(lambda key: limit_spectral_radius(draw)(key, (16, 16)))(keys)
    before, after = (abs(np.linalg.eigvals(a)).max(axis=-1) for a in (as_drawn, limited))
    assert 5 < (before > 1).sum() < 30
    assert after.max() <= 1
    np.testing.assert_array_equal(limited[before < 0.99], as_drawn[before < 0.99])
    np.testing.assert_allclose(after[before > 1], 1, atol=0.005)

    key = keys[before.argmax()]
    u = jnp.ones((1, 4000, 1))
    for activation, grows in {"linear": False, "relu": True}.items():
        layer = DenseRNN(16, activation)
        variables = jax.jit(layer.init)(key, u)
        assert (abs(np.linalg.eigvals(variables["params"]["A"])).max() > 1) == grows
        assert grows or np.isfinite(jax.jit(layer.apply)(variables, u)).all()


def test_bfloat16_products_keep_a_float32_state():
    layer, variables = make("tanh", dtype=jnp.bfloat16)
    carry, y = layer.apply(variables, U, return_carry=True)
    assert (carry.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    want_carry, want = make("tanh")[0].apply(variables, U, return_carry=True)
    np.testing.assert_allclose(carry, want_carry, atol=0.03)
    np.testing.assert_allclose(y.astype(jnp.float32), want, atol=0.1)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_unknown_activation_raises():
    with pytest.raises(ValueError, match="activation='gelu'; expected one of 'relu', 'tanh'"):
        make("gelu")
