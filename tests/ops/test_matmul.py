import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lru.ops.matmul import by_rows, matmul


def _gradient(x, w, ct):
    return jax.vjp(lambda x, w: matmul(x, w, jnp.float32), x, w)[1](ct)


@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (5, 2, 3)])
def test_values_and_gradients_at_every_rank(shape):
    random = np.random.default_rng(0)
    x, w, ct = (random.normal(size=s) for s in ((*shape, 4), (4, 6), (*shape, 6)))
    arrays = [jnp.asarray(v, jnp.float32) for v in (x, w, ct)]
    np.testing.assert_allclose(matmul(*arrays[:2], jnp.float32), x @ w, rtol=1e-5, atol=1e-5)
    dx, dw = _gradient(*arrays)
    np.testing.assert_allclose(dx, ct @ w.T, rtol=1e-5, atol=1e-5)
    want = np.einsum("rk,rm->km", x.reshape(-1, 4), ct.reshape(-1, 6))
    np.testing.assert_allclose(dw, want, rtol=1e-5, atol=1e-5)


def test_low_precision_is_summed_in_float32():
    x, w = jnp.ones((2, 2, 4096)), jnp.ones((4096, 1))
    y = matmul(x, w, jnp.bfloat16)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, 4096)


def test_the_gradient_of_a_matrix_needs_no_transpose():
    x, w, ct = jnp.ones((256, 4, 32)), jnp.ones((32, 64)), jnp.ones((256, 4, 64))
    program = jax.jit(lambda *a: _gradient(*a)[1]).lower(x, w, ct).compile().as_text()
    assert " dot(" in program
    assert "transpose(%" not in program and " copy(" not in program


@pytest.mark.parametrize(("devices", "axes"), [(1, 2), (2, 3)])
def test_time_and_batch_are_one_axis_on_a_single_device_only(devices, axes, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    seen = []
    y = by_rows(lambda x: (seen.append(x.ndim), x[..., :3])[1], jnp.ones((5, 2, 4)))
    assert seen == [axes] and y.shape == (5, 2, 3)


@pytest.mark.several_devices
def test_a_batch_stays_sharded_over_devices():
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    x, w, ct = jnp.ones((16, 4, 3)), jnp.ones((3, 5)), jnp.ones((16, 4, 5))
    compiled = jax.jit(_gradient, in_shardings=(split, None, split)).lower(x, w, ct).compile()
    assert "all-reduce" in compiled.as_text()  # of the matrix' gradient
    assert "all-gather" not in compiled.as_text()
