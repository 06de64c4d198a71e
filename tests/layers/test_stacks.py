"""Laws of stacks: both orders equal each other, and a loop over the cells."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lru.lattice import Lattice, LRUCell, PSLRUCell, RGLRUCell
from lru.layers.gated import GridLSTMCell, GRUCell, LSTMCell, RHNCell

B, H = 3, 4


def inputs(time, seed=0):
    return jax.random.normal(jax.random.key(seed), (B, time, H))


def make(depth, order, unit=LRUCell):
    layer = Lattice(H, depth, unit=unit, order=order)
    return layer, jax.jit(layer.init)(jax.random.key(1), inputs(2))["params"]


def everything(depth, time, full):
    """Draws a carry, lengths and resets for that size, or returns None for each."""
    if not full:
        return {}
    return {
        "initial_carry": jax.random.normal(jax.random.key(5), (B, depth, H)),
        "seq_lengths": jnp.array([time, 0, (time + 1) // 2]),
        "reset": jnp.zeros((B, time), bool).at[0, time // 2].set(True),
    }


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=(1, 2, 3), has_aux=True)
def loss(layer, params, u, start, options):
    carry, y = layer.apply(
        {"params": params}, u, initial_carry=start, return_carry=True, **options
    )  # fmt: skip
    weigh = [jax.random.normal(jax.random.key(9), x.shape) for x in (carry, y)]
    return sum(jnp.sum(w * x) for w, x in zip(weigh, (carry, y))), (carry, y)


@pytest.mark.parametrize(
    "depth, time, full",
    [(1, 2, True), (2, 7, True), (5, 1, True), (5, 2, True), (2, 7, False)],
)
def test_wavefront_equals_plain_in_value_and_gradient(depth, time, full):
    results = []
    for order in ("plain", "wavefront"):
        layer, params = make(depth, order)
        options = everything(depth, time, full)
        start = options.pop("initial_carry", jnp.zeros((B, depth, H)))
        results.append(loss(layer, params, inputs(time), start, options))
    plain, wave = results
    jax.tree.map(lambda w, p: np.testing.assert_allclose(w, p, atol=2e-5), wave, plain)


class TiedCell(LRUCell):
    """A cell that uses one matrix of the reset states twice."""

    deferrable = False

    def join(self, weights):
        joined = super().join(weights)
        return joined._replace(reset=joined.reset[0])

    def _times_both(self, states, kernels):
        if kernels.ndim == 3:
            return super()._times_both(states, kernels)
        return [self.times(state, kernels) for state in states]

    def step(self, weights, carry, input, projected):
        tied = weights._replace(reset_recurrent=weights.reset_input)
        return super().step(tied, carry, input, projected)


@pytest.mark.parametrize("unit", [GRUCell, LSTMCell, GridLSTMCell, RHNCell, RGLRUCell, TiedCell])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_gradients_of_both_orders_are_equal(unit, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # on a GPU, scans are unrolled

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.grad, argnums=1)
    def gradient(layer, params, u):
        return jnp.sum(layer.apply({"params": params}, u) ** 2)

    grads = [gradient(*make(3, order, unit), inputs(5)) for order in ("plain", "wavefront")]
    jax.tree.map(lambda p, w: np.testing.assert_allclose(w, p, atol=2e-5), *grads)


@pytest.mark.parametrize("unit", [PSLRUCell, RGLRUCell, LRUCell])
@pytest.mark.parametrize("order", ["plain", "wavefront"])
def test_the_lattice_equals_a_loop_over_its_cells(unit, order):
    (layer, params), u = make(3, order, unit), inputs(4)
    cell, h2 = unit(H), list(jnp.zeros((3, B, H)))
    step = jax.jit(cell.apply)
    outputs = []
    for t in range(4):
        h1 = u[:, t]
        for depth in range(3):
            h2[depth], h1 = step({"params": params[f"layers_{depth}"]}, h2[depth], h1)
        outputs.append(h1)
    carry, y = jax.jit(layer.apply, static_argnames="return_carry")(
        {"params": params}, u, return_carry=True
    )
    np.testing.assert_allclose(y, jnp.stack(outputs, 1), atol=1e-5)
    np.testing.assert_allclose(carry, jnp.stack(h2, 1), atol=1e-5)


@pytest.fixture
def products(count_products):
    """Returns a function that counts the products of a stack, or of its gradient."""

    def count(order, depth, time, transform=lambda f: f):
        layer, params = make(depth, order)
        call = transform(lambda params, u: jnp.sum(layer.apply({"params": params}, u)))
        return count_products(call, params, inputs(time))

    return count


def test_plain_order_computes_products_of_inputs_outside_the_loop_over_steps(products):
    layers = 3
    ahead = layers * 1  # one product, of the gates and candidate 1
    assert products("plain", layers, 7) == (layers * 3, ahead)
    assert products("wavefront", layers, 7) == (2, 0)  # both states in one, before and after gates


def test_an_unrolled_wavefront_computes_the_gradients_of_kernels_after_the_loop(
    products, monkeypatch
):
    forward, states, kernels = 2, 2, 2
    assert products("wavefront", 3, 7, jax.grad) == (forward + states + kernels, 0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert products("wavefront", 3, 7, jax.grad) == (forward + states, kernels)
    assert products("wavefront", 3, 70, jax.grad) == (forward + states + kernels, 0)


def test_auto_is_a_wavefront_off_the_cpu_for_several_layers_and_enough_steps(products, monkeypatch):
    assert products("auto", 3, 7) == products("plain", 3, 7)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert products("auto", 3, 7) == products("wavefront", 3, 7)
    for depth, time in [(3, 1), (1, 7)]:
        assert products("auto", depth, time) == products("plain", depth, time)


@pytest.mark.parametrize("order", ["plain", "wavefront"])
def test_layers_are_drawn_independently(order):
    params = make(2, order)[1]
    assert params.keys() == {"layers_0", "layers_1"}
    leaves = zip(*(jax.tree.leaves(params[name]) for name in ("layers_0", "layers_1")))
    assert all(abs(a - b).max() > 0.01 for a, b in leaves)


@pytest.mark.parametrize("order", ["plain", "wavefront"])
def test_bfloat16_products_keep_a_float32_state(order):
    layer, params = make(2, order)
    u, options = inputs(5), dict(return_carry=True)
    want_carry, want = layer.apply({"params": params}, u, **options)
    small = Lattice(H, 2, order=order, dtype=jnp.bfloat16)
    carry, y = small.apply({"params": params}, u, **options)
    assert (carry.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(carry, want_carry, atol=0.05)
    np.testing.assert_allclose(y.astype(jnp.float32), want, atol=0.05)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_invalid_order_or_depth_raises():
    with pytest.raises(ValueError, match="order='diagonal'; expected one of 'auto', 'plain'"):
        make(2, "diagonal")
    with pytest.raises(ValueError, match="num_layers=0; expected a whole number of at least 1"):
        make(0, "plain")


def test_a_wavefront_can_be_exported_for_any_batch_and_length():
    layer, params = make(2, "wavefront")
    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("B, T"), H), jnp.float32)
    call = jax.jit(lambda u: layer.apply({"params": params}, u))
    exported = jax.export.export(call)(shape)
    np.testing.assert_allclose(exported.call(inputs(5)), call(inputs(5)), atol=1e-6)
