"""Laws of the residual block and the stack."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.models.blocks import BatchStatistics, ResidualBlock, ResidualStack

B, T, H = 3, 8, 4
LENGTHS = jnp.array([8, 3, 5])
VALID = (jnp.arange(T)[:, None] < LENGTHS)[..., None]
MIXER = functools.partial(lru.LRU, 6)
RESET = jnp.zeros((T, B), bool).at[2, 0].set(True).at[5, 2].set(True)
CHUNKED = dict(remat=True, chunk_size=3)


def inputs(seed=0):
    return jax.random.normal(jax.random.key(seed), (T, B, H))


def make(block, **call):
    return jax.jit(functools.partial(block.init, time_major=True, **call))(
        jax.random.key(1), inputs()
    )


def apply(block, variables, x, carry=None, lengths=None, reset=None, **options):
    """Returns the carry and the outputs `(T, B, H)`."""
    call = dict(initial_carry=carry, seq_lengths=lengths, reset=reset, return_carry=True)
    return block.apply(variables, x, time_major=True, **call, **options)


def train(block, variables, x, lengths=None, seed=0):
    """Returns outputs and updated statistics of a training step's forward pass."""

    @jax.jit
    def run(variables, x):
        return apply(
            block, variables, x, lengths=lengths, train=True,
            mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)},
        )  # fmt: skip

    (_, y), updated = run(variables, x)
    return y, updated


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("glu", ["full", "half"])
def test_a_block_is_norm_mixer_gelu_glu_skip(norm, glu):
    block = ResidualBlock(MIXER, norm=norm, glu=glu)
    variables = make(block)
    params = variables["params"]
    _, y = apply(block, variables, inputs())

    x = np.asarray(inputs(), np.float64)
    z = x / np.sqrt(1 + 1e-5)  # fresh running statistics: mean 0, variance 1
    if norm == "layer":
        z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    z = np.asarray(
        nn.gelu(lru.LRU(6).apply({"params": params["mixer"]}, jnp.float32(z), time_major=True))
    )
    dense = z @ np.asarray(params["glu"]["kernel"]) + np.asarray(params["glu"]["bias"])
    value, gate = np.split(dense, 2, -1) if glu == "full" else (z, dense)
    np.testing.assert_allclose(y, x + value / (1 + np.exp(-gate)), atol=2e-4)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_post_norm_normalizes_the_sum_over_valid_steps(norm):
    block = ResidualBlock(MIXER, norm=norm, prenorm=False)
    variables = make(block)
    y, updated = train(block, variables, jnp.where(VALID, inputs(), 1e6), LENGTHS)
    steps = np.concatenate([y[:length, row] for row, length in enumerate(LENGTHS)])
    axis = 0 if norm == "batch" else -1
    np.testing.assert_allclose(steps.mean(axis), 0, atol=1e-4)
    np.testing.assert_allclose(steps.var(axis), 1, atol=1e-3)
    assert bool(updated) == (norm == "batch")


