"""Laws of the residual block and the stack."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.blocks import RematBlock, ResidualBlock, ResidualStack

B, T, H = 3, 8, 4
LENGTHS = jnp.array([8, 3, 5])
VALID = (jnp.arange(T) < LENGTHS[:, None])[..., None]
MIXER = functools.partial(lru.LRU, 6)


def inputs(seed=0):
    return jax.random.normal(jax.random.key(seed), (B, T, H))


def make(block, *arguments):
    return jax.jit(block.init)(jax.random.key(1), inputs(), *arguments)


def train(block, variables, x, lengths=None, seed=0):
    """Outputs and updated statistics of a training step's forward pass."""

    @jax.jit
    def apply(variables, x):
        return block.apply(
            variables, x, None, lengths, None, True,
            mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)},
        )  # fmt: skip

    (_, y), updated = apply(variables, x)
    return y, updated


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("glu", ["full", "half"])
def test_a_block_is_norm_mixer_gelu_glu_skip(norm, glu):
    block = ResidualBlock(MIXER, norm=norm, glu=glu)
    variables = make(block)
    params = variables["params"]
    _, y = jax.jit(block.apply)(variables, inputs())

    x = np.asarray(inputs(), np.float64)
    z = x / np.sqrt(1 + 1e-5)  # fresh running statistics: mean 0, variance 1
    if norm == "layer":
        z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    z = np.asarray(nn.gelu(lru.LRU(6).apply({"params": params["mixer"]}, jnp.float32(z))))
    dense = z @ np.asarray(params["glu"]["kernel"]) + np.asarray(params["glu"]["bias"])
    value, gate = np.split(dense, 2, -1) if glu == "full" else (z, dense)
    np.testing.assert_allclose(y, x + value / (1 + np.exp(-gate)), atol=2e-4)


def test_batch_statistics_leave_padding_out():
    block = ResidualBlock(MIXER, norm_momentum=0.0)
    variables = make(block)
    garbage = jnp.where(VALID, inputs(), 1e6)
    y, updated = train(block, variables, garbage, LENGTHS)
    steps = np.concatenate([inputs()[row, :length] for row, length in enumerate(LENGTHS)])
    stats = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], steps.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["var"], steps.var(0), rtol=1e-4)
    longer = jnp.pad(garbage, ((0, 0), (0, 5), (0, 0)), constant_values=-1e6)
    y_longer, _ = train(block, variables, longer, LENGTHS)
    np.testing.assert_allclose(jnp.where(VALID, y_longer[:, :T] - y, 0), 0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_each_sequence_has_a_dropout_mask_of_its_own(tied):
    block = ResidualBlock(lambda name: Identity(name=name), dropout=0.5, tie_dropout=tied)
    variables = make(block)
    ones = jnp.ones((16, T, H)) * jnp.arange(1.0, T + 1)[:, None]
    y, _ = train(block, variables, ones)
    dropped = np.asarray(y == ones)  # where the residual branch is zero
    assert 0.2 < dropped.mean() < 0.8
    assert len({mask.tobytes() for mask in dropped}) > 4
    assert (dropped == dropped[:, :1]).all() == tied
    again, _ = train(block, variables, ones, seed=1)
    assert (again != y).any()


class Identity(nn.Module):
    @nn.compact
    def __call__(self, x, *, return_carry, **_):
        return None, x


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_rematerialisation_changes_neither_values_nor_gradients(dropout):
    def loss(block, variables):
        stack = ResidualStack(2, functools.partial(block, MIXER, dropout=dropout))
        (_, y), _ = stack.apply(
            variables, inputs(), None, LENGTHS, None, True,
            mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        return jnp.sum(y**2)

    variables = make(ResidualStack(2, functools.partial(ResidualBlock, MIXER)))
    plain, remat = (
        jax.jit(jax.value_and_grad(functools.partial(loss, block)))(variables)
        for block in (ResidualBlock, RematBlock)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)


@pytest.mark.parametrize("cuts", [[3], list(range(1, T))], ids=["chunks", "steps"])
def test_a_streamed_stack_equals_the_whole_sequence(cuts):
    stack = ResidualStack(2, functools.partial(ResidualBlock, MIXER))
    variables, apply = make(stack), jax.jit(stack.apply)
    whole_carry, whole = apply(variables, inputs())
    carry, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, T]):
        carry, y = apply(variables, inputs()[:, start:stop], carry)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, whole_carry)


def test_a_carry_of_another_depth_is_said():
    stack = ResidualStack(2, functools.partial(ResidualBlock, MIXER))
    with pytest.raises(ValueError, match="initial_carry is of 3 layers; expected 2"):
        stack.apply(make(stack), inputs(), (None,) * 3)


def test_any_flax_rnn_is_a_mixer():
    class Gru(nn.Module):
        @nn.compact
        def __call__(self, x, *, reset=None, **call):
            return nn.RNN(nn.GRUCell(H))(x, **call)

    block = ResidualBlock(Gru)
    carry, y = jax.jit(block.apply)(make(block, None, LENGTHS), inputs(), None, LENGTHS)
    assert (carry.shape, y.shape) == ((B, H), (B, T, H))


@pytest.mark.parametrize("wrong", [{"norm": "group"}, {"glu": "third"}])
@pytest.mark.usefixtures("unchecked_annotations")
def test_unknown_names_are_said(wrong):
    with pytest.raises(ValueError, match="expected"):
        make(ResidualBlock(MIXER, **wrong))
