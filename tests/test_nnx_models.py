"""The NNX cells, lattice, block and models equal those of Linen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lru
import lru.nnx
from lru import lattice, models
from lru.models import blocks

B, T, H = 3, 7, 4
U = jax.random.normal(jax.random.key(0), (B, T, H))
TOKENS = jax.random.randint(jax.random.key(1), (B, T), 0, 9)
LENGTHS = jnp.array([7, 2, 4])
MIXER = lru.LRU(6, r_min=0.5)

# Each: the NNX module, the Linen module, inputs.
PAIRS = {
    "block": (
        lambda rngs: lru.nnx.ResidualBlock(H, MIXER, rngs=rngs),
        blocks.ResidualBlock(MIXER), U,
    ),
    "tokens": (
        lambda rngs: lru.nnx.SequenceClassifier(5, H, 2, MIXER, vocab_size=9, rngs=rngs),
        models.SequenceClassifier(5, H, 2, MIXER, vocab_size=9), TOKENS,
    ),
    "features": (
        lambda rngs: lru.nnx.SequenceClassifier(5, 8, 1, MIXER, in_features=H, rngs=rngs),
        models.SequenceClassifier(5, 8, 1, MIXER), U,
    ),
    "language": (
        lambda rngs: lru.nnx.LanguageModel(9, H, mixer=MIXER, num_layers=2, rngs=rngs),
        models.LanguageModel(9, H, mixer=MIXER, num_layers=2), TOKENS,
    ),
    "lattice": (
        lambda rngs: lru.nnx.Lattice(H, 2, unit=lattice.RGLRUCell, rngs=rngs),
        lattice.Lattice(H, 2, unit=lattice.RGLRUCell), U,
    ),
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def pair(request):
    make, linen, inputs = PAIRS[request.param]
    return make(nnx.Rngs(0)), linen, inputs


def variables_of(module):
    found = {"params": nnx.to_pure_dict(nnx.state(module, nnx.Param))}
    stats = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
    return found | ({"batch_stats": stats} if stats else {})


def equal(got, want):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6), got, want)


def test_outputs_and_carries_equal_those_of_linen(pair):
    native, linen, inputs = pair
    options = dict(seq_lengths=LENGTHS, return_carry=True)
    equal(native(inputs, **options), linen.apply(variables_of(native), inputs, **options))


def test_weights_of_linen_give_its_outputs(pair):
    native, linen, inputs = pair
    variables = jax.jit(linen.init)(jax.random.key(5), inputs)
    for tree in variables.values():
        nnx.update(native, tree)
    equal(variables_of(native), dict(variables))
    equal(native(inputs), linen.apply(variables, inputs))


def test_chunks_with_a_carry_equal_the_whole():
    model = lru.nnx.LanguageModel(9, H, stack=lattice.Lattice(H, 2), rngs=nnx.Rngs(0))
    carry, first = model(TOKENS[:, :3], return_carry=True)
    second = model(TOKENS[:, 3:], initial_carry=carry)
    equal(jnp.concatenate([first, second], axis=1), model(TOKENS))


def test_training_updates_batch_statistics_as_linen_does():
    native = lru.nnx.ResidualBlock(H, MIXER, rngs=nnx.Rngs(0))
    before, linen = variables_of(native), blocks.ResidualBlock(MIXER)
    want, updated = linen.apply(before, U, train=True, mutable=["batch_stats"])
    equal(native(U, train=True), want)
    equal(variables_of(native)["batch_stats"], updated["batch_stats"])
    native(U)  # not training: they stay
    equal(variables_of(native)["batch_stats"], updated["batch_stats"])


def test_dropout_draws_from_its_stream():
    block = lru.nnx.ResidualBlock(
        H, MIXER, norm="layer", dropout=0.5, rngs=nnx.Rngs(0, dropout=1)
    )  # fmt: skip
    assert (block(U, train=True) != block(U, train=True)).any()
    same = [block(U, train=True, rngs=nnx.Rngs(dropout=3)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    np.testing.assert_array_equal(block(U), block(U))


CELLS = {
    "linear": (
        lambda rngs: lru.nnx.LRUCell(H, 6, rngs=rngs),
        lambda rngs: lru.nnx.LRU(H, 6, rngs=rngs),
    ),
    "lattice": (
        lambda rngs: lru.nnx.LatticeCell(H, unit=lattice.PSLRUCell, rngs=rngs),
        lambda rngs: lru.nnx.Lattice(H, 1, unit=lattice.PSLRUCell, rngs=rngs),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_in_nnx_rnn_equals_the_layer(name):
    cell, layer = (make(nnx.Rngs(0)) for make in CELLS[name])
    weights = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    nnx.update(layer, weights if name == "linear" else {"layers_0": weights})
    rnn = nnx.RNN(cell)
    for options in ({}, {"seq_lengths": LENGTHS}, {"reverse": True, "keep_order": True}):
        valid = jnp.arange(T) < (LENGTHS[:, None] if "seq_lengths" in options else T)
        got, want = rnn(U, **options), layer(U, **options)
        equal(jnp.where(valid[..., None], got, 0), want)
    carry, _ = rnn(U, return_carry=True)
    want = layer(U, return_carry=True)[0]
    equal(carry, want if name == "linear" else want[..., 0, :])


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_works_in_flax_bidirectional(name):
    cells = [nnx.RNN(CELLS[name][0](nnx.Rngs(seed))) for seed in range(2)]
    assert nnx.Bidirectional(*cells, rngs=nnx.Rngs(0))(U).shape == (B, T, 2 * H)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_keeps_the_shape_and_type_of_its_carry(name):
    cell = CELLS[name][0](nnx.Rngs(0))
    carry = cell.initialize_carry((B, H), nnx.Rngs(0))
    after, y = cell(carry, U[:, 0])
    assert (after.shape, after.dtype, y.shape) == (carry.shape, carry.dtype, (B, H))
    assert cell.num_feature_axes == 1


def test_two_learning_rates_train_an_nnx_classifier():
    model = lru.nnx.SequenceClassifier(2, H, 1, MIXER, in_features=H, rngs=nnx.Rngs(0))
    recurrent = {"nu_log", "theta_log", "gamma_log", "B_re", "B_im"}

    def kinds(params):
        def kind(path, _):
            names = {getattr(key, "key", None) for key in path}
            return "recurrent" if names & recurrent else "other"

        return jax.tree_util.tree_map_with_path(kind, params)

    rates = optax.partition({"recurrent": optax.sgd(0.0), "other": optax.sgd(0.1)}, kinds)
    optimizer = nnx.Optimizer(model, rates, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            logits = model(U, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, LENGTHS % 2).mean()

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    before = jax.tree.map(np.array, variables_of(model)["params"])
    losses = [float(step(model, optimizer)) for _ in range(3)]
    after = variables_of(model)["params"]
    mixer = after["stack"]["blocks_0"]["mixer"]
    assert losses[-1] < losses[0]
    for name, value in before["stack"]["blocks_0"]["mixer"].items():
        assert (np.array_equal(mixer[name], value)) == (name in recurrent)


def test_tokens_and_features_at_once_raise():
    for options in ({}, {"vocab_size": 9, "in_features": 4}):
        with pytest.raises(ValueError, match="expected exactly one of them"):
            lru.nnx.SequenceClassifier(2, H, 1, MIXER, rngs=nnx.Rngs(0), **options)
