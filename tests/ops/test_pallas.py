"""Laws of the interpreted GPU kernel: chunks, blocks and types that its callers do not see.

`test_recurrence.py` compares it with the float64 loop; here it is compared with the scan.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

import lru
from lru.ops import pallas

METHODS = ("pallas", "sequential")


def draw(batch, time, width, varying=False, seed=0):
    """Draws a, x, h0 and reset."""
    rng = np.random.default_rng(seed)
    factors = (*batch, time, width) if varying else (width,)
    a = rng.uniform(0.8, 1.0, factors) * np.exp(1j * rng.uniform(0, 2 * np.pi, factors))
    x, h0 = (
        rng.normal(size=shape) + 1j * rng.normal(size=shape)
        for shape in ((*batch, time, width), (*batch, width))
    )
    reset = jnp.asarray(rng.random((*batch, time)) < 2 / time)
    return *(jnp.asarray(v, jnp.complex64) for v in (a, x, h0)), reset


def value_and_gradient(method, a, x, h0, reset=None, reverse=False):
    def loss(a, x, h0):
        h, last = lru.linear_recurrence(a, x, h0, reset=reset, reverse=reverse, method=method)
        return jnp.sum(jnp.sin(h).real) + jnp.sum(last).imag, h

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(a, x, h0)


def assert_close(got, want, atol=1e-4):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol, rtol=1e-4), got, want)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("shape", [((2,), 64, 3), ((2, 3), 101, 50)], ids=str)
def test_chunks_and_blocks_equal_the_scan(shape, varying, reverse):
    assert pallas.plan(shape[1], 6 * shape[2]).chunks > 1
    a, x, h0, reset = draw(*shape, varying)
    got, want = (value_and_gradient(m, a, x, h0, reset, reverse) for m in METHODS)
    assert_close(got, want)


@pytest.mark.parametrize("with_reset", [False, True])
def test_chunks_of_chunks_equal_the_scan(with_reset, monkeypatch):
    monkeypatch.setattr(pallas, "MIN_CHUNK", pallas.MIN_UNROLL)
    a, x, h0, reset = draw((2,), 299, 3)
    reset = reset if with_reset else None
    assert_close(*(value_and_gradient(m, a, x, h0, reset) for m in METHODS))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_reset", [False, True])
def test_one_pass_equals_the_scan(with_reset, reverse, monkeypatch):
    monkeypatch.setattr(pallas, "IN_FLIGHT", 1)
    assert pallas.plan(97, 3 * 50).chunks == 1
    a, x, h0, reset = draw((3,), 97, 50)
    reset = reset if with_reset else None
    assert_close(*(value_and_gradient(m, a, x, h0, reset, reverse) for m in METHODS))


@pytest.mark.parametrize(
    ("time", "batch", "modes"),
    [(2048, 32, 256), (4096, 32, 192), (1024, 50, 384), (4000, 128, 256), (16384, 32, 256)],
)
def test_the_long_range_arena_is_read_once(time, batch, modes):
    planned = pallas.plan(time, batch * modes)
    assert planned.chunks == 1
    assert planned.steps >= time and planned.steps % planned.unroll == 0
    assert 2 * planned.unroll <= pallas.LOADED


@pytest.mark.parametrize("real", [False, True])
def test_auto_on_the_cpu_beside_a_gpu_is_the_scan(real, monkeypatch):
    monkeypatch.setattr("lru.ops.platform.kernel_compiles", lambda: True)
    monkeypatch.setattr("lru.ops.platform.is_cpu", lambda: False)
    a, x, h0, reset = draw((2,), 21, 3)
    if real:
        a, x, h0 = (v.real for v in (a, x, h0))
    got, want = (value_and_gradient(m, a, x, h0, reset) for m in ("auto", "sequential"))
    np.testing.assert_array_equal(got[1], want[1])
    assert_close(got, want)


def test_nan_passes_through_a_chunk_whose_factors_underflow():
    x = jnp.ones((200, 1)).at[5].set(jnp.nan)  # 0.001 ** 32 is 0 in float32
    h, _ = lru.linear_recurrence(
        jnp.array([1e-3]), x, reset=jnp.arange(200) == 150, method="pallas"
    )
    assert np.isnan(h[:, 0]).tolist() == [5 <= t < 150 for t in range(200)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.complex128])
def test_every_type_keeps_its_precision(dtype):
    with jax.enable_x64(True):
        a, x, h0, reset = draw((2,), 70, 3)
        parts = [(v if dtype == jnp.complex128 else v.real).astype(dtype) for v in (a, x, h0)]
        got, want = (lru.linear_recurrence(*parts, reset=reset, method=m)[0] for m in METHODS)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=100 * jnp.finfo(dtype).eps)


def test_vmap_remat_and_second_derivatives_work():
    a, x, h0, _ = draw((3,), 40, 2)

    def loss(method, scale, x):
        run = functools.partial(lru.linear_recurrence, method=method)
        return jnp.sum(jnp.sin(jax.checkpoint(run)(a * scale, x, h0[0])[0]).real)

    def curvature(method):  # forward over reverse, of each sequence
        slope = jax.grad(functools.partial(loss, method))
        return jax.jit(jax.vmap(jax.jacfwd(slope), in_axes=(None, 0)))(1.0, x)

    assert_close(curvature("pallas"), curvature("sequential"), atol=1e-2)

    def reverse_twice(method):
        return jax.jit(jax.grad(jax.grad(functools.partial(loss, method))))(1.0, x)

    assert_close(reverse_twice("pallas"), reverse_twice("sequential"), atol=1e-1)


@pytest.fixture
def h100():
    """Sets the GPU to lower for, which Triton's lowering requires since JAX 0.11."""
    if jax.__version_info__ < (0, 11):
        yield
        return
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


