"""Time sharded over devices: equal to one device, and no array of length T is communicated.

In the process that `test_several_devices.py` starts.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import lru
from lru.models import SequenceClassifier
from lru.nnx import LRU as NNXLRU
from lru.ops.recurrence import recur
from lru.ops.sharding import recur_sharded

pytestmark = pytest.mark.several_devices

B, T, H, N = 3, 16, 4, 6
LENGTHS = jnp.array([16, 3, 10])
DEVICES = [2, 8]


def use(devices, data=1):
    """Sets a mesh over that many devices, `data` of them for the batch."""
    shape, names = (data, devices // data), ("data", "time")
    mesh = jax.make_mesh(shape, names, (AxisType.Auto,) * 2, devices=jax.devices()[:devices])
    return jax.set_mesh(mesh)


def split(x, *axes):
    return jax.device_put(x, PartitionSpec(*axes))


def complex_normal(seed, *shape):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), jnp.complex64)


def assert_close(got, want, atol=1e-4):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol, rtol=1e-4), got, want)


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_reset", [False, True])
def test_the_recurrence_equals_one_device(devices, varying, reverse, with_reset):
    a = 0.4 * complex_normal(0, *((T, B, N) if varying else (1, 1, N)))
    x, h0 = complex_normal(1, T, B, N), complex_normal(2, 1, B, N)
    reset = jax.random.bernoulli(jax.random.key(3), 0.2, (T, B, 1)) if with_reset else None

    def value_and_gradient(solve):
        def loss(a, x, h0):
            h, last = solve(a, x, h0, reset, reverse, "sequential")
            return jnp.sum(h.real**2 + h.imag) + jnp.sum(last.imag**2), (h, last)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(a, x, h0)

    want = value_and_gradient(recur)
    with use(devices):
        assert_close(value_and_gradient(functools.partial(recur_sharded, axis="time")), want)


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("method", ["associative", "pallas"])
def test_every_method_can_compute_a_shard(devices, method):
    a, x = 0.4 * complex_normal(0, 1, 1, N), complex_normal(1, T, B, N)
    want = recur(a, x, None, None, False, "sequential")
    with use(devices):
        assert_close(recur_sharded(a, x, None, None, False, method, "time"), want)


@pytest.mark.parametrize("devices", DEVICES)
def test_nan_reaches_from_its_step_to_the_next_reset(devices):
    x, reset = jnp.ones((T, 1, 1)).at[1].set(jnp.nan), (jnp.arange(T) == 13)[:, None, None]
    with use(devices):
        h, _ = recur_sharded(jnp.full((1, 1, 1), 0.5), x, None, reset, False, "auto", "time")
    assert np.isnan(h[:, 0, 0]).tolist() == [1 <= t < 13 for t in range(T)]


FLAGS = {
    "forward": dict(bidirectional=False, reverse=False, keep_order=False),
    "in place": dict(bidirectional=False, reverse=True, keep_order=True),
    "reverse": dict(bidirectional=False, reverse=True, keep_order=False),
    "bidirectional": dict(bidirectional=True, reverse=False, keep_order=False),
}
# The number of devices, and how many of them shard the batch: every flag on the largest mesh, every
# mesh once. Flags act outside the recurrence, whose own test has all combinations above.
MESHES = [(8, 2, name) for name in FLAGS]
MESHES += [(2, 1, "forward"), (2, 2, "reverse"), (4, 1, "bidirectional"), (8, 1, "in place")]


@pytest.mark.parametrize(("devices", "data", "name"), MESHES)
def test_the_layer_equals_one_device(devices, data, name):
    flags = dict(FLAGS[name])
    make = functools.partial(lru.LRU, N, bidirectional=flags.pop("bidirectional"))
    batch = 2 * B  # must be divisible, too
    u = jax.random.normal(jax.random.key(0), (batch, T, H))
    reset = jax.random.bernoulli(jax.random.key(1), 0.1, (batch, T))
    lengths, start = jnp.tile(LENGTHS, 2), complex_normal(2, batch, N)
    start = (start, 2 * start) if make().bidirectional else start
    variables = jax.jit(make().init)(jax.random.key(0), u)

    def value_and_gradient(layer, u, reset):
        def loss(variables, u, start):
            carry, y = layer.apply(
                variables, u, seq_lengths=lengths, reset=reset, initial_carry=start,
                return_carry=True, **flags,
            )  # fmt: skip
            return sum(jnp.sum(jnp.abs(v) ** 2) for v in jax.tree.leaves((carry, y))), (carry, y)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(variables, u, start)

    want = value_and_gradient(make(), u, reset)
    with use(devices, data):
        u, reset = (split(v, "data", "time") for v in (u, reset))
        assert_close(value_and_gradient(make(sequence_axis="time"), u, reset), want, atol=1e-3)


@pytest.mark.parametrize(("devices", "data", "name"), MESHES[:4])
def test_the_layer_with_timesteps_equals_one_device(devices, data, name):
    flags = dict(FLAGS[name])
    make = functools.partial(lru.LRU, N, bidirectional=flags.pop("bidirectional"))
    u = jax.random.normal(jax.random.key(0), (2 * B, T, H))
    timesteps = jnp.exp(jax.random.normal(jax.random.key(1), (2 * B, T)))
    variables = jax.jit(make().init)(jax.random.key(0), u)

    def value_and_gradient(layer, u, timesteps):
        def loss(variables, u, timesteps):
            options = dict(seq_lengths=jnp.tile(LENGTHS, 2), timesteps=timesteps, **flags)
            carry, y = layer.apply(variables, u, return_carry=True, **options)
            return sum(jnp.sum(jnp.abs(v) ** 2) for v in jax.tree.leaves((carry, y))), (carry, y)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(variables, u, timesteps)

    want = value_and_gradient(make(), u, timesteps)
    with use(devices, data):
        u, timesteps = (split(v, "data", "time") for v in (u, timesteps))
        got = value_and_gradient(make(sequence_axis="time"), u, timesteps)
        assert_close(got, want, atol=1e-3)


def test_the_nnx_layer_equals_one_device():
    from flax import nnx

    u = jax.random.normal(jax.random.key(0), (B, T, H))
    one, many = (NNXLRU(H, N, sequence_axis=axis, rngs=nnx.Rngs(0)) for axis in (None, "time"))
    with use(4):
        assert_close(many(split(u, None, "time")), one(u))


@pytest.mark.parametrize(("devices", "pooling"), [(2, "mean"), (8, "mean"), (8, "last")])
def test_a_model_in_training_equals_one_device(devices, pooling):
    tokens, labels = jax.random.randint(jax.random.key(0), (B, T), 0, 9), jnp.arange(B)

    def model(axis):
        mixer = functools.partial(lru.LRU, N, sequence_axis=axis)
        return SequenceClassifier(5, H, 2, mixer, vocab_size=9, pooling=pooling)

    variables = jax.jit(model(None).init)(jax.random.key(1), tokens)

    def step(model, variables, tokens):
        def loss(params):
            logits, updated = model.apply(
                variables | {"params": params}, tokens, seq_lengths=LENGTHS, train=True,
                mutable=["batch_stats"],
            )  # fmt: skip
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
            return -chosen.mean(), updated

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    want = jax.jit(functools.partial(step, model(None)))(variables, tokens)
    with use(devices):
        tokens = split(tokens, None, "time")
        assert_close(jax.jit(functools.partial(step, model("time")))(variables, tokens), want)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("devices", DEVICES)
def test_each_device_holds_only_its_shard_of_time(devices, uneven):
    time, flags = 2048, dict(bidirectional=True)
    u, lengths = jnp.ones((B, time, H)), jnp.array([time, 5, 1300])
    reset, timesteps = jnp.zeros((B, time), bool), jnp.ones((B, time)) if uneven else None
    variables = jax.jit(lru.LRU(N, **flags).init)(jax.random.key(0), u)

    def compiled(layer, u, reset, timesteps):
        def loss(variables, u, timesteps):
            options = dict(seq_lengths=lengths, reset=reset, timesteps=timesteps)
            carry, y = layer.apply(variables, u, return_carry=True, **options)
            return jnp.sum(y**2) + jnp.sum(jnp.abs(carry[0]))

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        return gradient.lower(variables, u, timesteps).compile()

    def memory(program):
        m = program.memory_analysis()
        return m.temp_size_in_bytes + m.argument_size_in_bytes + m.output_size_in_bytes

    one = memory(compiled(lru.LRU(N, **flags), u, reset, timesteps))
    with use(devices):
        u, reset, timesteps = (
            v if v is None else split(v, None, "time") for v in (u, reset, timesteps)
        )
        program = compiled(lru.LRU(N, sequence_axis="time", **flags), u, reset, timesteps)
    assert memory(program) < 1.5 * one / devices
    results = re.findall(r"= (.*?) all-(?:gather|reduce|to-all)(?:-start)?\(", program.as_text())
    numbers = [shape for shape in results if "pred" not in shape]  # resets may travel
    assert numbers != []
    assert [shape for shape in numbers if re.search(rf"\b{time}\b", shape)] == []


def test_invalid_arguments_raise():
    layer, u = lru.LRU(N, sequence_axis="time"), jnp.ones((B, T, H))
    variables = jax.jit(lru.LRU(N).init)(jax.random.key(0), u)
    with pytest.raises(ValueError, match="expected a mesh with that axis, set by jax.set_mesh"):
        layer.apply(variables, u)
    with use(2):
        with pytest.raises(ValueError, match="'steps', but the mesh has the axes .*'time'"):
            lru.LRU(N, sequence_axis="steps").apply(variables, u)
        with pytest.raises(ValueError, match="T = 15 steps cannot be divided among the 2 devices"):
            layer.apply(variables, u[:, :15])
