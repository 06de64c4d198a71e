"""Laws of a model streamed one step at a time."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.models import SequenceClassifier
from lru.models.streaming import stream

B, T, V, H = 3, 7, 11, 4
TOKENS = jax.random.randint(jax.random.key(2), (B, T), 0, V)
FEATURES = jax.random.normal(jax.random.key(3), (B, T, H))


@functools.cache
def classifier(**options):
    mixer = functools.partial(lru.LRU, 6)
    model = SequenceClassifier(5, d_model=H, num_layers=2, mixer=mixer, vocab_size=V, **options)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    if "batch_stats" in variables:  # replaced, because initial statistics have no effect
        stats = jax.tree.map(lambda v: v + jnp.linspace(0.5, 1, H), variables["batch_stats"])
        variables = variables | {"batch_stats": stats}
    return model, variables


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_each_step_gives_the_logits_of_all_steps_so_far(norm, pooling):
    model, variables = classifier(norm=norm, pooling=pooling)
    whole = jax.jit(lambda lengths: model.apply(variables, TOKENS, seq_lengths=lengths))
    step, carry = stream(model, variables, TOKENS[:, :1])
    for t in range(T):
        carry, logits = step(carry, TOKENS[:, t : t + 1])
        np.testing.assert_allclose(logits, whole(jnp.full(B, t + 1)), atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_streamed_outputs_of_a_layer_are_those_of_the_whole_sequence(size):
    layer = lru.LRU(6)
    variables = jax.jit(layer.init)(jax.random.key(0), FEATURES)
    want_carry, want = layer.apply(variables, FEATURES, return_carry=True)
    step, carry = stream(layer, variables, FEATURES[:, :size])
    outputs = []
    for start in range(0, T, size):
        carry, y = step(carry, FEATURES[:, start : start + size])
        outputs.append(y)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), want, atol=1e-5)
    np.testing.assert_allclose(carry, want_carry, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_any_number_of_steps_uses_one_program_and_one_carry_size(pooling, dtype):
    step, start = stream(*classifier(pooling=pooling, dtype=dtype), TOKENS[:, :1])
    carry = start
    for _ in range(50):
        carry, _ = step(carry, TOKENS[:, :1])
    assert step._cache_size() == 1
    like = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert like(carry) == like(start)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_each_sequence_of_a_batch_is_an_independent_stream():
    model, variables = classifier()
    together, carries = stream(model, variables, TOKENS[:, :1])
    alone, carry = stream(model, variables, TOKENS[1:2, :1])
    for t in range(T):
        carries, want = together(carries, TOKENS[:, t : t + 1])
        carry, logits = alone(carry, TOKENS[1:2, t : t + 1])
        np.testing.assert_allclose(logits[0], want[1], atol=1e-5)


def test_a_step_computes_no_function_of_the_parameters_alone():
    layer, u = lru.LRU(6), FEATURES[:, :1]
    variables = jax.jit(layer.init)(jax.random.key(0), u)
    step, carry = stream(layer, variables, u)
    plain = jax.jit(lambda variables: layer.apply(variables, u, initial_carry=carry))
    programs = [plain.lower(variables).compile(), step.lower(carry, u).compile()]
    assert ["exponential(" in program.as_text() for program in programs] == [True, False]


class Unknown(nn.Module):
    """A layer that does not declare whether it is causal."""

    @nn.compact
    def __call__(self, x, *, initial_carry=None, return_carry=False):
        return (initial_carry, x) if return_carry else x


@pytest.mark.parametrize(
    "model, message",
    [
        (lru.LRU(6, bidirectional=True), "LRU.causal is False"),
        (lru.LRU(6, sequence_axis="time"), "LRU.causal is False"),
        (SequenceClassifier(5, 4, 2, functools.partial(lru.LRU, 6, bidirectional=True)), "False"),
        (SequenceClassifier(5, 4, 2, Unknown), "SequenceClassifier.causal is False"),
        (Unknown(), "Unknown.causal is None"),
    ],
    ids=[
        "bidirectional",
        "time sharded",
        "bidirectional inside",
        "undeclared inside",
        "undeclared",
    ],
)
def test_streaming_a_model_not_declared_causal_raises(model, message):
    with pytest.raises(ValueError, match=f"{message}; expected True"):
        stream(model, {}, FEATURES)