def test_batch_statistics_leave_padding_out():
    block = ResidualBlock(MIXER, norm_momentum=0.0)
    variables = make(block)
    garbage = jnp.where(VALID, inputs(), 1e6)
    y, updated = train(block, variables, garbage, LENGTHS)
    steps = np.concatenate([inputs()[:length, row] for row, length in enumerate(LENGTHS)])
    stats = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], steps.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["var"], steps.var(0), rtol=1e-4)
    longer = jnp.pad(garbage, ((0, 5), (0, 0), (0, 0)), constant_values=-1e6)
    y_longer, _ = train(block, variables, longer, LENGTHS)
    np.testing.assert_allclose(jnp.where(VALID, y_longer[:T] - y, 0), 0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_each_sequence_has_its_own_dropout_mask(tied):
    block = ResidualBlock(lambda name: Identity(name=name), dropout=0.5, tie_dropout=tied)
    variables = make(block)
    ones = jnp.ones((T, 16, H)) * jnp.arange(1.0, T + 1)[:, None, None]
    y, _ = train(block, variables, ones)
    dropped = np.asarray(y == ones)  # where the residual branch is zero
    assert 0.2 < dropped.mean() < 0.8
    assert len({mask.tobytes() for mask in dropped.swapaxes(0, 1)}) > 4
    assert (dropped == dropped[:1]).all() == tied
    again, _ = train(block, variables, ones, seed=1)
    assert (again != y).any()


class Identity(nn.Module):
    @nn.compact
    def __call__(self, x, *, return_carry, **_):
        return None, x


@pytest.mark.parametrize("gelu, least, most", [("tanh", 1e-4, 5e-4), ("erf", 0, 3e-6)])
def test_gelu_is_x_times_the_normal_distribution_at_x(gelu, least, most):
    block = ResidualBlock(lambda name: Identity(name=name), gelu=gelu, glu="half")
    variables = make(block)
    variables["params"]["glu"] = {"kernel": jnp.zeros((H, H)), "bias": jnp.full(H, 40.0)}  # open
    x = jnp.linspace(-6, 6, T * B * H).reshape(T, B, H)
    _, y = apply(block, variables, x)
    z = np.float64(x) / np.sqrt(1 + 1e-5)  # fresh running statistics
    want = z * (1 + np.vectorize(math.erf)(z / np.sqrt(2))) / 2
    assert least <= abs(y - x - want).max() < most


REMAT = {
    "at once": dict(chunk_size=0),
    "in halves": dict(chunk_size=4),
    "with a rest": dict(chunk_size=3),
    "step by step": dict(chunk_size=1),
    "looking ahead": dict(mixer=functools.partial(lru.LRU, 6, bidirectional=True)),
}


TIED, UNTIED = dict(dropout=0.3), dict(dropout=0.3, tie_dropout=False)


@pytest.mark.parametrize(
    "options, dropout, padded",
    [
        *((REMAT[name], TIED, True) for name in REMAT),
        (REMAT["with a rest"], UNTIED, True),
        (REMAT["with a rest"], {}, False),
        (REMAT["in halves"], {}, False),
        (REMAT["with a rest"], dict(prenorm=False), True),
        (REMAT["looking ahead"], dict(prenorm=False, norm="layer"), True),
    ],
)
def test_rematerialisation_changes_neither_values_nor_gradients(options, dropout, padded):
    make_block = functools.partial(ResidualBlock, **{"mixer": MIXER} | options | dropout)
    lengths = LENGTHS if padded else None

    def loss(variables, carry, remat):
        stack = ResidualStack(2, functools.partial(make_block, remat=remat))
        (carry, y), updated = apply(
            stack, variables, inputs(), carry, lengths, RESET, train=True,
            mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        return jnp.sum(y**2), (carry, y, updated)

    variables = make(ResidualStack(2, make_block))
    bidirectional = "mixer" in options
    state = jnp.ones((B, 6), jnp.complex64) * (1 + 2j)
    carry = ((state, state) if bidirectional else state,) * 2
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    plain, remat = (gradient(variables, carry, remat) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)


def test_a_block_in_chunks_starts_from_zero():
    plain, chunked = (ResidualBlock(MIXER, **options) for options in ({}, CHUNKED))
    variables = make(plain)
    got, want = (apply(block, variables, inputs()) for block in (chunked, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


def test_only_a_mixer_declared_causal_runs_in_chunks():
    """A mixer that looks ahead without declaring it must not run in chunks."""

    class Ahead(nn.Module):
        @nn.compact
        def __call__(self, x, **_):
            return None, jnp.flip(x, 0)

    plain, remat = (ResidualBlock(Ahead, **options) for options in ({}, CHUNKED))
    variables = make(plain)
    (_, got), (_, want) = (apply(block, variables, inputs()) for block in (remat, plain))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_other_variables_of_a_mixer_are_updated_despite_chunks():
    class Counting(nn.Module):
        causal = True

        @nn.compact
        def __call__(self, x, **_):
            calls = self.variable("batch_stats", "calls", jnp.zeros, ())
            if not self.is_initializing():
                calls.value += 1
            return None, x

    block = ResidualBlock(Counting, **CHUNKED)
    variables = make(block)
    _, updated = apply(block, variables, inputs(), mutable=["batch_stats"])
    assert updated["batch_stats"]["mixer"]["calls"] == 1


@pytest.mark.parametrize("options", [{}, CHUNKED], ids=["whole", "chunks"])
def test_lengths_beyond_the_end_and_small_carries_mean_the_same_in_chunks(options):
    block = ResidualBlock(MIXER, norm="layer", glu="half", **options)
    variables = make(block)
    carry = jnp.full(6, 0.5)  # real, and one for all sequences
    got = apply(block, variables, inputs(), carry, jnp.full(B, 99))
    want = apply(block, variables, inputs(), jnp.full((B, 6), 0.5 + 0j))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


def test_the_states_of_a_long_sequence_are_not_saved():
    """Memory for the backward pass grows with the block's width, not with the mixer's."""

    def temporaries(remat, **options):
        mixer = functools.partial(lru.LRU, 64, **options)
        block = ResidualBlock(mixer, remat=remat, chunk_size=64)
        x = jnp.ones((1, 2048, 2))
        variables = jax.jit(block.init)(jax.random.key(0), x[:, :4])

        def loss(variables):
            return block.apply(variables, x).sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    states = 2048 * 64 * 8
    assert temporaries(remat=True) < states / 2
    assert temporaries(remat=False, chunk_size=64) < states / 2
    assert temporaries(remat=False, chunk_size=0) > states


def test_equal_blocks_are_traced_once():
    calls = []

    class Counting(lru.LRU):
        @nn.compact
        def __call__(self, *arguments, **options):
            calls.append(self.name)
            return super().__call__(*arguments, **options)

    def traced(num_layers):
        block = functools.partial(ResidualBlock, functools.partial(Counting, 6), **CHUNKED)
        stack = ResidualStack(num_layers, block)
        variables = make(stack)
        calls.clear()
        jax.eval_shape(functools.partial(apply, stack), variables, inputs())
        return len(calls)

    assert traced(4) == traced(1) > 0


def test_batch_normalisation_equals_that_of_flax():
    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x, mask=VALID)

    x = 3 * inputs() + 1
    ours, flax = BatchStatistics(momentum=0.9), Flax()
    variables = ours.init(jax.random.key(0), x, LENGTHS, True)
    for train in (True, False):
        want, their = flax.apply(
            {name: {"BatchNorm_0": c} for name, c in variables.items()},
            x, train, mutable=["batch_stats"],
        )  # fmt: skip
        (mean, scale, bias), own = ours.apply(variables, x, LENGTHS, train, mutable=["batch_stats"])
        np.testing.assert_allclose((x - mean) * scale + bias, want, atol=1e-5)
        their = their["batch_stats"]["BatchNorm_0"]
        jax.tree.map(np.testing.assert_allclose, own["batch_stats"], their)


@pytest.mark.parametrize("cuts", [[3], list(range(1, T))], ids=["chunks", "steps"])
def test_a_streamed_stack_equals_the_whole_sequence(cuts):
    stack = ResidualStack(2, functools.partial(ResidualBlock, MIXER))
    variables, run = make(stack), jax.jit(functools.partial(apply, stack))
    whole_carry, whole = run(variables, inputs())
    carry, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, T]):
        carry, y = run(variables, inputs()[start:stop], carry)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, whole_carry)


