"""Laws of model reduction: exactness, error bounds, stability, both directions, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import lru
from lru.analysis.balancing import balance, diagonalize, gramian, truncate
from lru.analysis.modes import Modes, layer_modes
from lru.analysis.reduction import (
    METHODS,
    balanced_truncation,
    enough_modes,
    find_lrus,
    hankel_singular_values,
    modal_truncation,
    model_hankel_singular_values,
    pad_modes,
    singular_perturbation,
)

N, H, TIME = 8, 3, 40
GRID = np.linspace(0, np.pi, 150)

each_method = pytest.mark.parametrize("method", METHODS)


def drawn(seed, n=N, h=H, bidirectional=False):
    """Parameters in float64 of a layer whose modes differ in size, as after training."""
    rng = np.random.default_rng(seed)
    r_max, max_phase = rng.uniform(0.7, 0.999), rng.choice([0.3, 2 * np.pi])
    nu, theta = -np.log(rng.uniform(0.1, r_max, n)), rng.uniform(0, max_phase, n)
    params = {"nu_log": np.log(nu), "theta_log": np.log(theta), "D": rng.normal(size=h)}
    params["gamma_log"] = rng.normal(size=n) - 1
    for name in ("C", "C2") if bidirectional else ("C",):
        params |= {f"{name}_{part}": rng.normal(size=(h, n)) for part in ("re", "im")}
    return params | {f"B_{part}": rng.normal(size=(n, h)) for part in ("re", "im")}


def response(params, frequencies=GRID):
    """G(e^iw) of y = Re[C h], without D, for the directions one above the other: `(K, .., H)`."""
    directions, z = layer_modes(params), np.exp(1j * frequencies)[:, None]
    lam, into = directions[0].lam, directions[0].into
    out = np.concatenate([direction.out for direction in directions])

    def complex_response(lam, into, out):
        return np.einsum("on,kn,ni->koi", out, z / (z - lam), into)

    return (
        complex_response(lam, into, out) + complex_response(*map(np.conj, (lam, into, out)))
    ) / 2


def norm(response):
    return np.linalg.norm(response, 2, axis=(1, 2)).max()


def outputs(params, inputs):
    layer = lru.LRU(len(params["nu_log"]), bidirectional="C2_re" in params)
    with jax.enable_x64(True):
        return jax.jit(layer.apply)({"params": params}, inputs)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(2, TIME, H))


@pytest.mark.parametrize("rows", ["B", "C"])
def test_gramians_equal_those_of_a_lyapunov_solver(rows):
    modes = layer_modes(drawn(0))[0]
    lam, x = modes.lam, modes.into if rows == "B" else modes.out.T
    a = np.block([[np.diag(lam.real), -np.diag(lam.imag)], [np.diag(lam.imag), np.diag(lam.real)]])
    b = np.concatenate([x.real, x.imag])
    want = scipy.linalg.solve_discrete_lyapunov(a, b @ b.T)
    np.testing.assert_allclose(gramian(lam, x), want, rtol=1e-9, atol=1e-9 * np.abs(want).max())


def test_hankel_singular_values_equal_those_of_the_hankel_matrix():
    """For one input and one output; the modes decay within the steps of the matrix."""
    params = drawn(1, n=4, h=1) | {"nu_log": np.log([0.1, 0.2, 0.3, 0.5])}
    (modes,) = layer_modes(params)
    powers = modes.lam ** np.arange(599)[:, None]
    taps = np.einsum("n,kn,n->k", modes.out[0], powers, modes.into[:, 0]).real
    matrix = scipy.linalg.hankel(taps[:300], taps[299:])
    want = np.linalg.svd(matrix, compute_uv=False)[:8]
    np.testing.assert_allclose(hankel_singular_values(params), want, atol=1e-8 * want[0])


def test_a_balanced_system_has_two_equal_diagonal_gramians():
    system = balance(layer_modes(drawn(2))[0])
    for a, b in ((system.a, system.b), (system.a.T, system.c.T)):
        found = scipy.linalg.solve_discrete_lyapunov(a, b @ b.T)
        np.testing.assert_allclose(found, np.diag(system.sigma), atol=1e-9 * system.sigma[0])


@pytest.mark.parametrize("bidirectional", [False, True])
@each_method
def test_all_modes_reproduce_the_layer_to_rounding(method, bidirectional, inputs):
    params = drawn(3, bidirectional=bidirectional)
    reduced = METHODS[method](params, N)
    assert {name: x.shape for name, x in reduced.items()} == {
        name: x.shape for name, x in params.items()
    }
    want = outputs(params, inputs)
    np.testing.assert_allclose(outputs(reduced, inputs), want, atol=1e-9 * np.abs(want).max())


def test_the_error_is_below_twice_the_sum_of_the_dropped_values_on_fifty_layers():
    ratios = []
    for seed in range(50):
        params = drawn(seed, n=6, h=2)
        whole, sigma = response(params), hankel_singular_values(params)
        for modes in (2, 4):
            reduced = balanced_truncation(params, modes)
            (found,) = layer_modes(reduced)
            silent = np.all(found.out == 0, axis=0)
            real = np.sin(np.angle(found.lam)) ** 2 < 1e-12
            order = np.sum(np.where(real, 1, 2)[~silent])
            ratios.append(norm(response(reduced) - whole) / (2 * sigma[order:].sum()))
    assert np.max(ratios) <= 1 + 1e-9 and np.max(ratios) > 0.1


@each_method
def test_reduced_layers_are_stable(method):
    for seed in range(15):
        for modes in (1, 3, 5):
            (found,) = layer_modes(METHODS[method](drawn(seed), modes))
            assert len(found.lam) == modes and np.abs(found.lam).max() < 1


def test_balanced_truncation_is_closer_than_modal_truncation():
    better = 0
    for seed in range(20):
        params = drawn(seed)
        whole = response(params)
        balanced, modal = (norm(response(METHODS[name](params, 4)) - whole)
                           for name in ("balanced", "modal"))  # fmt: skip
        better += balanced < modal
    assert better >= 18


def test_modal_truncation_keeps_modes_unchanged_and_drops_the_smallest_gains():
    params = drawn(4)
    whole, reduced = layer_modes(params)[0], layer_modes(modal_truncation(params, 5))[0]
    gains = np.linalg.norm(whole.into, axis=1) * np.linalg.norm(whole.out, axis=0)
    gains /= 1 - np.abs(whole.lam)
    kept = np.isin(whole.lam, reduced.lam)
    assert kept.sum() == 5 and gains[kept].min() > gains[~kept].max()
    error = norm(response(params) - response(modal_truncation(params, 5)))
    assert error <= gains[~kept].sum()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_perturbation_keeps_the_gain_of_constant_inputs(bidirectional):
    for seed in range(10):
        params = drawn(seed, n=10, bidirectional=bidirectional)
        whole, zero = response(params, np.zeros(1)), np.zeros(1)
        np.testing.assert_allclose(
            response(singular_perturbation(params, 5), zero), whole, atol=1e-8 * norm(whole)
        )
        assert norm(response(balanced_truncation(params, 5), zero) - whole) > 1e-6 * norm(whole)


def test_perturbation_is_closer_at_rest_where_modes_are_fewer_than_channels():
    zero, closer = np.zeros(1), 0
    for seed in range(10):
        params = drawn(seed, n=8, h=8)
        whole = response(params, zero)
        errors = [norm(response(METHODS[name](params, 4), zero) - whole)
                  for name in ("perturbation", "balanced")]  # fmt: skip
        closer += errors[0] < errors[1]
    assert closer >= 8


def test_both_directions_are_reduced_within_their_bound(inputs):
    params = drawn(5, bidirectional=True)
    reduced, sigma = balanced_truncation(params, 5), hankel_singular_values(params)
    assert reduced["C2_re"].shape == (H, 5)
    whole, error = response(params), response(reduced) - response(params)
    assert norm(error) <= 2 * sigma[9:].sum() < norm(whole)
    forward, backward = np.split(error, 2, axis=1)
    assert norm(forward + backward.conj()) <= np.sqrt(2) * 2 * sigma[9:].sum()
    want = outputs(params, inputs)
    assert np.linalg.norm(outputs(reduced, inputs) - want) < 0.3 * np.linalg.norm(want)


def state_moments(params, inputs):
    """E[s s^T] over all steps and directions, by a loop, for inputs `(B, T, H)`."""
    states = []
    for modes, u in zip(layer_modes(params), (inputs, inputs[:, ::-1])):
        h = np.zeros((len(u), len(modes.lam)), complex)
        for k in range(u.shape[1]):
            h = modes.lam * h + u[:, k] @ modes.into.T
            states.append(np.hstack([h.real, h.imag]))
    s = np.concatenate(states)
    return s.T @ s / len(s)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_moments_reduce_for_inputs_like_these(bidirectional, inputs):
    """These inputs change slowly, and are on one line."""
    closer = 0
    for seed in range(10):
        params = drawn(seed, bidirectional=bidirectional)
        line = np.random.default_rng(seed).normal(size=(1, H))
        u = np.cumsum(inputs, axis=1) @ (line.T @ line)
        moments, want = state_moments(params, u), outputs(params, u)
        errors = [np.linalg.norm(outputs(balanced_truncation(params, 3, given), u) - want)
                  for given in (moments, None)]  # fmt: skip
        closer += errors[0] <= errors[1]
    assert closer >= 9


def test_layers_reduced_for_any_moments_are_stable():
    for seed in range(20):
        root = np.random.default_rng(seed).normal(size=(2 * N, 4))
        system = balance(layer_modes(drawn(seed))[0], root @ root.T)
        for order in (3, 6, 9):
            assert np.abs(np.linalg.eigvals(truncate(system, order).a)).max() < 1


def test_moments_do_not_depend_on_how_b_and_c_share_a_scale(inputs):
    params, scale = drawn(3), 10.0 ** np.arange(-3, N - 3)
    scaled = params | {f"B_{part}": params[f"B_{part}"] * scale[:, None] for part in ("re", "im")}
    scaled |= {f"C_{part}": params[f"C_{part}"] / scale for part in ("re", "im")}
    u = np.cumsum(inputs, axis=1)
    sigma, same = (hankel_singular_values(p, state_moments(p, u)) for p in (params, scaled))
    np.testing.assert_allclose(same, sigma, atol=1e-6 * sigma[0])


@pytest.mark.parametrize("moments", [np.eye(H), np.full((2 * N, 2 * N), np.nan)])
def test_moments_that_are_not_those_of_the_states_raise(moments):
    with pytest.raises(ValueError, match=r"expected finite second moments of the states"):
        balanced_truncation(drawn(0), 4, moments)


def test_moments_of_white_noise_change_nothing():
    params = drawn(0)
    lam, into, _ = layer_modes(params)[0]
    moments = gramian(lam, into)
    sigma = hankel_singular_values(params)
    np.testing.assert_allclose(hankel_singular_values(params, moments), sigma, atol=1e-4 * sigma[0])
    reduced, same = (balanced_truncation(params, 4, given) for given in (None, moments))
    np.testing.assert_allclose(response(same), response(reduced), atol=1e-3)
    assert enough_modes(params, energy=0.9, moments=moments) == enough_modes(params, energy=0.9)


def test_modal_truncation_for_moments_keeps_the_modes_with_the_largest_outputs(inputs):
    params = drawn(1)
    modes, reduced = (
        layer_modes(params)[0],
        modal_truncation(params, 3, state_moments(params, inputs)),
    )
    h = np.zeros((len(inputs), N), complex)
    squares = np.zeros(N)
    for k in range(TIME):
        h = modes.lam * h + inputs[:, k] @ modes.into.T
        squares += (np.abs(h[:, None] * modes.out) ** 2).sum(axis=(0, 1))
    kept = np.isin(modes.lam, layer_modes(reduced)[0].lam)
    assert kept.sum() == 3 and squares[kept].min() > squares[~kept].max()


def test_a_tolerance_for_measured_inputs_raises():
    with pytest.raises(ValueError, match="tolerance needs white inputs"):
        enough_modes(drawn(0), tolerance=0.5, moments=np.eye(2 * N))


def test_parameters_keep_their_types_and_float32_outputs_stay_close(inputs):
    layer = lru.LRU(16, r_min=0.9, r_max=0.99)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 2, H)))["params"]
    reduced = balanced_truncation(params, 16)
    assert {x.dtype.name for x in reduced.values()} == {"float32"}
    want, found = (
        jax.jit(layer.apply)({"params": p}, np.float32(inputs)) for p in (params, reduced)
    )
    np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())


def test_redundant_modes_are_found_and_silent_ones_fill_their_places(inputs):
    params = drawn(6, n=4)
    twice = {name: x if name == "D" else np.concatenate([x, x], axis=int(name.startswith("C")))
             for name, x in params.items()}  # fmt: skip
    np.testing.assert_allclose(hankel_singular_values(twice)[8:], 0, atol=1e-9)
    assert enough_modes(twice, energy=1 - 1e-6) <= 4
    want = outputs(twice, inputs)
    for reduced in (balanced_truncation(twice, 4), balanced_truncation(twice, 6)):
        np.testing.assert_allclose(outputs(reduced, inputs), want, atol=1e-6 * np.abs(want).max())


def test_silent_modes_change_nothing_and_can_learn(inputs):
    params = drawn(7)
    padded = pad_modes(params, N + 5)
    np.testing.assert_allclose(outputs(padded, inputs), outputs(params, inputs), rtol=1e-9)
    with jax.enable_x64(True):
        gradient = jax.grad(lambda p: jnp.sum(outputs(p, inputs) ** 2))(padded)
    assert np.all(np.abs(gradient["C_re"][:, N:]) > 0)


def test_a_real_mode_takes_one_mode():
    lam, ones = np.array([0.9 * np.exp(0.5j)]), np.ones((1, 1), complex)
    assert len(diagonalize(balance(Modes(lam, ones, ones))).lam) == 1
    assert len(diagonalize(balance(Modes(lam * 0 + 0.9, ones, ones))).lam) == 1


def test_tolerance_bounds_the_relative_error():
    for seed in range(5):
        params = drawn(seed, n=12)
        modes = enough_modes(params, tolerance=0.5)
        error = norm(response(balanced_truncation(params, modes)) - response(params))
        assert modes < 12 and error <= 0.5 * norm(response(params))


def test_more_energy_needs_more_modes():
    params = drawn(8, n=12)
    needed = [enough_modes(params, energy=energy) for energy in (0.5, 0.9, 0.99, 1.0)]
    assert needed == sorted(needed) and needed[0] < needed[2] < needed[3] <= 12


def test_every_lru_of_a_tree_is_found():
    tree = {"encoder": {"kernel": np.ones(3)}, "stack": {"a": {"mixer": drawn(0)}, "b": drawn(1)}}
    assert find_lrus(tree).keys() == {"stack/a/mixer", "stack/b"}
    assert {path: len(x) for path, x in model_hankel_singular_values(tree).items()} == {
        "stack/a/mixer": 2 * N, "stack/b": 2 * N,
    }  # fmt: skip


@each_method
@pytest.mark.parametrize("modes", [0, N + 1])
def test_an_impossible_number_of_modes_raises(method, modes):
    with pytest.raises(ValueError, match=f"modes={modes}; expected a whole number from 1 to {N}"):
        METHODS[method](drawn(0), modes)


def test_other_parameters_raise():
    with pytest.raises(ValueError, match="expected those of an lru.LRU"):
        hankel_singular_values({"kernel": np.ones(2)})
    with pytest.raises(ValueError, match="inside the unit disk"):
        balanced_truncation(drawn(0) | {"nu_log": np.full(N, -50.0)}, 2)
    with pytest.raises(ValueError, match="B, C or the inputs are zero"):
        hankel_singular_values(drawn(0) | {"C_re": np.zeros((H, N)), "C_im": np.zeros((H, N))})


@pytest.mark.parametrize(
    "given", [{}, {"energy": 0.9, "tolerance": 0.1}, {"energy": 1.5}, {"tolerance": 0.0}]
)
def test_a_condition_that_selects_nothing_raises(given):
    with pytest.raises(ValueError, match="expected"):
        enough_modes(drawn(0), **given)
