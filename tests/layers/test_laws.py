"""Laws of all mixers: the contract of a layer that can replace `lru.LRU`."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.baselines import S4D, S5, DenseRNN, DiagonalRNN, GridLSTM
from lru.lattice import Lattice
from lru.models.blocks import ResidualBlock
from lru.models.streaming import stream

B, T, H = 3, 9, 4
U = jax.random.normal(jax.random.key(0), (B, T, H))
LENGTHS = jnp.array([9, 1, 5])
VALID = (jnp.arange(T) < LENGTHS[:, None])[..., None]
SHORT = {"chunk_size": 4}  # so that a sequence has several chunks, and the last is padded

MIXERS = {
    "dense": functools.partial(DenseRNN, 6, "tanh", **SHORT),
    "diagonal": functools.partial(DiagonalRNN, 6, "exp", **SHORT),
    "S4D": functools.partial(S4D, 6, **SHORT),
    "S5": functools.partial(S5, 6, **SHORT),
}


STACKS = {  # one direction only
    "lattice": functools.partial(Lattice, H, 2, order="plain"),
    "grid": functools.partial(GridLSTM, H, 2, order="wavefront"),
}
RECIPES = STACKS | {f"{name}, forward": mixer for name, mixer in MIXERS.items()}
# S5 and the dense layer share the code of the diagonal layer's two directions.
RECIPES |= {
    f"{name}, both ways": functools.partial(MIXERS[name], bidirectional=True)
    for name in ("diagonal", "S4D")
}


@pytest.fixture(params=MIXERS)
def bidirectional_mixer(request):
    return MIXERS[request.param]


@pytest.fixture(params=MIXERS | STACKS)
def mixer(request):
    return (MIXERS | STACKS)[request.param]


@pytest.fixture(params=RECIPES)
def recipe(request):
    return RECIPES[request.param]


@pytest.fixture
def layer(recipe):
    return recipe()


@functools.cache
def init(layer):
    return jax.jit(layer.init)(jax.random.key(1), U)


@functools.cache
def call(layer):
    """`layer.apply` compiled, with its flags static."""
    flags = ("return_carry", "reverse", "keep_order", "time_major")
    return jax.jit(layer.apply, static_argnames=flags)


def some_carry(layer, variables):
    """Returns a carry without zeros, as after earlier steps."""
    return call(layer)(variables, jnp.roll(U, 1, 0), return_carry=True)[0]


def rows(tree, row):
    return jax.tree.map(lambda x: x[row], tree)


def assert_close(got, want, atol=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol), got, want)


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(recipe, reverse):
    """Compares a layer in chunks, if it has any, with an unpadded sequence in one chunk."""
    layer = recipe()
    whole = recipe(chunk_size=0) if hasattr(layer, "chunk_size") else layer
    variables = init(layer)
    flags = dict(reverse=reverse, return_carry=True)
    start, garbage = some_carry(layer, variables), jnp.where(VALID, U, jnp.nan)
    carry, y = call(layer)(variables, garbage, initial_carry=start, seq_lengths=LENGTHS, **flags)
    alone = call(whole)(variables, U[2, :5], initial_carry=rows(start, 2), **flags)
    assert_close((rows(carry, 2), y[2, :5]), alone)
    assert not jnp.where(VALID, 0, y).any()


def test_a_stream_in_chunks_equals_the_whole_sequence(mixer):
    layer = mixer()
    variables = init(layer)
    whole = call(layer)(variables, U, return_carry=True)
    carry, left = call(layer)(variables, U[:, :5], return_carry=True)
    carry, right = call(layer)(variables, U[:, 5:], initial_carry=carry, return_carry=True)
    assert_close((carry, jnp.concatenate([left, right], 1)), whole)
    step, carry = stream(layer, variables, U[:, :1])
    outputs = []
    for t in range(T):
        carry, y = step(carry, U[:, t : t + 1])
        outputs.append(y)
    assert_close((carry, jnp.concatenate(outputs, 1)), whole)


def test_reverse_equals_forward_on_the_mirrored_sequence(layer):
    variables = init(layer)
    mirrored = jnp.stack([u.at[:n].set(u[:n][::-1]) for u, n in zip(U, LENGTHS)])
    options = dict(seq_lengths=LENGTHS, return_carry=True)
    carry, want = call(layer)(variables, mirrored, **options)
    assert_close(call(layer)(variables, U, reverse=True, **options), (carry, want))
    in_order = jnp.stack([y.at[:n].set(y[:n][::-1]) for y, n in zip(want, LENGTHS)])
    got = call(layer)(variables, U, reverse=True, keep_order=True, **options)
    assert_close(got, (carry, in_order))


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_make_one_sequence_a_batch_of_short_ones(layer, reverse):
    variables = init(layer)
    flags = dict(reverse=reverse, keep_order=True)
    short = call(layer)(variables, U, **flags)
    reset = (jnp.arange(B * T) % T == 0)[None]
    packed = call(layer)(variables, U.reshape(1, B * T, H), reset=reset, **flags)
    assert_close(packed, short.reshape(packed.shape))


def test_a_reset_of_all_false_changes_nothing(layer):
    variables = init(layer)
    options = dict(initial_carry=some_carry(layer, variables), seq_lengths=LENGTHS)
    want = call(layer)(variables, U, return_carry=True, **options)
    got = call(layer)(
        variables, U, reset=jnp.zeros((B, T), bool), return_carry=True, **options
    )  # fmt: skip
    assert_close(got, want)


def test_a_reset_at_the_first_step_clears_the_initial_state(mixer):
    layer = mixer()
    variables = init(layer)
    reset = jnp.zeros((B, T), bool).at[:, 0].set(True)
    got = call(layer)(variables, U, initial_carry=some_carry(layer, variables), reset=reset)
    assert_close(got, call(layer)(variables, U))


def test_right_to_left_a_reset_at_the_first_step_clears_the_state_after_it(mixer):
    layer = mixer()
    variables = init(layer)
    reset = jnp.zeros((B, T), bool).at[0, 0].set(True)
    options = dict(reverse=True, return_carry=True)
    carry, y = call(layer)(variables, U, reset=reset, **options)
    want, same = call(layer)(variables, U, **options)
    assert_close((rows(carry, 0), rows(carry, 1), y), (0 * rows(want, 0), rows(want, 1), same))


def test_a_reset_on_padding_changes_nothing(mixer):
    layer = mixer()
    variables = init(layer)
    options = dict(initial_carry=some_carry(layer, variables), seq_lengths=LENGTHS, reverse=True)
    want = call(layer)(variables, U, return_carry=True, **options)
    got = call(layer)(variables, U, reset=~VALID[..., 0], return_carry=True, **options)
    assert_close(got, want)


def test_time_major_and_the_order_of_the_batch_do_not_matter(layer):
    variables = init(layer)
    options = dict(seq_lengths=LENGTHS, initial_carry=some_carry(layer, variables))
    carry, y = call(layer)(variables, U, return_carry=True, **options)
    got = call(layer)(variables, U.swapaxes(0, 1), time_major=True, return_carry=True, **options)
    assert_close(got, (carry, y.swapaxes(0, 1)))
    order = jnp.array([2, 0, 1])
    permuted = call(layer)(variables, U[order], return_carry=True, **rows(options, order))
    assert_close(permuted, rows((carry, y), order))
    assert_close(
        call(layer)(variables, U[:, None], return_carry=True)[1][:, 0], call(layer)(variables, U)
    )


def test_a_bidirectional_layer_sums_both_directions(bidirectional_mixer):
    layer = bidirectional_mixer(bidirectional=True)
    variables = init(layer)
    params = dict(variables["params"])
    other = {name: params.pop(name) for name in list(params) if name.startswith("C2")}
    backward = params | {name.replace("C2", "C"): p for name, p in other.items()}
    backward["D"] = jnp.zeros_like(params["D"])
    unidirectional = call(bidirectional_mixer())
    want = unidirectional({"params": params}, U, return_carry=True)
    back = unidirectional({"params": backward}, U, reverse=True, keep_order=True, return_carry=True)
    got = call(layer)(variables, U, return_carry=True)
    assert_close(got, ((want[0], back[0]), want[1] + back[1]))


def test_gradients_are_finite_and_none_comes_from_padding(layer):
    variables = init(layer)

    def loss(variables, u):
        carry, y = layer.apply(variables, u, seq_lengths=LENGTHS, return_carry=True)
        return jnp.sum(y**2) + sum(jnp.sum(jnp.abs(x) ** 2) for x in jax.tree.leaves(carry))

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    of_parameters, of_inputs = gradient(variables, jnp.where(VALID, U, jnp.nan))
    want, _ = gradient(variables, U)
    assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(of_parameters))
    assert_close(of_parameters, want, atol=1e-4)
    assert not jnp.where(VALID, 0, of_inputs).any()


def test_in_a_block_rematerialisation_changes_neither_values_nor_gradients(recipe):
    def loss(variables, remat):
        block = ResidualBlock(recipe, remat=remat, chunk_size=4)
        carry, y = block.apply(variables, U, seq_lengths=LENGTHS, return_carry=True)
        return jnp.sum(y**2), (carry, y)

    block = ResidualBlock(recipe)
    variables = jax.jit(block.init)(jax.random.key(1), U)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    plain, remat = (gradient(variables, remat) for remat in (False, True))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4), remat, plain)


def test_it_works_in_flax_bidirectional(mixer):
    pair = nn.Bidirectional(mixer(), mixer())
    variables = init(pair)
    got = jax.jit(pair.apply)(variables, U, seq_lengths=LENGTHS)
    halves = [{"params": variables["params"][name]} for name in ("forward_rnn", "backward_rnn")]
    want = [
        call(mixer())(half, U, seq_lengths=LENGTHS, reverse=reverse, keep_order=True)
        for half, reverse in zip(halves, (False, True))
    ]
    assert_close(got, jnp.concatenate(want, -1))


def test_only_one_direction_is_causal(bidirectional_mixer):
    assert bidirectional_mixer().causal and not bidirectional_mixer(bidirectional=True).causal


@pytest.mark.parametrize("name", ["dense", "diagonal", "S5"])
def test_layers_that_run_in_chunks_declare_it(name):
    for chunk_size, chunked in [(0, False), (4, True), (9, False)]:
        layer = MIXERS[name](chunk_size=chunk_size)
        assert layer.rematerialises((9, 1)) == chunked


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise(mixer):
    variables = init(mixer())
    for u, options, words in [
        (U[0, 0], {}, r"expected \(..., T, H\) with T >= 1"),
        (U, {"seq_lengths": jnp.ones(B + 1, int)}, "seq_lengths have shape"),
        (U, {"reset": jnp.zeros((B, T + 1), bool)}, "reset has shape"),
        (U, {"initial_carry": jnp.zeros((B, 77))}, "initial_carry has shape"),
        (U, {"initial_carry": (jnp.zeros((B, 6)),) * 2}, "expected one array"),
    ]:
        with pytest.raises(ValueError, match=words):
            mixer().apply(variables, u, **options)
