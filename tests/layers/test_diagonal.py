"""Laws of the ablations of the LRU, against a float64 transcription of section 3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.baselines import DiagonalRNN
from lru.layers.diagonal import draw_eigenvalues, eigenvalues

B, T, H, N = 2, 7, 3, 5
PARAMETERIZATIONS = ["real_imag", "exp", "stable_exp"]
LEARNED = {"real_imag": {"a", "b"}, "exp": {"nu", "theta"}, "stable_exp": {"nu_log", "theta"}}
U = jax.random.normal(jax.random.key(0), (B, T, H))


def make(parameterization, **options):
    layer = DiagonalRNN(N, parameterization, **options)
    return layer, jax.jit(layer.init)(jax.random.key(1), U)


def lambda_of_section_3(p):
    if "a" in p:
        return p["a"] + 1j * p["b"]
    return np.exp(-(p["nu"] if "nu" in p else np.exp(p["nu_log"])) + 1j * p["theta"])


def by_hand(params, u):
    """y_k = Re[C h_k] + D u_k for one sequence u (T, H), in complex128, step by step."""
    p = {name: np.float64(value) for name, value in params.items()}
    x, outputs = np.zeros(N, complex), []
    for u_k in np.asarray(u, np.float64):
        x = lambda_of_section_3(p) * x + (p["B_re"] + 1j * p["B_im"]) @ u_k
        outputs.append(((p["C_re"] + 1j * p["C_im"]) @ x).real + p["D"] * u_k)
    return x, np.stack(outputs)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_values_and_gradients_equal_the_float64_loop(parameterization, slopes):
    layer, variables = make(parameterization)
    params, weight = variables["params"], np.asarray(jax.random.normal(jax.random.key(2), U.shape))

    @jax.jit
    def run(params):
        carry, y = layer.apply({"params": params}, U, return_carry=True)
        return jnp.sum(weight * y), (carry, y)

    (_, (carry, y)), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    for row in range(B):
        want = by_hand(params, U[row])
        np.testing.assert_allclose(carry[row], want[0], atol=1e-5)
        np.testing.assert_allclose(y[row], want[1], atol=1e-5)
    rows = range(B)
    want = slopes(lambda p: sum(np.sum(weight[r] * by_hand(p, U[r])[1]) for r in rows), params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-4), grads, want)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_parameters_are_those_of_the_lru_except_lambda_and_gamma(parameterization):
    shapes = jax.tree.map(jnp.shape, make(parameterization, bidirectional=True)[1]["params"])
    of_the_lru = jax.eval_shape(
        lru.LRU(N, bidirectional=True).init, jax.random.key(0), U
    )["params"]  # fmt: skip
    assert shapes.keys() - of_the_lru.keys() == LEARNED[parameterization] - {"nu_log"}
    assert of_the_lru.keys() - shapes.keys() >= {"gamma_log", "theta_log"}
    for name, shape in shapes.items():
        assert shape == ((N,) if name in LEARNED[parameterization] else of_the_lru[name].shape)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_eigenvalues_are_uniform_in_area_on_the_ring(parameterization):
    drawn = draw_eigenvalues(
        jax.random.key(0), 20_000, parameterization, r_min=0.5, r_max=0.9, max_phase=1.0
    )
    lam = np.asarray(eigenvalues(drawn))
    fraction = (abs(lam) ** 2 - 0.5**2) / (0.9**2 - 0.5**2)
    for sample in (fraction, np.angle(lam)):
        assert sample.min() >= -1e-5 and sample.max() <= 1 + 1e-5
        np.testing.assert_allclose(
            np.quantile(sample, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02
        )
    assert abs(np.corrcoef(fraction, np.angle(lam))[0, 1]) < 0.03


def test_by_default_eigenvalues_fill_the_whole_disk():
    lam = np.asarray(eigenvalues(draw_eigenvalues(jax.random.key(0), 20_000, "real_imag")))
    assert abs(lam).max() <= 1
    np.testing.assert_allclose([lam.mean(), (abs(lam) ** 2).mean()], [0, 0.5], atol=0.02)


def test_the_module_draws_both_parts_of_lambda_together():
    params = make("real_imag", r_min=0.8, r_max=0.8)[1]["params"]
    np.testing.assert_allclose(np.hypot(params["a"], params["b"]), 0.8, rtol=1e-4)


def test_with_gamma_in_b_the_last_ablation_equals_the_lru():
    layer = lru.LRU(N, r_min=0.3, r_max=0.9)
    params = jax.jit(layer.init)(jax.random.key(1), U)["params"]
    gamma = jnp.exp(params["gamma_log"])[:, None]
    same = {name: params[name] for name in ("nu_log", "C_re", "C_im", "D")} | {
        "theta": jnp.exp(params["theta_log"]), "B_re": gamma * params["B_re"],
        "B_im": gamma * params["B_im"],
    }  # fmt: skip
    got = DiagonalRNN(N).apply({"params": same}, U)
    np.testing.assert_allclose(got, layer.apply({"params": params}, U), atol=1e-5)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_unknown_parameterization_raises():
    with pytest.raises(ValueError, match="parameterization='polar'; expected one of 'real_imag'"):
        make("polar")
