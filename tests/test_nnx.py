"""The NNX layer equals the Linen layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lru
import lru.nnx

U = jax.random.normal(jax.random.key(0), (3, 7, 4))
LENGTHS = jnp.array([7, 2, 4])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_linen_weights_give_identical_outputs_in_nnx(bidirectional):
    linen = lru.LRU(6, bidirectional=bidirectional)
    variables = jax.jit(linen.init)(jax.random.key(1), U)
    native = lru.nnx.LRU(4, 6, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    nnx.update(native, variables["params"])
    options = dict(seq_lengths=LENGTHS, return_carry=True, reverse=True)
    want = linen.apply(variables, U, **options)
    jax.tree.map(np.testing.assert_array_equal, native(U, **options), want)


def test_nnx_weights_give_identical_outputs_in_linen():
    native = lru.nnx.LRU(4, 6, r_min=0.5, rngs=nnx.Rngs(3))
    params = nnx.to_pure_dict(nnx.state(native, nnx.Param))
    np.testing.assert_array_equal(lru.LRU(6).apply({"params": params}, U), native(U))


def test_initialization_has_the_same_shapes_and_ring():
    native = lru.nnx.LRU(4, 6, r_min=0.5, r_max=0.9, max_phase=0.1, rngs=nnx.Rngs(3))
    linen = jax.eval_shape(lru.LRU(6).init, jax.random.key(0), U)["params"]
    params = native.parameters()
    assert {k: v.shape for k, v in params.items()} == {k: v.shape for k, v in linen.items()}
    modulus = np.exp(-np.exp(params["nu_log"]))
    assert ((modulus > 0.4999) & (modulus < 0.9001)).all()
    assert np.exp(params["theta_log"]).max() <= 0.1


def test_it_works_in_flax_bidirectional():
    layers = (lru.nnx.LRU(4, 6, rngs=nnx.Rngs(seed)) for seed in range(2))
    assert nnx.Bidirectional(*layers, rngs=nnx.Rngs(0))(U).shape == (3, 7, 8)


def test_one_line_replaces_a_gru_in_a_model():
    class Model(nnx.Module):
        def __init__(self, rnn, rngs):
            self.rnn, self.head = rnn, nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x, lengths):
            return self.head(self.rnn(x, seq_lengths=lengths, reverse=True, keep_order=True))

    rngs = nnx.Rngs(0)
    for rnn in (nnx.RNN(nnx.GRUCell(4, 4, rngs=rngs)), lru.nnx.LRU(4, 64, rngs=rngs)):
        assert Model(rnn, rngs)(U, LENGTHS).shape == (3, 7, 2)


def test_it_trains_inside_an_nnx_model():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.rnn = lru.nnx.LRU(4, 6, rngs=rngs)
            self.head = nnx.Linear(4, 1, rngs=rngs)

    model = Model(nnx.Rngs(0))
    loss, grads = nnx.jit(nnx.value_and_grad(lambda m: jnp.mean(m.head(m.rnn(U)) ** 2)))(model)
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(nnx.state(grads)["rnn"]))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_call_has_the_arguments_of_the_linen_layer(bidirectional):
    native = lru.nnx.LRU(4, 6, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    linen, variables = lru.LRU(6, bidirectional=bidirectional), {"params": native.parameters()}
    carry = jax.random.normal(jax.random.key(2), (3, 6), jnp.complex64)
    options = dict(
        initial_carry=(carry, 2 * carry) if bidirectional else carry,
        seq_lengths=LENGTHS, reset=jnp.zeros((7, 3), bool).at[1].set(True), return_carry=True,
        time_major=True, reverse=True, keep_order=True,
    )  # fmt: skip
    u = jnp.swapaxes(U, 0, 1)
    want = linen.apply(variables, u, **options)
    jax.tree.map(np.testing.assert_array_equal, native(u, **options), want)


def test_parameters_are_a_function_of_the_rngs_and_drawn_independently():
    one, same, other = (lru.nnx.LRU(4, 6, rngs=nnx.Rngs(s)).parameters() for s in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert all((one[name] != other[name]).any() for name in one)
    for letter in "BC":
        assert (one[f"{letter}_re"] != one[f"{letter}_im"]).any()