@pytest.mark.parametrize("chunk_size", [0, 4])
@pytest.mark.parametrize(
    ("carry", "message"),
    [
        (jnp.zeros((2, 5)), r"initial_carry has shape \(2, 5\); expected \(2, 6\)"),
        ((jnp.zeros((2, 6)),), "initial_carry is a tuple of .; expected one array"),
    ],
)
def test_a_wrong_carry_raises_in_chunks_or_not(chunk_size, carry, message):
    block = ResidualBlock(lru.LRU(6), norm="layer", remat=True, chunk_size=chunk_size)
    inputs = jnp.ones((2, 8, 4))
    variables = block.init(jax.random.key(0), inputs)
    with pytest.raises(ValueError, match=message):
        block.apply(variables, inputs, initial_carry=carry)


def test_a_carry_of_another_depth_raises():
    stack = ResidualStack(2, functools.partial(ResidualBlock, MIXER))
    with pytest.raises(ValueError, match="initial_carry has 3 entries; expected 2"):
        apply(stack, make(stack), inputs(), (None,) * 3)


def test_any_flax_rnn_is_a_mixer():
    class Gru(nn.Module):
        @nn.compact
        def __call__(self, x, *, reset=None, **call):
            return nn.RNN(nn.GRUCell(H))(x, **call)

    block = ResidualBlock(Gru)
    carry, y = apply(block, make(block, seq_lengths=LENGTHS), inputs(), None, LENGTHS)
    assert (carry.shape, y.shape) == ((B, H), (T, B, H))


