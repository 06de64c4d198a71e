"""Laws of deferred products: the same values and gradients, with one product for the matrix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lru.ops.deferred import Deferred, defer, deferred_matmul
from lru.ops.matmul import matmul

T, L, B, K = 5, 2, 3, 4


def arrays():
    random = np.random.default_rng(0)
    return random.normal(size=(L, K, K)) / 2, random.normal(size=(L, B, K))


def last_state(w, start, deferred, dtype=jnp.float32):
    """Computes x_t = tanh(x_{t-1} w) for a stack of matrices w, and returns the last x."""
    records = defer(w, (T, start.shape[1]), dtype) if deferred else None

    def step(x, record):
        if deferred:
            product = jax.vmap(lambda x, w: deferred_matmul(x, w, dtype))(x, Deferred(w, record))
        else:
            product = jax.vmap(lambda x, w: matmul(x, w, dtype))(x, w)
        return jnp.tanh(product), None

    return lax.scan(step, start, records, T)[0]


def loss(w, start, **options):
    return jnp.sum(last_state(w, start, **options) ** 2)


def by_hand(w, start):
    """Returns the last x and the gradients of the loss, in float64."""
    states = [start]
    for _ in range(T):
        states.append(np.tanh(states[-1] @ w))
    x_gradient, w_gradient = 2 * states[-1], np.zeros_like(w)
    for before, after in reversed(list(zip(states, states[1:]))):
        x_gradient = x_gradient * (1 - after**2)
        w_gradient += np.swapaxes(before, 1, 2) @ x_gradient
        x_gradient = x_gradient @ np.swapaxes(w, 1, 2)
    return states[-1], w_gradient, x_gradient


def test_values_and_gradients_equal_a_float64_loop():
    w, start = arrays()
    narrow = jnp.float32(w), jnp.float32(start)
    last, w_gradient, x_gradient = by_hand(w, start)
    np.testing.assert_allclose(last_state(*narrow, deferred=True), last, atol=1e-5)
    found = jax.jit(jax.grad(functools.partial(loss, deferred=True), argnums=(0, 1)))(*narrow)
    np.testing.assert_allclose(found[0], w_gradient, atol=1e-5)
    np.testing.assert_allclose(found[1], x_gradient, atol=1e-5)


def test_second_derivatives_are_the_same():
    w, start = map(jnp.float32, arrays())

    def slope(w, deferred):
        return jnp.sum(jax.grad(loss)(w, start, deferred=deferred) ** 2)

    plain, deferred = (jax.jit(jax.grad(slope), static_argnums=1)(w, d) for d in (False, True))
    np.testing.assert_allclose(deferred, plain, rtol=1e-4, atol=1e-4)


def test_bfloat16_factors_give_a_gradient_in_the_type_of_the_matrix():
    w, start = map(jnp.float32, arrays())
    plain, deferred = (
        jax.grad(loss)(w, start, deferred=d, dtype=jnp.bfloat16) for d in (False, True)
    )
    assert deferred.dtype == jnp.float32
    np.testing.assert_allclose(deferred, plain, atol=0.05)


def test_the_gradient_of_the_matrix_is_one_product_outside_the_loops(count_products):
    forward, states, matrix = 1, 1, 1
    plain, deferred = (
        count_products(jax.grad(functools.partial(loss, deferred=d)), *map(jnp.float32, arrays()))
        for d in (False, True)
    )
    assert plain == (forward + states + matrix, 0)
    assert deferred == (forward + states, matrix)


def test_forward_mode_raises():
    w, start = map(jnp.float32, arrays())
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda w: loss(w, start, deferred=True), (w,), (w,))


@pytest.mark.several_devices
def test_a_batch_stays_sharded_over_devices():
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    gradient = jax.jit(
        jax.grad(functools.partial(loss, deferred=True)), in_shardings=(None, split)
    )  # fmt: skip
    compiled = gradient.lower(jnp.ones((L, K, K)), jnp.ones((L, 4, K))).compile().as_text()
    assert "all-reduce" in compiled and "all-gather" not in compiled
