"""Laws of the embedding, whose gradient is a product with one-hot vectors on a GPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.models.embedding import SMALL_VOCABULARY, Embedding

TOKENS = jnp.array([[1, 1, 4, 0], [4, 1, 2, 4]])


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: request.param)
    return request.param


def loss(layer, variables, tokens):
    y = layer.apply(variables, tokens)
    return jnp.sum(y**3), y


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_value_and_gradient_equal_those_of_flax(backend, dtype):
    ours, flax = (kind(5, 3, dtype=dtype) for kind in (Embedding, nn.Embed))
    variables = ours.init(jax.random.key(0), TOKENS)
    drawn = flax.init(jax.random.key(0), TOKENS)
    jax.tree.map(np.testing.assert_array_equal, variables, drawn)
    gradient = jax.grad(loss, argnums=1, has_aux=True)
    (got, y), (want, z) = (gradient(layer, variables, TOKENS) for layer in (ours, flax))
    np.testing.assert_array_equal(y, z)
    tolerance = 1e-6 if dtype is None else 0.02
    got, want = (jax.tree.leaves(tree)[0] for tree in (got, want))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    assert not got[3].any()  # a token that does not occur


def test_forward_mode_agrees_with_reverse_mode(backend):
    layer = Embedding(5, 3)
    variables = layer.init(jax.random.key(0), TOKENS)

    def scaled(scale):
        return loss(layer, jax.tree.map(lambda v: scale * v, variables), TOKENS)[0]

    np.testing.assert_allclose(jax.jacfwd(scaled)(1.0), jax.grad(scaled)(1.0), rtol=1e-5)


@pytest.mark.parametrize("size", [5, SMALL_VOCABULARY + 1])
def test_only_a_small_table_on_a_gpu_has_no_scatter(backend, size):
    layer = Embedding(size, 3)
    variables = layer.init(jax.random.key(0), TOKENS)
    gradient = jax.grad(lambda variables: loss(layer, variables, TOKENS)[0])
    scatters = "scatter-add" in str(jax.make_jaxpr(gradient)(variables))
    assert scatters == (backend == "cpu" or size > SMALL_VOCABULARY)
