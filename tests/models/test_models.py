"""Laws of whole models."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.baselines import GridLSTM
from lru.lattice import Lattice
from lru.models import LanguageModel, SequenceClassifier, SequenceMatcher
from lru.models.blocks import ResidualBlock
from lru.models.pooling import pool_mean
from lru.models.streaming import stream
from lru.ops.platform import sum_parts

B, T, V = 3, 8, 11
LENGTHS = jnp.array([8, 3, 5])


@functools.cache
def make(**options):
    mixer = functools.partial(lru.LRU, 6, bidirectional=options.pop("bidirectional", False))
    options = {"vocab_size": V} | options
    model = SequenceClassifier(5, d_model=4, num_layers=2, mixer=mixer, **options)
    return model, jax.jit(model.init)(jax.random.key(0), tokens(options["vocab_size"]))


def tokens(vocab_size=V):
    if vocab_size is None:
        return jax.random.normal(jax.random.key(2), (B, T, 3))
    return jax.random.randint(jax.random.key(2), (B, T), 0, vocab_size)


@functools.cache
def call(model):
    return jax.jit(model.apply, static_argnames=("return_carry", "train"))


@pytest.mark.parametrize(
    ("pooling", "bidirectional", "vocab_size"),
    [("mean", True, V), ("mean", False, None), ("last", False, V), ("last", True, None)],
)
def test_padding_changes_no_logit(pooling, bidirectional, vocab_size):
    model, variables = make(pooling=pooling, bidirectional=bidirectional, vocab_size=vocab_size)
    x = tokens(vocab_size)
    logits = call(model)(variables, x, seq_lengths=LENGTHS)
    for row, length in [(1, 3), (2, 5)]:
        alone = call(model)(variables, x[row : row + 1, :length])
        np.testing.assert_allclose(logits[row], alone[0], atol=1e-5)


def test_mean_pooling_is_over_valid_steps_only():
    model, variables = make(norm="layer")
    x = tokens().at[1, 3:].set(0)
    short = call(model)(variables, x, seq_lengths=LENGTHS)
    longer = call(model)(variables, jnp.pad(x, ((0, 0), (0, 20))), seq_lengths=LENGTHS)
    np.testing.assert_allclose(longer, short, atol=1e-5)
    assert abs(call(model)(variables, x)[1] - short[1]).max() > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("cuts", [[1, 6], list(range(1, T))], ids=str)
def test_streaming_gives_the_logits_of_all_steps_so_far(pooling, cuts):
    model, variables = make(pooling=pooling)
    carry = None
    for start, stop in zip([0, *cuts], [*cuts, T]):
        carry, logits = call(model)(
            variables, tokens()[:, start:stop], initial_carry=carry, return_carry=True,
            seq_lengths=jnp.clip(LENGTHS - start, 0, stop - start),
        )  # fmt: skip
        lengths = jnp.minimum(LENGTHS, stop)
        want = call(model)(variables, tokens(), seq_lengths=lengths)
        np.testing.assert_allclose(logits, want, atol=1e-5)


@pytest.mark.parametrize("steps", [8, 13, 24])
def test_the_sum_in_parts_on_a_gpu_equals_the_sum(steps, monkeypatch):
    x = jax.random.normal(jax.random.key(0), (steps, 3, 4))

    def loss(x, lengths):
        total = pool_mean(x, lengths).total
        return jnp.sum(jnp.sin(total)), total

    computed = [jax.grad(loss, has_aux=True)(x, lengths) for lengths in (None, LENGTHS)]
    monkeypatch.setattr("lru.ops.platform.is_gpu", lambda: True)
    assert sum_parts(steps) == {8: 8, 13: 1, 24: 8}[steps]
    for lengths, want in zip((None, LENGTHS), computed):
        got = jax.grad(loss, has_aux=True)(x, lengths)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), got, want)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_lengths_beyond_the_end_mean_the_whole_sequence(pooling):
    model, variables = make(pooling=pooling)
    logits = call(model)(variables, tokens(), seq_lengths=jnp.full(B, T + 12))
    np.testing.assert_allclose(logits, call(model)(variables, tokens()), atol=1e-6)


def test_padding_reaches_neither_logits_nor_gradients():
    model, variables = make(vocab_size=None)

    @jax.jit
    @jax.value_and_grad
    def loss(params, x):
        logits, _ = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]}, x,
            seq_lengths=LENGTHS, train=True, mutable=["batch_stats"],
        )  # fmt: skip
        return jnp.sum(logits**2)

    valid = (jnp.arange(T) < LENGTHS[:, None])[..., None]
    clean = loss(variables["params"], tokens(None))
    dirty = loss(variables["params"], jnp.where(valid, tokens(None), jnp.nan))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), dirty, clean)


@pytest.mark.parametrize("vocab_size", [V, None], ids=["tokens", "features"])
def test_models_work_without_implicit_rank_promotion(vocab_size):
    model, variables = make(vocab_size=vocab_size, bidirectional=True)
    reset = jnp.zeros((B, T), bool).at[:, 3].set(True)
    with jax.numpy_rank_promotion("raise"):
        logits = call(model)(variables, tokens(vocab_size), seq_lengths=LENGTHS, reset=reset)
    want = call(model)(variables, tokens(vocab_size), seq_lengths=LENGTHS, reset=reset)
    np.testing.assert_allclose(logits, want, atol=1e-6)


def test_the_order_of_the_batch_does_not_matter():
    model, variables = make(bidirectional=True)
    order = jnp.array([1, 2, 0])
    logits = call(model)(variables, tokens(), seq_lengths=LENGTHS)
    permuted = call(model)(variables, tokens()[order], seq_lengths=LENGTHS[order])
    np.testing.assert_allclose(permuted, logits[order], atol=1e-6)


def test_remat_changes_no_parameter_name():
    names = [
        jax.tree_util.tree_structure(make(remat=remat)[1]["params"]) for remat in (False, True)
    ]
    assert names[0] == names[1]


def test_logits_are_float32_when_activations_are_not():
    model, variables = make(dtype=jnp.bfloat16)
    assert call(model)(variables, tokens()).dtype == jnp.float32


@pytest.mark.usefixtures("unchecked_annotations")
def test_unknown_pooling_raises():
    with pytest.raises(ValueError, match="pooling='max'"):
        make(pooling="max")


@pytest.mark.usefixtures("unchecked_annotations")
def test_inputs_with_wrong_axes_raise():
    model = SequenceClassifier(3, 4, 1, functools.partial(lru.LRU, 6), vocab_size=V)
    with pytest.raises(ValueError, match=r"shape \(3, 2, 8\); expected \(B, T\)"):
        model.init(jax.random.key(0), jnp.ones((3, 2, 8), int))
    model = SequenceClassifier(3, 4, 1, functools.partial(lru.LRU, 6))
    with pytest.raises(ValueError, match=r"shape \(3, 8\); expected \(B, T, features\)"):
        model.init(jax.random.key(0), jnp.ones((3, 8)))


PAIRS = jax.random.randint(jax.random.key(3), (B, 2, T), 0, V)
PAIR_LENGTHS = jnp.array([[8, 3], [5, 1], [2, 8]])


@functools.cache
def make_matcher(**options):
    model = SequenceMatcher(
        5, d_model=4, num_layers=2, mixer=functools.partial(lru.LRU, 6), vocab_size=V, **options
    )
    variables = jax.jit(model.init)(jax.random.key(0), PAIRS)
    biased = jax.tree.map(lambda p: p + 0.1, variables["params"])  # fresh biases are zero
    return model, variables | {"params": biased}


def test_a_pair_is_compared_by_both_vectors_their_difference_and_their_product():
    """The vectors come from a classifier with an identity head; the head is in NumPy."""
    model, variables = make_matcher()
    params = variables["params"]
    plain = {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}
    tower = SequenceClassifier(4, 4, num_layers=2, mixer=model.mixer, vocab_size=V)
    tower_variables = variables | {
        "params": {"encoder": params["encoder"], "stack": params["stack"], "head": plain}
    }
    o0, o1 = (
        np.float64(call(tower)(tower_variables, PAIRS[:, i], seq_lengths=PAIR_LENGTHS[:, i]))
        for i in (0, 1)
    )
    hidden, head = ({k: np.float64(v) for k, v in params[n].items()} for n in ("hidden", "head"))
    z = np.concatenate([o0, o1, o0 - o1, o0 * o1], -1) @ hidden["kernel"] + hidden["bias"]
    gelu = z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    want = gelu @ head["kernel"] + head["bias"]
    logits = call(model)(variables, PAIRS, seq_lengths=PAIR_LENGTHS)
    np.testing.assert_allclose(logits, want, atol=1e-5)


def test_batch_statistics_are_over_both_sequences_of_a_pair():
    model, variables = make_matcher()
    tower = SequenceClassifier(5, 4, num_layers=2, mixer=model.mixer, vocab_size=V)
    params = variables["params"] | {"head": {"kernel": jnp.ones((4, 5)), "bias": jnp.ones(5)}}
    del params["hidden"]
    got, want = (
        model.apply(
            variables | {"params": params}, x, seq_lengths=lengths, train=True,
            mutable=["batch_stats"],
        )[1]
        for model, params, x, lengths in [
            (model, variables["params"], PAIRS, PAIR_LENGTHS),
            (tower, params, PAIRS.reshape(-1, T), PAIR_LENGTHS.reshape(-1)),
        ]
    )  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


def test_a_pairs_padding_and_the_other_pairs_change_no_logit():
    model, variables = make_matcher()
    logits = call(model)(variables, PAIRS, seq_lengths=PAIR_LENGTHS)
    alone = call(model)(variables, PAIRS[1:2, :, :5], seq_lengths=jnp.array([[5, 1]]))
    np.testing.assert_allclose(logits[1], alone[0], atol=1e-5)


def test_pairs_in_chunks_give_the_logits_of_all_steps_so_far():
    model, variables = make_matcher()
    reset = jnp.zeros((B, 2, T), bool).at[1, 0, 2].set(True).at[2, 1, 6].set(True)
    lengths = [jnp.clip(PAIR_LENGTHS - start, 0, 4) for start in (0, 4)]
    carry, _ = call(model)(
        variables, PAIRS[..., :4], seq_lengths=lengths[0], reset=reset[..., :4], return_carry=True
    )
    got = call(model)(
        variables, PAIRS[..., 4:], seq_lengths=lengths[1], reset=reset[..., 4:], initial_carry=carry
    )
    want = call(model)(variables, PAIRS, seq_lengths=PAIR_LENGTHS, reset=reset)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.usefixtures("unchecked_annotations")
def test_inputs_that_are_not_pairs_raise():
    model, variables = make_matcher()
    for wrong in (PAIRS[:, 0], PAIRS[:, [0, 1, 0]]):
        with pytest.raises(ValueError, match=r"expected \(B, 2, T\)"):
            model.apply(variables, wrong)


LANGUAGE_MODELS = {
    "lattice": dict(mixer=functools.partial(Lattice, 4, 2)),
    "grid": dict(mixer=functools.partial(GridLSTM, 4, 2)),
    "linear": dict(mixer=functools.partial(lru.LRU, 6), num_layers=2),
}


@pytest.fixture(params=LANGUAGE_MODELS, scope="module")
def language_model(request):
    model = LanguageModel(V, 4, **LANGUAGE_MODELS[request.param])
    return model, jax.jit(model.init)(jax.random.key(0), tokens())


def test_a_language_model_is_embedding_stack_and_head():
    model = LanguageModel(V, 4, **LANGUAGE_MODELS["lattice"])
    variables = jax.jit(model.init)(jax.random.key(0), tokens())
    params = variables["params"]
    embedded = jnp.asarray(params["encoder"]["embedding"])[tokens()]
    between = jax.jit(Lattice(4, 2).apply)({"params": params["stack"]}, embedded)
    want = between @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(call(model)(variables, tokens()), want, atol=1e-5)


def test_embedding_and_head_are_drawn_as_by_pytorch():
    model = LanguageModel(200, 100, functools.partial(Lattice, 100, 1))
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 2), int))["params"]
    assert params["encoder"]["embedding"].std() == pytest.approx(1, abs=0.02)
    for leaf in params["head"].values():
        assert 0.09 < abs(leaf).max() <= 0.1
        assert leaf.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.15)


def test_no_logit_depends_on_a_later_token_or_on_padding(language_model):
    model, variables = language_model
    carry, logits = call(model)(variables, tokens(), seq_lengths=LENGTHS, return_carry=True)
    for row, length in enumerate(LENGTHS):
        alone = call(model)(variables, tokens()[row : row + 1, :length], return_carry=True)
        np.testing.assert_allclose(logits[row, :length], alone[1][0], atol=1e-5)
        assert not logits[row, length:].any()
        jax.tree.map(
            lambda got, want, row=row: np.testing.assert_allclose(got[row], want[0], atol=1e-5),
            carry, alone[0],
        )  # fmt: skip
    whole = call(model)(variables, tokens())
    np.testing.assert_allclose(whole[1, :3], logits[1, :3], atol=1e-5)


def test_a_text_in_chunks_and_in_single_tokens_equals_the_whole_text(language_model):
    model, variables = language_model
    want, logits = call(model)(variables, tokens(), return_carry=True)
    for size in (1, 4):
        step, carry = stream(model, variables, tokens()[:, :size])
        parts = []
        for start in range(0, T, size):
            carry, part = step(carry, tokens()[:, start : start + size])
            parts.append(part)
        np.testing.assert_allclose(jnp.concatenate(parts, 1), logits, atol=1e-5)
        jax.tree.map(lambda c, w: np.testing.assert_allclose(c, w, atol=1e-5), carry, want)


def test_a_reset_begins_a_new_text(language_model):
    model, variables = language_model
    texts = call(model)(variables, tokens())
    reset = (jnp.arange(B * T) % T == 0)[None]
    with jax.numpy_rank_promotion("raise"):
        packed = call(model)(variables, tokens().reshape(1, B * T), reset=reset)
    np.testing.assert_allclose(packed.reshape(B, T, V), texts, atol=1e-5)


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_language_model_that_is_not_causal_raises():
    both_ways = functools.partial(lru.LRU, 6, bidirectional=True)
    with pytest.raises(ValueError, match="mixer is not causal"):
        LanguageModel(V, 4, both_ways, num_layers=1).init(jax.random.key(0), tokens())
    model = LanguageModel(V, 4, functools.partial(lru.LRU, 6), num_layers=1, norm="batch")
    with pytest.raises(ValueError, match="norm='batch' computes statistics over all steps"):
        model.init(jax.random.key(0), tokens())


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("option", [{"dropout": 0.5}, {"norm": "batch"}, {"remat": True}])
def test_options_of_blocks_without_blocks_raise(option):
    model = LanguageModel(V, 4, functools.partial(Lattice, 4, 1), **option)
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}=.* is an option of residual blocks"):
        model.init(jax.random.key(0), tokens())


def blocks_called(model, inputs, **call):
    """Returns each residual block of a model in training, and its argument `train`."""
    found = []

    def note(method, arguments, options, context):
        if isinstance(context.module, ResidualBlock) and context.method_name == "__call__":
            found.append((context.module, options["train"]))
        return method(*arguments, **options)

    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    keys = {"dropout": jax.random.key(1)}
    apply = functools.partial(model.apply, rngs=keys, mutable=["batch_stats"], **call)
    with nn.intercept_methods(note):
        jax.eval_shape(apply, variables, inputs)
    return found


@pytest.mark.parametrize(
    "model, inputs, options",
    [
        (SequenceClassifier, jnp.ones((B, T), int), dict(num_classes=5, norm="layer")),
        (SequenceMatcher, PAIRS, dict(num_classes=5, norm="layer")),
        (LanguageModel, jnp.ones((B, T), int), {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("train", [False, True])
def test_the_options_of_a_block_and_whether_it_trains_reach_every_block(
    model, inputs, options, train
):
    of_blocks = dict(
        norm_momentum=0.7, gelu="erf", glu="half", dropout=0.3, tie_dropout=False, remat=True,
        chunk_size=5, dtype=jnp.bfloat16,
    )  # fmt: skip
    mixer = functools.partial(lru.LRU, 6)
    options = dict(vocab_size=V, d_model=4, num_layers=2, mixer=mixer, **options, **of_blocks)
    found = blocks_called(model(**options), inputs, train=train)
    assert [block.name for block, _ in found] == ["blocks_0", "blocks_1"]
    want = {"norm": "layer", "mixer": mixer} | of_blocks
    for block, told in found:
        assert {name: getattr(block, name) for name in want} == want
        assert told == train
