"""Laws of every task's model, built from its config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.training.build import build
from lru.training.config import load_config

TASKS = ["cifar", "listops", "text", "retrieval", "pathfinder", "pathx"]
B, T = 3, 20
LENGTHS = np.array([20, 3, 11])


@functools.cache
def task(name):
    """Returns `(create, variables, inputs, seq_lengths)`, with some sequences shorter than T."""
    config = load_config(f"configs/lra_{name}.py:smoke")
    dataset = config.data.type
    create = build(config.model, "config.model", later=("num_classes", "vocab_size"))
    rng = np.random.default_rng(0)
    if name in ("listops", "text", "retrieval"):
        shape, vocab_size = (B, 2, T) if name == "retrieval" else (B, T), 12
        inputs = rng.integers(1, vocab_size, shape)
        lengths = np.stack([LENGTHS, LENGTHS[::-1]], 1) if name == "retrieval" else LENGTHS
    else:
        features, vocab_size = 3 if "cifar" in dataset else 1, None
        inputs, lengths = rng.normal(size=(B, T, features)).astype(np.float32), LENGTHS
    create = functools.partial(create, num_classes=5, vocab_size=vocab_size)
    model = create()
    variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(inputs))
    # Running statistics as after some training, so that they have an effect.
    noisy = {"batch_stats": jax.tree.map(lambda v: v + 0.3, variables["batch_stats"])}
    return create, variables | noisy, jnp.asarray(inputs), jnp.asarray(lengths)


@functools.cache
def call(model):
    return jax.jit(model.apply, static_argnames="return_carry")


def logits(model, variables, inputs, lengths):
    return call(model)(variables, inputs, seq_lengths=lengths)


def time_axis(inputs):
    """Returns the axis of time: the one before the features, or the last."""
    return inputs.ndim - (2 if jnp.issubdtype(inputs.dtype, jnp.floating) else 1)


def chunk(inputs, start, end):
    return jax.lax.slice_in_dim(inputs, start, end, axis=time_axis(inputs))


def padded_to(inputs, length, fill):
    axis = time_axis(inputs)
    widths = [(0, 0)] * inputs.ndim
    widths[axis] = (0, length - inputs.shape[axis])
    return jnp.pad(inputs, widths, constant_values=fill)


@pytest.mark.parametrize("name", TASKS)
def test_padding_changes_no_logit(name):
    create, variables, inputs, lengths = task(name)
    want = logits(create(), variables, inputs, lengths)
    for fill in (0, 7):
        longer = padded_to(inputs, T + 6, fill)
        np.testing.assert_allclose(
            logits(create(), variables, longer, lengths), want, atol=1e-5, rtol=1e-5
        )
    if name != "retrieval":  # the shortest sequence alone, without its padding
        alone = logits(create(), variables, inputs[1:2, :3], None)
        np.testing.assert_allclose(alone[0], want[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_order_of_the_batch_changes_no_logit(name):
    create, variables, inputs, lengths = task(name)
    want = logits(create(), variables, inputs, lengths)
    order = jnp.array([2, 0, 1])
    got = logits(create(), variables, inputs[order], lengths[order])
    np.testing.assert_allclose(got, want[order], atol=1e-5, rtol=1e-5)
    assert np.abs(want[0] - want[1]).max() > 1e-3


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("chunk_size", [1, 7])
def test_chunks_change_no_logit(name, chunk_size):
    create, variables, inputs, lengths = task(name)
    mixer = functools.partial(create.keywords["mixer"], chunk_size=chunk_size)
    chunked = create(remat=True, chunk_size=chunk_size, mixer=mixer)
    np.testing.assert_allclose(
        logits(chunked, variables, inputs, lengths),
        logits(create(), variables, inputs, lengths),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["cifar", "listops", "text", "retrieval"])
def test_a_stream_in_chunks_changes_no_logit(name):
    create, variables, inputs, lengths = task(name)
    model, carry = create(), None
    for start, end in ((0, 4), (4, 13), (13, T)):
        valid = jnp.clip(lengths - start, 0, end - start)
        carry, got = call(model)(
            variables, chunk(inputs, start, end), seq_lengths=valid, initial_carry=carry,
            return_carry=True,
        )  # fmt: skip
    np.testing.assert_allclose(got, logits(model, variables, inputs, lengths), atol=1e-5, rtol=1e-5)
