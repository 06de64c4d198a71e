"""The reference and the layer compute the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.layers.reference import AppendixA

B, T, H, N = 2, 7, 4, 6


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_appendix_a_equals_the_layer_in_value_and_gradient(bidirectional, time_major):
    u = jax.random.normal(jax.random.key(0), (T, B, H) if time_major else (B, T, H))
    layers = [Layer(N, bidirectional=bidirectional) for Layer in (AppendixA, lru.LRU)]
    variables = jax.jit(layers[1].init)(jax.random.key(1), u)

    def loss(layer, variables, u):
        carry, y = layer.apply(variables, u, return_carry=True, time_major=time_major)
        return jnp.sum(y**2) + sum(jnp.sum(jnp.abs(h) ** 2) for h in jax.tree.leaves(carry)), y

    gradient = jax.jit(jax.value_and_grad(loss, (1, 2), has_aux=True), static_argnums=0)
    want, got = (gradient(layer, variables, u) for layer in layers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)
    own = jax.jit(layers[0].init)(jax.random.key(1), u)
    jax.tree.map(np.testing.assert_array_equal, own, variables)
