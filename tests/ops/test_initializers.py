"""Laws of the distributions of Appendix A, and of draws that stay finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.ops.initializers import (
    gamma_log,
    lru_initializers,
    phase_theta_log,
    ring_nu_log,
    scaled_normal,
)

KEY = jax.random.key(0)
RINGS = [
    (0.0, 1.0),
    (0.0, 0.99),
    (0.0, 0.01),
    (0.0, 1e-4),
    (0.5, 0.9),
    (0.9, 0.999),
    (0.999, 0.9999),
    (0.7, 0.7),
]


@pytest.mark.parametrize(("r_min", "r_max"), RINGS)
def test_eigenvalues_fill_the_ring_uniformly_in_area(r_min, r_max):
    nu = np.exp(np.asarray(ring_nu_log(r_min, r_max)(KEY, (20_000,)), np.float64))
    modulus = np.exp(-nu)
    assert r_min - 1e-6 <= modulus.min() and modulus.max() <= r_max
    if r_min < r_max:  # the area within |lambda| is uniform: so its quartiles are known
        area = (modulus**2 - r_min**2) / (r_max**2 - r_min**2)
        np.testing.assert_allclose(
            np.quantile(area, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02
        )


@pytest.mark.parametrize("u", [0.0, 1.0])
@pytest.mark.parametrize("ring", RINGS)
def test_no_draw_is_infinite_even_at_the_ends(monkeypatch, u, ring):
    def worst(key, shape, dtype, minval, maxval):
        return jnp.full(shape, minval if u == 0 else maxval, dtype)

    monkeypatch.setattr(jax.random, "uniform", worst)
    nu_log, theta_log = ring_nu_log(*ring)(KEY, (3,)), phase_theta_log()(KEY, (3,))
    for value in (nu_log, theta_log, gamma_log(nu_log)):
        assert np.isfinite(value).all()
    assert (np.exp(-np.exp(np.asarray(nu_log, np.float64))) < 1).all()


@pytest.mark.parametrize("modulus", [1e-6, 0.5, 0.99, 0.9999, 1 - 1e-6])
def test_gamma_is_precise_near_the_unit_circle(modulus):
    nu_log = jnp.log(-jnp.log1p(jnp.array([modulus - 1], jnp.float32)))
    nu = np.exp(np.asarray(nu_log, np.float64))  # of the modulus rounded to float32
    want = np.sqrt(-np.expm1(-2 * nu))
    np.testing.assert_allclose(np.exp(gamma_log(nu_log)), want, rtol=2e-6)


def test_phases_are_uniform_up_to_max_phase():
    phase = np.exp(phase_theta_log(math.pi / 10)(KEY, (20_000,)))
    assert phase.min() > 0 and phase.max() <= math.pi / 10
    np.testing.assert_allclose(np.quantile(phase, 0.5), math.pi / 20, rtol=0.03)


def test_matrices_have_the_variances_of_appendix_a():
    table = lru_initializers(64, 256, bidirectional=True)
    variances = {"B_re": 1 / 128, "B_im": 1 / 128, "C_re": 1 / 256, "C2_im": 1 / 256, "D": 1}
    for name, variance in variances.items():
        init, shape = table[name]
        draws = np.concatenate([init(key, shape).ravel() for key in jax.random.split(KEY, 20)])
        np.testing.assert_allclose(draws.var(), variance, rtol=0.15 if name == "D" else 0.02)


def test_shapes_are_those_of_appendix_a():
    shapes = {
        name: shape for name, (_, shape) in lru_initializers(5, 3, bidirectional=True).items()
    }
    assert shapes == {
        "nu_log": (3,), "theta_log": (3,), "B_re": (3, 5), "B_im": (3, 5), "C_re": (5, 3),
        "C_im": (5, 3), "C2_re": (5, 3), "C2_im": (5, 3), "D": (5,),
    }  # fmt: skip


def test_half_precision_rounds_the_result_and_not_the_draw():
    nu_log = ring_nu_log()(KEY, (256,), jnp.bfloat16)
    assert nu_log.dtype == jnp.bfloat16
    np.testing.assert_array_equal(nu_log, ring_nu_log()(KEY, (256,)).astype(jnp.bfloat16))


def test_scaled_normal_takes_a_variance():
    assert abs(float(scaled_normal(4.0)(KEY, (10_000,)).std()) - 2) < 0.05


@pytest.mark.parametrize("ring", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1), (1.0, 1.0), (0.0, 0.0)])
def test_an_invalid_ring_raises(ring):
    with pytest.raises(ValueError, match="0 <= r_min <= r_max <= 1"):
        ring_nu_log(*ring)


def test_an_invalid_phase_raises():
    with pytest.raises(ValueError, match="max_phase=-1"):
        phase_theta_log(-1.0)