@pytest.mark.parametrize("wrong", [{"norm": "group"}, {"gelu": "relu"}, {"glu": "third"}])
@pytest.mark.usefixtures("unchecked_annotations")
def test_unknown_options_raise(wrong):
    with pytest.raises(ValueError, match="expected"):
        make(ResidualBlock(MIXER, **wrong))


def branches(num_layers, **options):
    """What each of some blocks adds to its input, by training with the options of dropout.

    The mixer is the identity and the gate is open: a block adds gelu(norm(x)) where nothing drops.
    """
    make_block = functools.partial(
        ResidualBlock, lambda name: Identity(name=name), norm="layer", glu="half", **options
    )
    x, variables, found = jax.random.normal(jax.random.key(5), (T, 32, 32)), None, []
    for depth in range(1, num_layers + 1):
        stack = ResidualStack(depth, make_block)
        variables = stack.init(jax.random.key(1), x, time_major=True)
        for name in variables["params"]:
            glu = {"kernel": jnp.zeros((32, 32)), "bias": jnp.full(32, 40.0)}
            variables["params"][name]["glu"] = glu
        y, _ = train(stack, variables, x)
        found.append(np.asarray(y - x))
    return np.diff(found, axis=0, prepend=0)


@pytest.mark.parametrize("tied", [True, False])
def test_dropout_divides_values_by_the_fraction_that_remains(tied):
    """Dropout has two independent masks, so a fraction of 0.75 * 0.75 remains."""
    (whole,), (got,) = branches(1), branches(1, dropout=0.25, tie_dropout=tied)
    remaining = got != 0
    np.testing.assert_allclose(got[remaining], whole[remaining] / 0.75**2, rtol=1e-4, atol=1e-6)
    assert remaining.mean() == pytest.approx(0.75**2, abs=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_a_dropout_mask_differs_between_sequences_features_and_layers_and_between_steps_if_untied(
    tied,
):
    first, second = branches(2, dropout=0.5, tie_dropout=tied) != 0
    assert (first != second).any()
    alike = [(np.roll(first, 1, axis) == first).all() for axis in range(3)]
    assert alike == [tied, False, False]


@pytest.mark.parametrize("module", [ResidualBlock, functools.partial(ResidualStack, 2)])
def test_a_backbone_takes_batches_first_unless_time_major(module):
    make_block = functools.partial(ResidualBlock, MIXER)
    backbone = module(MIXER) if module is ResidualBlock else module(make_block)
    variables = make(backbone)
    carry, want = apply(backbone, variables, inputs(), None, LENGTHS, RESET)
    x, call = inputs().swapaxes(0, 1), dict(seq_lengths=LENGTHS, reset=RESET.T)
    np.testing.assert_array_equal(backbone.apply(variables, x, **call).swapaxes(0, 1), want)
    got, _ = backbone.apply(variables, x, return_carry=True, **call)
    jax.tree.map(np.testing.assert_array_equal, got, carry)


@pytest.mark.parametrize("glu", ["full", "half"])
def test_the_gate_that_a_gpu_computes_equals_that_of_a_cpu(glu, monkeypatch):
    block = ResidualBlock(functools.partial(lru.LRU, 6, method="sequential"), glu=glu)
    variables = make(block)

    def gradient():
        return jax.grad(lambda v: jnp.sum(apply(block, v, inputs())[1] ** 2))(variables)

    want = gradient()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), gradient(), want
    )
