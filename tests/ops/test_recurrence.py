"""Laws of the linear recurrence: every method against a float64 loop, in value and gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lru

linear_recurrence = jax.jit(lru.linear_recurrence, static_argnames=("reverse", "method"))
METHODS = ["sequential", "associative", "pallas"]
SHAPES = [((2,), 1, 3), ((), 13, 2), ((2, 3), 16, 2), ((1,), 33, 4)]


def reference(a, x, h0=None, reset=None, reverse=False):
    """h_t = a_t h_{t-1} + x_t, one step after another, in complex128."""
    x = np.asarray(x, np.complex128)
    a = np.broadcast_to(np.asarray(a, np.complex128), x.shape)
    h = np.zeros(x.shape[:-2] + x.shape[-1:], np.complex128) if h0 is None else np.asarray(h0)
    states = np.zeros_like(x)
    for t in range(x.shape[-2])[:: -1 if reverse else 1]:
        if reset is not None:
            h = np.where(np.asarray(reset)[..., t, None], 0, h)
        h = a[..., t, :] * h + x[..., t, :]
        states[..., t, :] = h
    return states, h


def draw(batch, time, width, varying, seed=0):
    rng = np.random.default_rng(seed)

    def complex_normal(*shape):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    factors = (*batch, time, width) if varying else (width,)
    a = rng.uniform(0.5, 1.0, factors) * np.exp(1j * rng.uniform(0, 2 * np.pi, factors))
    x, h0 = complex_normal(*batch, time, width), complex_normal(*batch, width)
    return jnp.asarray(a.astype(np.complex64)), jnp.asarray(x), jnp.asarray(h0), rng


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_method_equals_the_float64_loop(method, varying, reverse, shape):
    a, x, h0, rng = draw(*shape, varying)
    reset = jnp.asarray(rng.random(x.shape[:-1]) < 0.3)
    for options in ({}, {"h0": h0, "reset": reset}):
        h, h_last = linear_recurrence(a, x, reverse=reverse, method=method, **options)
        want, want_last = reference(a, x, reverse=reverse, **options)
        np.testing.assert_allclose(h, want, atol=2e-5)
        np.testing.assert_allclose(h_last, want_last, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_reset", [False, True])
def test_every_gradient_equals_the_float64_loop(method, varying, reverse, with_reset):
    a, x, h0, rng = draw((2,), 11, 3, varying)
    reset = jnp.asarray(rng.random((2, 11)) < 0.3) if with_reset else None
    weight, weight_last = draw((2,), 11, 3, True, seed=1)[1:3]

    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def gradient(a, x, h0):
        h, last = linear_recurrence(a, x, h0, reset=reset, reverse=reverse, method=method)
        return jnp.sum((h * weight).real) + jnp.sum((last * weight_last).imag)

    got = jax.jit(gradient)(a, x, h0)
    want = reference_gradient(a, x, h0, reset, reverse, weight, weight_last)
    for g, w in zip(got, want):
        np.testing.assert_allclose(g, w, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_of_some_arguments_equals_that_of_all(method, varying, reverse):
    a, x, h0, rng = draw((2,), 11, 3, varying)
    reset = jnp.asarray(rng.random((2, 11)) < 0.3)

    def loss(a, x, h0):
        h, last = linear_recurrence(a, x, h0, reset=reset, reverse=reverse, method=method)
        return jnp.sum(jnp.abs(h) ** 2) + jnp.sum(last.imag)

    whole = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(a, x, h0)
    for some in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]:
        parts = jax.jit(jax.grad(loss, argnums=some))(a, x, h0)
        for index, part in zip(some, parts):
            np.testing.assert_allclose(part, whole[index], rtol=1e-5, atol=1e-4)


def reference_gradient(a, x, h0, reset, reverse, weight, weight_last):
    """The derivative of Re sum(weight h) + Im sum(weight_last h_last), propagated back by hand."""
    h, _ = reference(a, x, h0, reset, reverse)
    constant = a.ndim == 1
    a = np.broadcast_to(np.asarray(a, np.complex128), x.shape)
    if reset is not None:
        a = np.where(np.asarray(reset)[..., None], 0, a)
    order = list(range(x.shape[-2]))[:: -1 if reverse else 1]
    da, dx = np.zeros_like(h), np.zeros_like(h)
    flow = -1j * np.asarray(weight_last, np.complex128)  # Im z = Re(-i z)
    for i in reversed(range(len(order))):
        t = order[i]
        flow = flow + np.asarray(weight)[..., t, :]
        before = np.asarray(h0) if i == 0 else h[..., order[i - 1], :]
        if reset is not None:
            before = np.where(np.asarray(reset)[..., t, None], 0, before)
        dx[..., t, :], da[..., t, :] = flow, flow * before
        flow = flow * a[..., t, :]
    if constant:
        da = da.sum((0, 1))
    return da, dx, flow


@pytest.mark.parametrize("method", METHODS)
def test_forward_mode_agrees_with_reverse_mode(method):
    a, x, h0, _ = draw((2,), 9, 3, False)

    def square(scale):
        h, _ = linear_recurrence(a * scale, x * scale, h0, method=method)
        return jnp.sum(jnp.abs(h) ** 2)

    one = jnp.ones(())
    forward, backward = jax.jit(jax.jacfwd(square))(one), jax.jit(jax.grad(square))(one)
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@given(cut=st.sampled_from([1, 4, 6, 11]), seed=st.integers(0, 99))
def test_two_chunks_with_the_state_carried_equal_the_whole(method, cut, seed):
    a, x, h0, _ = draw((2,), 12, 3, False, seed)
    whole, last = linear_recurrence(a, x, h0, method=method)
    first, carried = linear_recurrence(a, x[:, :cut], h0, method=method)
    second, carried = linear_recurrence(a, x[:, cut:], carried, method=method)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-5)
    np.testing.assert_allclose(carried, last, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_resets_make_one_sequence_a_batch_of_short_ones(method):
    a, x, _, _ = draw((3,), 8, 2, False)
    whole, _ = linear_recurrence(a, x.reshape(24, 2), reset=jnp.arange(24) % 8 == 0, method=method)
    short, _ = linear_recurrence(a, x, method=method)
    np.testing.assert_allclose(whole.reshape(3, 8, 2), short, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_nan_reaches_from_its_step_to_the_next_reset(method):
    x = jnp.ones((12, 1)).at[4].set(jnp.nan)
    h, _ = linear_recurrence(jnp.array([0.5]), x, reset=jnp.arange(12) == 7, method=method)
    assert np.isnan(h[:, 0]).tolist() == [4 <= t < 7 for t in range(12)]
    h, _ = linear_recurrence(
        jnp.array([0.5]), x[:3], jnp.array([jnp.inf]), reset=jnp.arange(3) == 0, method=method
    )
    np.testing.assert_allclose(h[:, 0], [1, 1.5, 1.75])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", [False, True])
def test_nan_affects_no_gradient_of_a_loss_that_does_not_depend_on_it(method, reverse):
    x = jnp.ones((12, 1)).at[jnp.array([6, 0 if reverse else 11])].set(jnp.nan)
    reset = jnp.arange(12) == (5 if reverse else 7)

    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(a, x):
        h, _ = linear_recurrence(a, x, reset=reset, reverse=reverse, method=method)
        return jnp.sum(jnp.where(jnp.isnan(x), 0, h))

    da, dx = gradient(jnp.array([0.5]), x)
    assert np.isfinite(da).all() and np.isfinite(dx).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_factor_and_one_state_may_be_shared_by_all_modes(method):
    a, x, h0, _ = draw((2,), 9, 3, False)
    got = linear_recurrence(a[:1], x, h0[..., :1], method=method)
    want = reference(np.repeat(a[:1], 3), x, np.repeat(h0[..., :1], 3, -1))
    np.testing.assert_allclose(got[0], want[0], atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_complex_state_may_start_a_real_recurrence(method):
    h, last = linear_recurrence(jnp.array([0.5]), jnp.ones((3, 1)), jnp.array([2j]), method=method)
    np.testing.assert_allclose(h[:, 0], [1 + 1j, 1.5 + 0.5j, 1.75 + 0.25j])
    assert last.dtype == jnp.complex64


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_state_before_a_reset_affects_no_gradient(method):
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def gradient(a, x, h0):
        return linear_recurrence(a, x, h0, reset=jnp.arange(5) == 0, method=method)[0].sum()

    found = gradient(jnp.array([0.5]), jnp.ones((5, 1)), jnp.array([jnp.inf]))
    assert all(np.isfinite(leaf).all() for leaf in found)


@pytest.mark.parametrize("method", METHODS)
def test_batch_axes_of_everything_but_x_may_be_left_out(method):
    a, x, h0, rng = draw((2, 3), 5, 2, True)
    reset = jnp.asarray(rng.random(5) < 0.4)
    h, _ = linear_recurrence(a[0, 0], x, h0[0, 0], reset=reset, method=method)
    want, _ = reference(a[0, 0], x, h0[0, 0], np.broadcast_to(reset, (2, 3, 5)))
    np.testing.assert_allclose(h, want, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_reverse_is_forward_on_the_mirrored_sequence(method):
    a, x, h0, _ = draw((2,), 10, 3, True)
    h, last = linear_recurrence(a, x, h0, reverse=True, method=method)
    mirrored, mirrored_last = linear_recurrence(a[:, ::-1], x[:, ::-1], h0, method=method)
    np.testing.assert_allclose(h, mirrored[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(last, mirrored_last, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_time_varying_factors_may_be_shared_by_the_batch(method):
    a, x, h0, _ = draw((2,), 10, 3, True)
    shared, _ = linear_recurrence(a[0], x, h0, method=method)
    copied, _ = linear_recurrence(jnp.stack([a[0], a[0]]), x, h0, method=method)
    np.testing.assert_allclose(shared, copied, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_batch_does_not_matter(method):
    a, x, h0, _ = draw((4,), 10, 3, True)
    order = jnp.array([2, 0, 3, 1])
    h, _ = linear_recurrence(a, x, h0, method=method)
    permuted, _ = linear_recurrence(a[order], x[order], h0[order], method=method)
    np.testing.assert_array_equal(permuted, h[order])


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_summed_in_float32(method):
    x = jnp.ones((1000, 1), jnp.bfloat16)
    h, _ = linear_recurrence(jnp.ones(1, jnp.bfloat16), x, method=method)
    assert h.dtype == jnp.float32
    assert h[-1, 0] == 1000  # bfloat16 would stop at 256


def test_vmap_equals_a_batch_axis():
    a, x, h0, _ = draw((3,), 6, 2, False)
    batched, _ = linear_recurrence(a, x, h0)
    mapped, _ = jax.vmap(lambda x, h0: linear_recurrence(a, x, h0))(x, h0)
    np.testing.assert_allclose(mapped, batched, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(a=jnp.ones(3), x=jnp.ones((5, 2))), "a has shape (3,)"),
        (dict(a=jnp.ones((4, 2)), x=jnp.ones((5, 2))), "a has shape (4, 2)"),
        (dict(a=jnp.ones(()), x=jnp.ones((5, 2))), "a has shape ()"),
        (dict(a=jnp.ones(2), x=jnp.ones((0, 2))), "T >= 1"),
        (dict(a=jnp.ones(2), x=jnp.ones(2)), "(..., T, N)"),
        (dict(a=jnp.ones(2), x=jnp.ones((5, 2)), method="fft"), "'fft' is unknown"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise(arguments, words):
    with pytest.raises(ValueError) as error:
        lru.linear_recurrence(**arguments)
    assert words in str(error.value)
