"""Laws of blocks and models whose mixers take the durations of steps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lru
import lru.nnx
from lru.lattice import Lattice
from lru.models import LanguageModel, SequenceClassifier, SequenceMatcher
from lru.models.blocks import ResidualBlock, ResidualStack
from lru.models.streaming import stream

B, T, H, V = 3, 8, 4, 9
LENGTHS = jnp.array([8, 3, 5])
VALID = jnp.arange(T) < LENGTHS[:, None]
MIXER = functools.partial(lru.LRU, 6)
X = jax.random.normal(jax.random.key(0), (B, T, H))
DT = jnp.exp(jax.random.normal(jax.random.key(1), (B, T)))
TOKENS = jax.random.randint(jax.random.key(2), (B, T), 0, V)
OPTIONS = dict(d_model=H, num_layers=2, mixer=MIXER)
MODELS = {
    "block": (ResidualBlock(MIXER, norm="layer"), X),
    "stack": (ResidualStack(2, ResidualBlock(MIXER, norm="layer")), X),
    "classifier": (SequenceClassifier(5, vocab_size=V, **OPTIONS), TOKENS),
    "features": (SequenceClassifier(5, norm="layer", pooling="last", **OPTIONS), X),
    "language": (LanguageModel(V, **OPTIONS), TOKENS),
    "language, one layer": (LanguageModel(V, H, stack=lru.LRU(6)), TOKENS),
}


@pytest.fixture(params=MODELS)
def pair(request):
    return MODELS[request.param]


@functools.cache
def init(model):
    (inputs,) = (x for other, x in MODELS.values() if other is model)
    return jax.jit(model.init)(jax.random.key(3), inputs)


def assert_close(got, want, atol=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol, rtol=1e-4), got, want)


def test_ones_change_nothing_and_other_durations_change_the_outputs(pair):
    model, inputs = pair
    apply = jax.jit(model.apply)
    want = apply(init(model), inputs)
    assert_close(apply(init(model), inputs, timesteps=jnp.ones((B, T))), want)
    assert abs(apply(init(model), inputs, timesteps=DT) - want).max() > 1e-3


def test_a_block_passes_timesteps_to_its_mixer():
    block, mixer = MODELS["block"][0], MIXER()
    variables = init(block)
    alone = {"params": variables["params"]["mixer"]}

    class Given(nn.Module):
        """Returns what the mixer of the block returns for these timesteps."""

        @nn.compact
        def __call__(self, u, *, return_carry, time_major, **_):
            options = dict(timesteps=DT.T, time_major=time_major, return_carry=return_carry)
            return mixer.apply(alone, u, **options)

    want = ResidualBlock(Given, norm="layer").apply(variables, X, return_carry=True)
    assert_close(block.apply(variables, X, timesteps=DT, return_carry=True), want)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_rematerialisation_changes_neither_values_nor_gradients(bidirectional):
    mixer = functools.partial(MIXER, bidirectional=bidirectional, chunk_size=2)
    make = functools.partial(ResidualBlock, mixer, norm="layer", chunk_size=3)
    variables = jax.jit(make().init)(jax.random.key(0), X)

    def loss(variables, x, timesteps, remat):
        options = dict(seq_lengths=LENGTHS, timesteps=timesteps, return_carry=True)
        carry, y = make(remat=remat).apply(variables, x, **options)
        return jnp.sum(y**2), (carry, y)

    gradient = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    plain, remat = (jax.jit(gradient, static_argnums=3)(variables, X, DT, r) for r in (False, True))
    assert_close(remat, plain)


def test_timesteps_on_padding_change_nothing(pair):
    model, inputs = pair

    def loss(variables, timesteps):
        options = dict(seq_lengths=LENGTHS, timesteps=timesteps, return_carry=True)
        carry, y = model.apply(variables, inputs, **options)
        return jnp.sum(jnp.where(VALID[..., None], y, 0) ** 2 if y.ndim == 3 else y**2), carry

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    want = gradient(init(model), DT)
    got = gradient(init(model), jnp.where(VALID, DT, jnp.nan))
    assert_close(got, want)
    assert not jnp.where(VALID, 0, got[1][1]).any() and got[1][1].any()


def test_a_stream_equals_the_whole_sequence(pair):
    model, inputs = pair
    if not getattr(model, "causal", False):
        pytest.skip("only a causal model can be streamed")
    want = jax.jit(model.apply)(init(model), inputs, timesteps=DT)
    step, carry = stream(model, init(model), inputs[:, :1])
    outputs = []
    for k in range(T):
        carry, y = step(carry, inputs[:, k : k + 1], DT[:, k : k + 1])
        outputs.append(y)
    assert_close(outputs[-1] if want.ndim == 2 else jnp.concatenate(outputs, 1), want)


def test_each_sequence_of_a_pair_has_its_own_timesteps():
    model = SequenceMatcher(2, vocab_size=V, norm="layer", **OPTIONS)
    tokens, timesteps = jnp.stack([TOKENS, TOKENS], 1), jnp.stack([DT, 1 / DT], 1)
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    got = model.apply(variables, tokens, timesteps=timesteps)
    swapped = model.apply(variables, tokens[:, ::-1], timesteps=timesteps[:, ::-1])
    ones = jnp.ones_like(timesteps)
    assert_close(model.apply(variables, tokens, timesteps=ones), model.apply(variables, tokens))
    assert abs(got - swapped).max() > 1e-4  # o0 - o1 changes its sign
    for row in (slice(0, 1), slice(1, 3)):
        assert_close(model.apply(variables, tokens[row], timesteps=timesteps[row]), got[row])


def test_the_nnx_models_equal_those_of_linen():
    native = lru.nnx.SequenceClassifier(5, H, 2, MIXER(), vocab_size=V, rngs=nnx.Rngs(0))
    block = lru.nnx.ResidualBlock(H, MIXER(), norm="layer", rngs=nnx.Rngs(0))
    language = lru.nnx.LanguageModel(V, H, mixer=MIXER(), num_layers=2, rngs=nnx.Rngs(0))
    for module, name in [(native, "classifier"), (block, "block"), (language, "language")]:
        model, inputs = MODELS[name]
        for tree in init(model).values():
            nnx.update(module, tree)
        want = model.apply(init(model), inputs, timesteps=DT, seq_lengths=LENGTHS)
        assert_close(module(inputs, timesteps=DT, seq_lengths=LENGTHS), want)


def test_a_deep_model_learns_from_timesteps_alone():
    """The values are equal in both classes, which differ only in the order of the gaps."""
    model = SequenceClassifier(2, 8, 2, functools.partial(lru.LRU, 8, max_phase=1.0), norm="layer")
    inputs, labels = jnp.ones((2, T, 1)), jnp.arange(2)
    gaps = jnp.linspace(0.2, 2.0, T)
    timesteps = jnp.stack([gaps, gaps[::-1]])
    params = jax.jit(model.init)(jax.random.key(0), inputs)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply(params, inputs, timesteps=timesteps)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for _ in range(60):
        params, state, value = step(params, state)
    assert value < 0.1


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_timesteps_raise(pair):
    model, inputs = pair
    for timesteps, words in [
        (jnp.ones((B, T), int), "timesteps have dtype int32; expected real floating-point numbers"),
        (jnp.ones(T), r"timesteps have shape \(8,\); expected \(3, 8\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.apply(init(model), inputs, timesteps=timesteps)


def test_a_stack_that_takes_no_timesteps_raises():
    model = LanguageModel(V, H, stack=Lattice(H, 2))
    with pytest.raises(
        ValueError, match="timesteps are given to a layer that does not support them"
    ):
        model.init(jax.random.key(0), TOKENS, timesteps=DT)
