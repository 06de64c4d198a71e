"""Laws of S4D, against a float64 transcription of its equations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.baselines import S4D
from lru.layers.hippo import hippo_normal
from lru.layers.s4d import initial_frequencies

B, T, H, N = 2, 7, 3, 4
U = jax.random.normal(jax.random.key(0), (B, T, H))


def make(**options):
    layer = S4D(N, dt_min=0.05, dt_max=0.5, **options)
    return layer, jax.jit(layer.init)(jax.random.key(1), U)


def by_hand(discretization, params, u):
    """h' = Lambda h + u in steps, y = 2 Re[C h] + D u, for each channel of one sequence (T, H)."""
    p = {name: np.float64(value) for name, value in params.items()}
    lam, step = -np.exp(p["nu_log"]) + 1j * p["Lambda_im"], np.exp(p["log_step"])[:, None]
    if discretization == "zoh":
        a_bar, b_bar = np.exp(lam * step), (np.exp(lam * step) - 1) / lam
    else:
        a_bar = (1 + step / 2 * lam) / (1 - step / 2 * lam)
        b_bar = step / (1 - step / 2 * lam)
    x, outputs = np.zeros((H, N // 2), complex), []
    for u_k in np.float64(u):
        x = a_bar * x + b_bar * u_k[:, None]
        outputs.append(2 * ((p["C_re"] + 1j * p["C_im"]) * x).real.sum(-1) + p["D"] * u_k)
    return x, np.stack(outputs)


@pytest.mark.parametrize(
    "discretization, form", [("zoh", "convolution"), ("zoh", "recurrence"), ("bilinear", "both")]
)
def test_values_and_gradients_equal_the_float64_loop(discretization, form, slopes):
    layer, variables = make(discretization=discretization)
    params, weight = variables["params"], np.asarray(jax.random.normal(jax.random.key(2), U.shape))
    reset = jnp.zeros((B, T), bool) if form == "recurrence" else None

    def run(params):
        carry, y = layer.apply({"params": params}, U, reset=reset, return_carry=True)
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


def test_frequencies_are_those_of_the_paper():
    n = np.arange(16)
    np.testing.assert_allclose(initial_frequencies("lin", 32), math.pi * n)
    inverse = 32 / math.pi * (32 / (2 * n + 1) - 1)
    np.testing.assert_allclose(initial_frequencies("inv", 32), inverse)
    eigenvalues = np.linalg.eigvals(hippo_normal(32)).imag
    np.testing.assert_allclose(
        initial_frequencies("legs", 32), sorted(eigenvalues[eigenvalues > 0])[::-1], rtol=1e-6
    )


def test_s4d_inv_is_within_n_over_pi_of_the_eigenvalues_that_it_approximates():
    inverse, exact = (initial_frequencies(kind, 256)[:64] for kind in ("inv", "legs"))
    np.testing.assert_allclose(inverse, exact, atol=256 / math.pi, rtol=0)


@pytest.mark.parametrize("frequencies", ["lin", "inv", "legs"])
def test_every_channel_begins_with_the_same_modes_and_its_own_step(frequencies):
    layer = S4D(8, frequencies, bidirectional=True)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 2000)))["params"]
    want = np.tile(initial_frequencies(frequencies, 8), (2000, 1))
    np.testing.assert_allclose(params["Lambda_im"], want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.exp(params["nu_log"]), np.full((2000, 4), 0.5), rtol=1e-6)
    assert np.log(1e-3) <= params["log_step"].min() < -6.8
    assert -2.4 < params["log_step"].max() <= np.log(1e-1)
    for name in ("C", "C2"):  # E|C|^2 = 1
        square = params[f"{name}_re"] ** 2 + params[f"{name}_im"] ** 2
        assert square.mean() == pytest.approx(1, abs=0.05)
    assert params["D"].std() == pytest.approx(1, abs=0.05)


def test_an_unused_state_is_not_computed():
    """The state is the only matrix product of the layer."""
    layer, variables = make()

    def program(return_carry):
        run = jax.jit(
            lambda u: layer.apply(variables, u, return_carry=True)[0 if return_carry else 1]
        )
        return run.lower(U).compile().as_text()

    assert " dot(" in program(True) and " dot(" not in program(False)


def test_the_powers_for_the_kernel_are_not_saved():
    layer = S4D(64)
    u = jnp.ones((16384, 4))
    variables = jax.jit(layer.init)(jax.random.key(0), u[:2])
    gradient = jax.jit(jax.grad(lambda v: layer.apply(v, u).sum()))
    temporaries = gradient.lower(variables).compile().memory_analysis().temp_size_in_bytes
    assert temporaries < 16384 * 4 * 32 * 8 / 2


def test_bfloat16_outputs_come_from_a_complex64_state():
    layer, variables = make(dtype=jnp.bfloat16)
    for u in (U, U[:, :1]):
        carry, y = layer.apply(variables, u.astype(jnp.bfloat16), return_carry=True)
        assert (carry.dtype, y.dtype) == (jnp.complex64, jnp.bfloat16)
        want = make()[0].apply(variables, u)
        np.testing.assert_allclose(y.astype(jnp.float32), want, atol=0.1)


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="frequencies='real'; expected 'lin', 'inv' or 'legs'"):
        make(frequencies="real")
    with pytest.raises(ValueError, match="d_state=5; expected an even number"):
        initial_frequencies("lin", 5)
