"""Laws of a batch divided among devices: the kernel computes each sequence where it is.

In the process that `test_several_devices.py` starts.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lru
from lru.ops.partition import divide_batch

pytestmark = pytest.mark.several_devices

B, T, H, N = 4, 33, 5, 6
KERNEL, SCAN = (lru.LRU(N, r_min=0.9, r_max=0.99, method=m) for m in ("pallas", "sequential"))
RESET = jnp.arange(T) % 9 == jnp.arange(B)[:, None]


@functools.cache
def case():
    u = jax.random.normal(jax.random.key(0), (B, T, H))
    return jax.jit(KERNEL.init)(jax.random.key(1), u), u


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((2,), ("data",), axis_types=(kind,), devices=jax.devices()[:2])


def shard(u, kind=AxisType.Auto):
    return jax.device_put(u, NamedSharding(mesh(kind), P("data")))


def gradient(layer, reset=None, vmap=False):
    def loss(variables, u):
        return jnp.sum(jnp.sin(layer.apply(variables, u, reset=reset)))

    grad = jax.grad(loss, argnums=(0, 1))
    return jax.jit(jax.vmap(grad, in_axes=(None, 0)) if vmap else grad)


def assert_close(got, want):
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=1e-4), got, want)


@pytest.mark.parametrize("reset", [None, RESET], ids=["plain", "reset"])
def test_a_sharded_batch_is_not_gathered(reset):
    variables, u = case()
    run = gradient(KERNEL, reset)
    program = run.lower(variables, shard(u)).compile().as_text()
    assert not re.search(r"all-gather|all-to-all|collective-permute", program)
    assert f"f32[{T},{B // 2},{2 * N}]" in program and f"f32[{T},{B},{2 * N}]" not in program
    assert_close(run(variables, shard(u)), gradient(SCAN, reset)(variables, u))


def test_vmap_of_a_sharded_batch_equals_the_scan():
    variables, u = case()
    got = gradient(KERNEL, vmap=True)(variables, shard(u))
    assert_close(got, gradient(SCAN, vmap=True)(variables, u))


def test_explicit_axes_and_shard_map_work():
    variables, u = case()
    want = SCAN.apply(variables, u)
    with jax.set_mesh(mesh(AxisType.Explicit)):
        got = jax.jit(KERNEL.apply)(variables, shard(u, AxisType.Explicit))
    assert got.sharding.spec[0] == "data"
    assert_close(got, want)
    run = functools.partial(KERNEL.apply, variables)
    specs = dict(in_specs=P("data"), out_specs=P("data"))
    assert_close(jax.jit(jax.shard_map(run, mesh=mesh(), check_vma=False, **specs))(u), want)


@pytest.mark.parametrize("steps", [33, 600])
def test_vmap_of_some_arguments_equals_the_scan(steps):
    a = 0.9 * jnp.exp(1j * jnp.arange(3.0))
    x = jax.random.normal(jax.random.key(0), (5, 2, steps, 3)) + 0j
    h0 = jnp.ones((2, 3)) * 1j

    def states(method):
        run = functools.partial(lru.linear_recurrence, method=method)
        return jax.vmap(lambda x: run(a, x, h0)[0])(x)

    def slopes(method):
        run = functools.partial(lru.linear_recurrence, method=method)
        return jax.jacrev(lambda scale: run(a * scale, x[0], h0)[1].real)(1.0)

    assert_close(states("pallas"), states("sequential"))
    assert_close(slopes("pallas"), slopes("sequential"))


def test_vmap_over_another_argument_repeats_the_first():
    def function(x, a):
        return (x * a,)

    x, a = jnp.ones((3, B, 2)), jnp.arange(1.0, 6)[:, None, None, None]
    got = jax.vmap(lambda a: divide_batch(function, x, a)[0])(a)
    np.testing.assert_array_equal(got, x * a)
