"""Laws of S5, against a float64 transcription of its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.baselines import S5
from lru.layers.hippo import hippo_normal
from lru.layers.s5 import block_modes

B, T, H, N = 2, 7, 3, 6
U = jax.random.normal(jax.random.key(0), (B, T, H))


def make(**options):
    layer = S5(N, dt_min=0.05, dt_max=0.5, **options)
    return layer, jax.jit(layer.init)(jax.random.key(1), U)


def by_hand(discretization, params, u):
    """h' = Lambda h + B u in steps, y = 2 Re[C h] + D u, for one sequence u (T, H)."""
    p = {name: np.float64(value) for name, value in params.items()}
    lam, b = p["Lambda_re"] + 1j * p["Lambda_im"], p["B_re"] + 1j * p["B_im"]
    step = np.exp(p["log_step"])
    if discretization == "zoh":
        a_bar, b_bar = np.exp(lam * step), ((np.exp(lam * step) - 1) / lam)[:, None] * b
    else:
        a_bar = (1 + step / 2 * lam) / (1 - step / 2 * lam)
        b_bar = (step / (1 - step / 2 * lam))[:, None] * b
    x, outputs = np.zeros(N // 2, complex), []
    for u_k in np.float64(u):
        x = a_bar * x + b_bar @ u_k
        outputs.append(2 * ((p["C_re"] + 1j * p["C_im"]) @ x).real + p["D"] * u_k)
    return x, np.stack(outputs)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_values_and_gradients_equal_the_float64_loop(discretization, slopes):
    layer, variables = make(discretization=discretization)
    params, weight = variables["params"], np.asarray(jax.random.normal(jax.random.key(2), U.shape))

    def run(params):
        carry, y = layer.apply({"params": params}, U, return_carry=True)
        return jnp.sum(weight * y), (carry, y)

    (_, (carry, y)), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    for row in range(B):
        want = by_hand(discretization, params, U[row])
        np.testing.assert_allclose(carry[row], want[0], atol=1e-5)
        np.testing.assert_allclose(y[row], want[1], atol=1e-5)

    def loss(p):
        return sum(np.sum(weight[row] * by_hand(discretization, p, U[row])[1]) for row in range(B))

    want = slopes(loss, params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=2e-4), grads, want)


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_lambda_and_its_eigenvectors_are_those_of_a_block_diagonal_hippo_matrix(blocks):
    lam, vectors = block_modes(16, blocks)
    block = hippo_normal(16 // blocks)
    want = np.kron(np.eye(blocks), block)
    np.testing.assert_allclose(2 * (vectors * lam @ vectors.conj().T).real, want, atol=1e-9)
    params = jax.jit(S5(16, blocks=blocks).init)(jax.random.key(0), U)["params"]
    np.testing.assert_allclose(params["Lambda_re"], lam.real, rtol=1e-6)
    np.testing.assert_allclose(params["Lambda_im"], lam.imag, rtol=1e-6)


def test_b_is_a_real_matrix_in_the_basis_of_eigenvectors():
    width = 200
    params = jax.jit(S5(16, blocks=2).init)(jax.random.key(0), jnp.ones((1, width)))["params"]
    _, vectors = block_modes(16, 2)
    b = 2 * (vectors @ (np.asarray(params["B_re"]) + 1j * np.asarray(params["B_im"]))).real
    half = vectors.conj().T @ b
    np.testing.assert_allclose(params["B_re"], half.real, atol=1e-5)
    np.testing.assert_allclose(params["B_im"], half.imag, atol=1e-5)
    np.testing.assert_allclose(b.std(), np.sqrt(1 / 16), rtol=0.05)
    assert abs(b).max() < 2.3 * np.sqrt(1 / 16)


@pytest.mark.parametrize(
    "c_init, variance",
    [("trunc_standard_normal", 1 / 16), ("lecun_normal", 1 / (16 * 200)), ("complex_normal", 0.5)],
)
def test_read_outs_have_the_published_variances(c_init, variance):
    layer = S5(16, c_init=c_init, bidirectional=True)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 200)))["params"]
    for name in ("C_re", "C_im", "C2_re", "C2_im"):
        assert params[name].shape == (200, 8)
        np.testing.assert_allclose(np.std(params[name]), np.sqrt(variance), rtol=0.1)
    assert abs(params["C_re"] - params["C2_re"]).max() > 0.1 * np.sqrt(variance)


def test_clipped_eigenvalues_keep_the_state_bounded():
    layer, variables = make(clip_eigenvalues=True)
    params = variables["params"] | {"Lambda_re": jnp.full(N // 2, 2.0)}
    got = layer.apply({"params": params}, U)
    at_most = params | {"Lambda_re": jnp.full(N // 2, -1e-4)}
    np.testing.assert_allclose(got, make()[0].apply({"params": at_most}, U), atol=1e-5)


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="d_state=6, blocks=2; expected an even number"):
        make(blocks=2)
    with pytest.raises(ValueError, match="c_init='zeros'; expected one of 'trunc_standard_normal'"):
        make(c_init="zeros")