# Kernels of value and gradient, where the batch of 4 is not enough to read x once.
SIZES = [(1, 5, 2), (1, 256, 2), (1000, 192, 6), (1000, 256, 6), (999, 384, 6)]


@pytest.mark.usefixtures("h100")
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("time", "width", "kernels", "with_reset"),
    [(*size, True) for size in SIZES] + [(*SIZES[0], False), (*SIZES[-1], False)],
)
def test_value_and_gradient_lower_for_cuda(time, width, kernels, with_reset):
    def loss(a, x, reset):
        h, _ = lru.linear_recurrence(a, x, reset=reset if with_reset else None, method="pallas")
        return jnp.sum(h.real**2)

    shapes = [((width,), jnp.complex64), ((4, time, width), jnp.complex64), ((4, time), bool)]
    calls, text = lowered(jax.grad(loss, argnums=(0, 1)), shapes)
    assert len(calls) == kernels
    assert f"tensor<1x{2 * width}xf32>" in calls[0]  # constant factors are not copied over time
    assert "while" not in text  # nothing is interpreted


def lowered(function, shapes):
    """Returns the calls of the kernel, and the whole program, lowered for CUDA."""
    traced = jax.jit(function).trace(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    lines = text.splitlines()
    return [line for line in lines if "custom_call" in line and "triton" in line], text


@pytest.mark.usefixtures("h100")
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_a_layer_has_no_complex_arrays_along_time():
    layer, u = lru.LRU(192, method="pallas", chunk_size=0), ((64, 32, 128), jnp.float32)
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones(u[0]))
    tree = jax.tree.structure(variables)

    def loss(u, *leaves):
        return jnp.sum(layer.apply(tree.unflatten(leaves), u, time_major=True) ** 2)

    leaves = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(variables)]
    calls, _ = lowered(loss, [u, *leaves])
    assert len(calls) == 1  # x is read once, as the input product wrote it
    assert "tensor<64x12288xf32>" in calls[0]
    _, text = lowered(loss, [u, *leaves])
    assert "tensor<64x32x192xcomplex<f32>>" not in text
    assert "dynamic_update_slice" not in text and "scatter" not in text


def test_a_bfloat16_layer_stores_bfloat16_and_sums_in_float32():
    u = jnp.ones((2, 300, 4), jnp.bfloat16)
    layers = [lru.LRU(3, r_min=0.99, r_max=0.999, method=m, dtype=jnp.bfloat16) for m in METHODS]
    variables = layers[0].init(jax.random.key(0), u)

    def loss(layer, variables):
        y = layer.apply(variables, u)
        return jnp.sum(y.astype(jnp.float32) ** 2) / y.size, y

    (got, dgot), (want, dwant) = (
        (jax.jit(functools.partial(loss, layer))(variables)[1],
         jax.jit(jax.grad(functools.partial(loss, layer), has_aux=True))(variables)[0])
        for layer in layers
    )  # fmt: skip
    np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0.05, atol=0.05)
    for g, w in zip(jax.tree.leaves(dgot), jax.tree.leaves(dwant)):
        np.testing.assert_allclose(g, w, rtol=0.1, atol=0.05 * float(jnp.abs(w).max()))
    jaxpr = str(jax.make_jaxpr(functools.partial(layers[0].apply, variables))(u))
    assert "bf16[300,12]" in jaxpr  # x and h in memory: T by B times 2N
