"""Laws of models with outputs for each sequence or for each step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.lattice import Lattice
from lru.models import SequenceClassifier, SequencePredictor, SequenceTagger
from lru.models.scaled import Scaled
from lru.models.streaming import export_step, stream

B, T, F, H, K = 3, 9, 2, 4, 5
X = jax.random.normal(jax.random.key(1), (B, T, F))
TOKENS = jax.random.randint(jax.random.key(2), (B, T), 0, 7)
LENGTHS = jnp.array([9, 2, 6])
VALID = jnp.arange(T) < LENGTHS[:, None]
SCALING = dict(inputs=((1.0, -2.0), (3.0, 0.5)), outputs=((10.0,) * K, (4.0,) * K))


@functools.cache
def tagger(bidirectional=False, tokens=False, norm="layer"):
    mixer = functools.partial(lru.LRU, 6, bidirectional=bidirectional)
    vocab_size = 7 if tokens else None
    model = SequenceTagger(K, H, 2, mixer, vocab_size=vocab_size, norm=norm)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS if tokens else X)
    return model, variables


def apply(model, variables, x, lengths=None):
    return jax.jit(functools.partial(model.apply, variables))(x, seq_lengths=lengths)


KINDS = [dict(), dict(bidirectional=True), dict(tokens=True), dict(norm="batch")]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_changes_no_output_and_has_outputs_of_zero(kind):
    model, variables = tagger(**kind)
    inputs = TOKENS if "tokens" in kind else X
    got = apply(model, variables, inputs, LENGTHS)
    assert got.shape == (B, T, K) and (got[~VALID] == 0).all() and (got[VALID] != 0).all()
    if "tokens" not in kind:
        dirty = jnp.where(VALID[..., None], X, jnp.nan)
        np.testing.assert_array_equal(apply(model, variables, dirty, LENGTHS), got)
    for row, length in enumerate(LENGTHS):
        alone = apply(model, variables, inputs[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], got[row, :length], atol=1e-5)


def test_padding_has_no_gradient():
    model, variables = tagger()

    def loss(x):
        return (model.apply(variables, x, seq_lengths=LENGTHS) ** 2).sum()

    slope = jax.jit(jax.grad(loss))(jnp.where(VALID[..., None], X, jnp.nan))
    assert (slope[~VALID] == 0).all() and (slope[VALID] != 0).any()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_causal_model_has_outputs_of_earlier_steps_alone(bidirectional):
    model, variables = tagger(bidirectional)
    changed = apply(model, variables, X.at[:, 5].add(1.0)) - apply(model, variables, X)
    before = jnp.abs(changed[:, :5]).max()
    assert (before > 1e-4) if bidirectional else (before == 0)
    assert jnp.abs(changed[:, 5:]).min() > 0 and model.causal is not bidirectional


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_streamed_outputs_are_those_of_the_whole_sequence(scaled, size):
    model, variables = tagger()
    model = Scaled(model, **SCALING) if scaled else model
    step, carry = stream(model, variables, X[:, :size])
    outputs = []
    for start in range(0, T, size):
        carry, y = step(carry, X[:, start : start + size])
        outputs.append(y)
    want = apply(model, variables, X)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), want, atol=1e-4)


def test_an_exported_step_is_in_the_units_of_the_data():
    model, variables = tagger()
    scaled = Scaled(model, **SCALING)
    program = export_step(scaled, variables, X[:1, :1])
    carry = tuple(jnp.zeros((B, *x.shape[1:]), x.dtype) for x in program.in_avals[:-1])
    _, y = program.call(carry, X[:, :1])
    np.testing.assert_allclose(y, apply(scaled, variables, X)[:, :1], atol=1e-4)


def test_resets_make_independent_sequences():
    model, variables = tagger()
    reset = jnp.zeros((B, T), bool).at[:, 4].set(True)
    got = jax.jit(lambda: model.apply(variables, X, reset=reset))()
    np.testing.assert_allclose(got[:, 4:], apply(model, variables, X[:, 4:]), atol=1e-5)


def test_a_classifier_is_the_predictor_of_a_sequence():
    mixer = functools.partial(lru.LRU, 6)
    for options in (dict(), dict(pooling="last")):
        one = SequenceClassifier(K, H, 2, mixer, **options)
        two = SequencePredictor(K, H, 2, mixer, norm="batch", **options)
        variables = jax.jit(one.init)(jax.random.key(0), X)
        same = jax.tree.map(jnp.array_equal, variables, jax.jit(two.init)(jax.random.key(0), X))
        assert all(jax.tree.leaves(same))
        np.testing.assert_array_equal(
            apply(one, variables, X, LENGTHS), apply(two, variables, X, LENGTHS)
        )


def test_the_mean_of_outputs_of_steps_is_the_output_of_the_sequence():
    """The head is linear, so it commutes with mean pooling over valid steps."""
    model, variables = tagger()
    of_steps = apply(model, variables, X, LENGTHS).sum(1) / LENGTHS[:, None]
    whole = apply(model.clone(per_step=False), variables, X, LENGTHS)
    np.testing.assert_allclose(of_steps, whole, atol=1e-5)
    last = apply(model.clone(per_step=False, pooling="last"), variables, X, LENGTHS)
    steps = apply(model, variables, X, LENGTHS)
    np.testing.assert_allclose(last, steps[jnp.arange(B), LENGTHS - 1], atol=1e-5)


def test_outputs_are_at_least_float32():
    model = tagger()[0].clone(dtype=jnp.bfloat16)
    assert apply(model, tagger()[1], X).dtype == jnp.float32


@pytest.mark.parametrize("inputs", [X[0], TOKENS])
def test_inputs_with_other_axes_raise(inputs):
    with pytest.raises(ValueError, match=r"expected \(B, T, features\)"):
        tagger()[0].apply(tagger()[1], inputs)


def test_a_number_of_outputs_below_one_raises():
    with pytest.raises(ValueError, match="num_outputs"):
        SequenceTagger(0, H, 1, functools.partial(lru.LRU, 6))


@pytest.mark.parametrize("per_step", [False, True])
def test_a_scaled_model_has_the_variables_of_the_model_and_undoes_the_scaling(per_step):
    model, variables = tagger()
    model = model.clone(per_step=per_step)
    scaled = Scaled(model, **SCALING)
    like = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert like(jax.jit(scaled.init)(jax.random.key(0), X)) == like(variables)
    (mean, std), (out_mean, out_std) = (np.array(pair) for pair in SCALING.values())
    want = apply(model, variables, (X - mean) / std, LENGTHS) * out_std + out_mean
    if per_step:
        want = jnp.where(VALID[..., None], want, 0)
    np.testing.assert_allclose(apply(scaled, variables, X, LENGTHS), want, rtol=1e-4, atol=1e-4)
    assert scaled.causal and not Scaled(tagger(True)[0]).causal


def test_a_mixer_of_lattice_cells_tags_too():
    model = SequenceTagger(K, H, 1, functools.partial(Lattice, H, 1))
    variables = jax.jit(model.init)(jax.random.key(0), X)
    assert apply(model, variables, X, LENGTHS).shape == (B, T, K)
