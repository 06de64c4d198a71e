"""Laws of HiPPO's matrices and of discretization, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from lru.layers.hippo import discretize, hippo_legs, hippo_modes, hippo_normal, log_steps

N = 8


def test_hippo_legs_equals_its_definition():
    want = np.zeros((N, N))
    for n in range(N):
        want[n, n] = -(n + 1)
        for k in range(n):
            want[n, k] = -np.sqrt(2 * n + 1) * np.sqrt(2 * k + 1)
    np.testing.assert_allclose(hippo_legs(N), want)


def test_the_normal_part_is_minus_half_plus_skew_symmetric():
    skew = hippo_normal(N) + np.eye(N) / 2
    np.testing.assert_allclose(skew, -skew.T, atol=1e-12)
    p = np.sqrt(np.arange(N) + 0.5)
    np.testing.assert_allclose(hippo_normal(N) - np.outer(p, p), hippo_legs(N), atol=1e-12)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_modes_and_their_conjugates_compose_the_normal_part(size):
    lam, vectors = hippo_modes(size)
    half = vectors @ np.diag(lam) @ vectors.conj().T
    np.testing.assert_allclose(2 * half.real, hippo_normal(size), atol=1e-9 * size**2)
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(size // 2), atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.zeros((size // 2,) * 2), atol=1e-12)
    assert (lam.real == -0.5).all() and (lam.imag > 0).all() and (np.diff(lam.imag) < 0).all()


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0])
def test_zero_order_hold_is_the_matrix_exponential(step):
    """exp of [[A, B], [0, 0]] Delta has both discrete matrices in its first row."""
    lam, vectors = hippo_modes(N)
    b = np.linspace(-1, 1, N)[:, None]
    block = scipy.linalg.expm(step * np.block([[hippo_normal(N), b], [np.zeros((1, N + 1))]]))
    log_lam, scale = discretize(jnp.asarray(lam, jnp.complex64), jnp.asarray([step]))
    back = vectors @ np.diag(np.exp(log_lam)) @ vectors.conj().T
    np.testing.assert_allclose(2 * back.real, block[:N, :N], atol=2e-5)
    input_matrix = vectors @ (np.asarray(scale)[:, None] * (vectors.conj().T @ b))
    np.testing.assert_allclose(2 * input_matrix.real, block[:N, N:], rtol=1e-3, atol=1e-5 * step)


@pytest.mark.parametrize("step", [1e-3, 0.1])
def test_bilinear_is_the_trapezoidal_rule(step):
    lam, vectors = hippo_modes(N)
    a, b, one = hippo_normal(N), np.linspace(-1, 1, N)[:, None], np.eye(N)
    inverse = np.linalg.inv(one - step / 2 * a)
    log_lam, scale = discretize(jnp.asarray(lam, jnp.complex64), jnp.asarray([step]), "bilinear")
    back = vectors @ np.diag(np.exp(log_lam)) @ vectors.conj().T
    np.testing.assert_allclose(2 * back.real, inverse @ (one + step / 2 * a), atol=2e-5)
    input_matrix = vectors @ (np.asarray(scale)[:, None] * (vectors.conj().T @ b))
    np.testing.assert_allclose(
        2 * input_matrix.real, inverse @ b * step, rtol=1e-3, atol=1e-5 * step
    )


def test_steps_are_log_uniform():
    logs = np.asarray(log_steps(1e-3, 1e-1)(jax.random.key(0), (20_000,)))
    fraction = (logs - np.log(1e-3)) / np.log(100)
    assert fraction.min() >= -1e-6 and fraction.max() <= 1 + 1e-6
    quartiles = [0.25, 0.5, 0.75]
    np.testing.assert_allclose(np.quantile(fraction, quartiles), quartiles, atol=0.02)


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="d_state=7; expected an even number"):
        hippo_modes(7)
    with pytest.raises(ValueError, match="dt_min=0.1, dt_max=0.01"):
        log_steps(0.1, 0.01)
    with pytest.raises(ValueError, match="discretization='euler'; expected 'zoh' or 'bilinear'"):
        discretize(jnp.ones(1, jnp.complex64), jnp.ones(1), "euler")
