"""How layers, cells and models handle types, lengths, resets, states and sizes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import lru
import lru.nnx
from lru.baselines import GRU, LSTM, RHN, S4D, S5, DenseRNN, DiagonalRNN, GridLSTM
from lru.lattice import PSLRU, RGLRU, Lattice, LRUCell, PSLRUCell, RGLRUCell
from lru.layers import gated
from lru.layers.linear import lru_layer, lru_step
from lru.models import LanguageModel, SequenceClassifier, SequenceMatcher
from lru.models.blocks import ResidualBlock, ResidualStack
from lru.models.streaming import stream

pytestmark = pytest.mark.usefixtures("unchecked_annotations")

B, T, H = 3, 5, 4
LAYERS = {
    "LRU": functools.partial(lru.LRU, 6),
    "LRU both ways": functools.partial(lru.LRU, 6, bidirectional=True),
    "LRU in chunks": functools.partial(lru.LRU, 6, chunk_size=2),
    "S5": functools.partial(S5, 4),
    "S5 bilinear": functools.partial(S5, 4, discretization="bilinear", c_init="complex_normal"),
    "S4D": functools.partial(S4D, 4),
    "DiagonalRNN": functools.partial(DiagonalRNN, 4),
    "DenseRNN": functools.partial(DenseRNN, 6),
    "linear DenseRNN": functools.partial(DenseRNN, 6, "linear"),
    "GRU": functools.partial(GRU, H, 2),
    "LSTM": functools.partial(LSTM, H, 2),
    "GridLSTM": functools.partial(GridLSTM, H, 1),
    "RHN": functools.partial(RHN, H, 1),
    "Lattice": functools.partial(Lattice, H, 2),
    "Lattice by wavefront": functools.partial(Lattice, H, 2, order="wavefront"),
    "PSLRU": functools.partial(PSLRU, H, 1),
    "RGLRU": functools.partial(RGLRU, H, 1),
}
CELLS = {
    "LRUCell": functools.partial(lru.LRUCell, 6),
    "lattice.LRUCell": functools.partial(LRUCell, H),
    "PSLRUCell": functools.partial(PSLRUCell, H),
    "RGLRUCell": functools.partial(RGLRUCell, H),
    "GRUCell": functools.partial(gated.GRUCell, H),
    "GRUCell before": functools.partial(gated.GRUCell, H, reset_after=False),
    "LSTMCell": functools.partial(gated.LSTMCell, H),
    "GridLSTMCell": functools.partial(gated.GridLSTMCell, H),
    "RHNCell": functools.partial(gated.RHNCell, H),
}
TYPES = [bool, jnp.int8, jnp.int32, jnp.bfloat16, jnp.float16, jnp.float32]


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


def ones(dtype=jnp.float32, shape=(B, T, H)):
    return jnp.ones(shape, dtype)


def shapes(module, *arguments, **options):
    """Returns the shapes and types of what the module returns, without computing it."""
    call = functools.partial(module.init_with_output, **options)
    return jax.eval_shape(call, jax.random.key(0), *arguments)[0]


def wanted_type(inputs, **options):
    return shapes(nn.Dense(H, **options), inputs).dtype


def assert_types(module, inputs, want, cell=None):
    """Checks for outputs of Flax's type, a state of float32 at least, and a stable carry type."""
    if cell is None:
        carry, y = shapes(module, inputs, return_carry=True)
    else:
        carry = cell.initialize_carry(jax.random.key(0), inputs.shape)
        carry, y = shapes(cell, carry, inputs)
    assert y.dtype == want
    assert all(leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(carry))


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_outputs_of_a_layer_have_the_type_of_flax_layers(layer, dtype, param_dtype):
    want = wanted_type(ones(dtype), param_dtype=param_dtype)
    assert_types(layer(param_dtype=param_dtype), ones(dtype), want)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("name", CELLS)
def test_outputs_of_a_cell_have_the_type_of_flax_cells(name, dtype, param_dtype):
    cell = CELLS[name](param_dtype=param_dtype)
    want = wanted_type(ones(dtype), param_dtype=param_dtype)
    assert_types(None, ones(dtype, (B, H)), want, cell)
    assert shapes(nn.RNN(cell), ones(dtype)).dtype == want


def test_float64_is_preserved_and_an_explicit_type_wins(layer):
    with jax.enable_x64(True):
        assert_types(layer(), ones(jnp.float64), jnp.float64)
        assert_types(layer(), ones(jnp.int64), jnp.float32)
        assert_types(layer(param_dtype=jnp.float64), ones(jnp.float32), jnp.float64)
    assert_types(layer(dtype="bfloat16"), ones(), jnp.bfloat16)
    assert_types(layer(dtype=jnp.float32), ones(jnp.bfloat16), jnp.float32)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_preserves_float64(name):
    with jax.enable_x64(True):
        assert_types(None, ones(jnp.float64, (B, H)), jnp.float64, CELLS[name]())
        assert shapes(nn.RNN(CELLS[name]()), ones(jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize("name", ["LRUCell", "lattice.LRUCell", "LSTMCell"])
def test_integers_and_booleans_mean_the_same_as_floats(name):
    cell = CELLS[name]()
    inputs = jnp.eye(B, H, dtype=jnp.int32)
    carry = cell.initialize_carry(jax.random.key(0), inputs.shape)
    variables = jax.jit(cell.init)(jax.random.key(0), carry, inputs)
    apply = jax.jit(cell.apply)
    want = apply(variables, carry, inputs.astype(jnp.float32))
    assert abs(want[1]).max() > 1e-3
    for dtype in (jnp.int32, bool):
        got = apply(variables, carry, inputs.astype(dtype))
        jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_a_type_other_than_a_real_float_raises(layer, dtype):
    with pytest.raises(ValueError, match=r"[Dd]type"):
        shapes(layer(dtype=dtype), ones())


def gradients(module, *arguments, **options):
    """Returns the shapes of the derivatives by parameters and inputs."""
    variables = jax.eval_shape(module.init, jax.random.key(0), *arguments)

    def loss(params, *arguments):
        outputs = module.apply(variables | {"params": params}, *arguments, **options)
        leaves = jax.tree.leaves(outputs)
        return sum(jnp.sum(jnp.abs(leaf)).astype(jnp.float32) for leaf in leaves)

    jax.eval_shape(jax.grad(loss), variables["params"], *arguments)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("reverse", [False, True])
def test_layers_work_where_promotion_is_strict(layer, dtype, reverse):
    with jax.numpy_dtype_promotion("strict"):
        module = layer(dtype=dtype)
        carry = shapes(module, ones(), return_carry=True)[0]
        carry = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), carry)
        options = dict(reverse=reverse, return_carry=True)
        gradients(module, ones(), **options)
        options |= dict(initial_carry=carry, seq_lengths=jnp.array([5, 0, 2]))
        gradients(module, ones(), **options)
        gradients(module, ones(), reset=jnp.zeros((B, T), bool), **options)


@pytest.mark.parametrize("method", ["auto", "sequential", "associative", "pallas"])
def test_the_recurrence_works_where_promotion_is_strict(method):
    def loss(a, x, h0):
        h, last = lru.linear_recurrence(a, x, h0, reset=jnp.arange(T) == 2, method=method)
        return jnp.sum(jnp.abs(h)) + jnp.sum(jnp.abs(last))

    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.bfloat16, jnp.float32):
            arguments = jnp.ones(H, jnp.complex64), ones(dtype), jnp.ones(H, jnp.float32)
            jax.eval_shape(jax.grad(loss, (0, 1, 2)), *arguments)


@pytest.mark.parametrize("name", CELLS)
def test_cells_work_where_promotion_is_strict(name):
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (None, jnp.bfloat16):
            cell = CELLS[name](dtype=dtype)
            carry = cell.initialize_carry(jax.random.key(0), (B, H))
            gradients(cell, carry, ones(shape=(B, H)))
            gradients(nn.RNN(cell), ones())


MIXER = functools.partial(lru.LRU, 6)
TOKENS = jnp.ones((B, T), jnp.int32)
MODELS = {
    "classifier": (SequenceClassifier, dict(num_classes=2, pooling="mean"), TOKENS),
    "features": (SequenceClassifier, dict(num_classes=2, vocab_size=None, glu="half"), ones()),
    "last": (SequenceClassifier, dict(num_classes=2, norm="layer", pooling="last"), TOKENS),
    "matcher": (SequenceMatcher, dict(num_classes=2), jnp.ones((B, 2, T), jnp.int32)),
    "language": (LanguageModel, dict(), TOKENS),
}


def make_model(name, **options):
    model, own, inputs = MODELS[name]
    return model(**dict(vocab_size=7, d_model=H, num_layers=2, mixer=MIXER) | own | options), inputs


# In bfloat16 Flax's own layer normalization does not work where promotion is strict.
STRICT = [(name, None) for name in MODELS]
STRICT += [(name, jnp.bfloat16) for name in ("classifier", "features", "matcher")]


@pytest.mark.parametrize("name, dtype", STRICT)
def test_models_work_where_promotion_is_strict(name, dtype):
    with jax.numpy_dtype_promotion("strict"):
        for remat in (False, True):
            model, inputs = make_model(name, dtype=dtype, dropout=0.1, remat=remat, chunk_size=2)
            shapes_only = jax.eval_shape(model.init, jax.random.key(0), inputs)
            variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes_only)
            lengths = jnp.full(inputs.shape[: 2 if name == "matcher" else 1], 3)

            def loss(params, model=model, inputs=inputs, variables=variables, lengths=lengths):
                logits, _ = model.apply(
                    variables | {"params": params}, inputs, seq_lengths=lengths, train=True,
                    mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)},
                )  # fmt: skip
                return jnp.sum(logits)

            jax.eval_shape(jax.grad(loss), variables["params"])


def test_the_nnx_layer_works_where_promotion_is_strict_and_has_the_type_of_flax_layers():
    layer = lru.nnx.LRU(H, 6, rngs=nnx.Rngs(0))
    with jax.numpy_dtype_promotion("strict"):
        assert layer(ones()).dtype == jnp.float32
    for dtype in (bool, jnp.int32, jnp.bfloat16):
        assert jax.eval_shape(layer, ones(dtype)).dtype == jnp.float32


@pytest.mark.parametrize(
    "options, words",
    [
        (
            dict(seq_lengths=jnp.array([5.0, 1.0, 2.0])),
            "seq_lengths have dtype float32; expected integers",
        ),
        (dict(seq_lengths=[1.5, 2, 3]), "seq_lengths have dtype float32; expected integers"),
        (
            dict(seq_lengths=np.array([True, False, True])),
            "seq_lengths have dtype bool; expected integers",
        ),
        (dict(seq_lengths=3), r"seq_lengths have shape \(\); expected \(3,\)"),
        (dict(seq_lengths=[1, 2]), r"seq_lengths have shape \(2,\); expected \(3,\)"),
        (dict(seq_lengths=[[1], [2], [3]]), r"seq_lengths have shape \(3, 1\); expected \(3,\)"),
        (dict(seq_lengths="abc"), "seq_lengths is a str; expected an array of numbers"),
        (dict(seq_lengths=[[1], [2, 3]]), "seq_lengths is a list; expected an array of numbers"),
        (dict(reset=True), r"reset has shape \(\); expected \(3, 5\)"),
        (dict(reset=jnp.zeros(T)), r"reset has shape \(5,\); expected \(3, 5\)"),
        (dict(reset=jnp.zeros((T, B), bool)), r"reset has shape \(5, 3\); expected \(3, 5\)"),
        (dict(reset=jnp.zeros((B, T, 1))), r"reset has shape \(3, 5, 1\); expected \(3, 5\)"),
        (
            dict(reset=jnp.zeros((B, T), complex)),
            "reset has dtype complex64; expected True or False",
        ),
        (dict(initial_carry=np.zeros((B, 99))), "initial_carry"),
        (dict(initial_carry=np.zeros((7, 1, 1, 1, 1))), "initial_carry"),
        (dict(initial_carry="abc"), "initial_carry is a str; expected"),
        (dict(initial_carry={}), "initial_carry is a dict; expected"),
        (dict(initial_carry=(None, 1, 2)), "initial_carry is a tuple of .; expected"),
    ],
    ids=str,
)
def test_invalid_arguments_raise_the_same_error_in_all_layers(layer, options, words):
    with pytest.raises(ValueError, match=words):
        shapes(layer(), ones(), **options)


@pytest.mark.parametrize(
    "inputs, words",
    [
        (jnp.ones((B, T, H), jnp.complex64), "inputs have dtype complex64; expected real numbers"),
        (jnp.ones(H), r"inputs have shape \(4,\); expected"),
        (jnp.ones(()), r"inputs have shape \(\); expected"),
        (jnp.ones((B, 0, H)), r"inputs have shape \(3, 0, 4\); expected .* with T >= 1"),
        (jnp.ones((B, T, 0)), "at least 1|expected .* H = 4"),
        ("abc", "inputs is a str; expected an array of numbers"),
        (None, "inputs is a NoneType; expected an array of numbers"),
    ],
    ids=["complex", "one axis", "no axis", "no time", "no width", "text", "none"],
)
def test_invalid_inputs_raise_the_same_error_in_all_layers(layer, inputs, words):
    with pytest.raises(ValueError, match=words):
        layer().init_with_output(jax.random.key(0), inputs)


@pytest.mark.parametrize("name", ["DenseRNN", "GRU", "Lattice"])
def test_a_complex_state_of_a_real_layer_raises(name):
    layer = LAYERS[name]()
    carry = shapes(layer, ones(), return_carry=True)[0]
    with pytest.raises(
        ValueError, match="initial_carry has dtype complex64; expected real numbers"
    ):
        shapes(layer, ones(), initial_carry=jnp.zeros(carry.shape, jnp.complex64))


@pytest.mark.parametrize("name", CELLS)
def test_complex_inputs_of_a_cell_raise(name):
    cell = CELLS[name]()
    carry = cell.initialize_carry(jax.random.key(0), (B, H))
    with pytest.raises(ValueError, match="inputs have dtype complex64; expected real numbers"):
        shapes(cell, carry, ones(jnp.complex64, (B, H)))


@functools.cache
def call(name, reverse):
    """`call(name, reverse)(**options)`: the layer's carry and outputs, compiled."""
    module, inputs = LAYERS[name](), jax.random.normal(jax.random.key(1), (B, T, H))
    variables = jax.jit(module.init)(jax.random.key(0), inputs)

    def apply(**options):  # called outside `jit`, to pass NumPy arrays and lists
        return module.apply(variables, inputs, return_carry=True, reverse=reverse, **options)

    return apply


@pytest.mark.parametrize("name", ["LRU", "Lattice", "S4D"])
def test_lengths_and_resets_of_any_kind_mean_the_same(name):
    apply = call(name, True)
    resets = np.zeros((B, T), bool)
    resets[0, 2] = resets[2, 0] = True
    want = apply(seq_lengths=jnp.array([5, 0, 2]), reset=jnp.array(resets))
    for lengths, reset in [
        ([5, 0, 2], resets.tolist()),
        (np.array([99, -3, 2]), resets.astype(np.float32)),
        (jnp.array([5, 0, 2], jnp.uint8), jnp.asarray(resets, jnp.int32)),
        (np.array([2**40, 0, 2]), np.where(resets, 0.5, -0.0)),
        ((127, -128, 2), jnp.asarray(resets, jnp.bfloat16)),
    ]:
        got = apply(seq_lengths=lengths, reset=reset)
        jax.tree.map(np.testing.assert_array_equal, got, want)


def test_int8_lengths_reach_the_end_of_a_long_sequence():
    layer, u = lru.LRU(2), jnp.ones((1, 300, 1))
    variables = jax.jit(layer.init)(jax.random.key(0), u)
    short = layer.apply(variables, u, seq_lengths=jnp.array([100], jnp.int8))
    assert (short[0, :, 0] != 0).sum() == 100


def test_states_may_be_numpy_arrays_lists_and_numbers():
    apply = call("LRU", False)
    want = apply(initial_carry=jnp.zeros((B, 6), jnp.complex64))
    for carry in (np.zeros((B, 6)), np.zeros(6, np.int32), 0.0, np.zeros((1, 6), bool)):
        jax.tree.map(np.testing.assert_array_equal, apply(initial_carry=carry), want)
    pair = [np.ones((B, 6)).tolist(), np.ones(6)]
    assert shapes(LAYERS["LRU both ways"](), ones(), initial_carry=pair).shape == (B, T, H)


def test_the_recurrence_takes_lists_and_raises_for_other_objects():
    h, last = lru.linear_recurrence([0.5], [[1], [1], [1]], [4], reset=[0, 0.5, 0])
    np.testing.assert_allclose(h[:, 0], [3, 1, 1.5])
    assert last.tolist() == [1.5]
    x = jnp.ones((5, 2))
    for wrong, words in [
        (dict(a=0.5, x=x), r"a has shape \(\), which does not fit"),
        (dict(a="abc", x=x), "a is a str; expected an array of numbers"),
        (dict(a=[0.5, 0.5], x=[[1], [1, 2]]), "x is a list; expected an array of numbers"),
        (dict(a=[0.5, 0.5], x=x, h0=1.0), r"h0 has shape \(\)"),
        (dict(a=[0.5, 0.5], x=x, h0=None, reset=True), r"reset has shape \(\)"),
        (
            dict(a=[0.5, 0.5], x=x, reset=[0j] * 5),
            "reset has dtype complex64; expected True or False",
        ),
        (dict(a=jax.random.key(0), x=x), "expected numbers"),
    ]:
        with pytest.raises(ValueError, match=words):
            lru.linear_recurrence(**wrong)


def test_a_misspelt_option_names_the_function_that_was_called():
    params = {"B_re": jnp.ones((6, H))}
    message = r"^lru_layer\(\) got an unexpected .* 'initial_cary'; did you mean 'initial_carry'\?$"
    with pytest.raises(TypeError, match=message):
        lru_layer(params, ones(), initial_cary=0)
    with pytest.raises(TypeError, match="Mixer.__call__.. got .* 'seq_length'"):
        shapes(lru.LRU(6), ones(), seq_length=0)


def test_the_step_takes_numpy_arrays():
    params = jax.jit(lru.LRU(6).init)(jax.random.key(0), ones())["params"]
    carry, y = lru_step(params, np.zeros((B, 6)), np.ones((B, H), int))
    assert (carry.dtype, y.dtype) == (jnp.complex64, jnp.float32)


@pytest.mark.parametrize("maker", [lru.LRU, S5, S4D, DiagonalRNN, DenseRNN])
@pytest.mark.parametrize("d_state", [0, -2, 2.5, float("nan"), None])
def test_an_invalid_state_size_raises(maker, d_state):
    with pytest.raises(ValueError, match=f"d_state={d_state}"):
        shapes(maker(d_state), ones())


@pytest.mark.parametrize("maker", [lru.LRU, DiagonalRNN, lru.LRUCell])
@pytest.mark.parametrize(
    "options",
    [
        dict(max_phase=float("inf")), dict(max_phase=float("nan")), dict(max_phase=0),
        dict(r_min=0.9, r_max=0.5), dict(r_min=float("nan")), dict(r_max=float("nan")),
        dict(r_max=float("inf")), dict(r_min=-0.1), dict(r_min=1.0),
    ],
    ids=str,
)  # fmt: skip
def test_eigenvalues_that_cannot_be_drawn_raise(maker, options):
    arguments = [jnp.zeros((B, 4)), ones(shape=(B, H))] if maker is lru.LRUCell else [ones()]
    with pytest.raises(ValueError, match="|".join(options) + ".*; expected"):
        shapes(maker(4, **options), *arguments)
    with pytest.raises(ValueError, match="|".join(options) + ".*; expected"):
        lru.nnx.LRU(H, 4, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("maker", [S5, S4D])
@pytest.mark.parametrize("dt_min, dt_max", [(0.1, 0.01), (0, 1), (0.1, np.inf), (np.nan, 1)])
def test_step_sizes_that_cannot_be_drawn_raise(maker, dt_min, dt_max):
    with pytest.raises(ValueError, match="expected 0 < dt_min <= dt_max"):
        shapes(maker(4, dt_min=dt_min, dt_max=dt_max), ones())


@pytest.mark.parametrize("chunk_size", [-1, 2.5, float("nan")])
def test_an_invalid_chunk_size_raises(chunk_size):
    with pytest.raises(ValueError, match=f"chunk_size={chunk_size}; expected a positive number"):
        shapes(lru.LRU(4, chunk_size=chunk_size), ones())


@pytest.mark.parametrize("stack", [GRU, LSTM, GridLSTM, RHN, Lattice])
@pytest.mark.parametrize("features, num_layers", [(0, 1), (H, 0), (H, 1.5)])
def test_an_invalid_stack_size_raises(stack, features, num_layers):
    with pytest.raises(
        ValueError, match="(features|num_layers)=.*; expected a whole number of at least 1"
    ):
        shapes(stack(features, num_layers), ones())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("option", ["d_model", "num_layers", "vocab_size", "num_classes"])
def test_an_invalid_model_size_raises(name, option):
    if (name, option) != ("language", "num_classes"):
        with pytest.raises(ValueError, match=f"{option}=0; expected a whole number of at least 1"):
            make_model(name, **{option: 0})


def test_empty_batches_and_widths_work_in_all_methods(layer):
    options = dict(seq_lengths=jnp.zeros(0, int), reset=jnp.zeros((0, T), bool))
    for more in ({}, options):
        assert shapes(layer(), ones(shape=(0, T, H)), **more).shape == (0, T, H)


@pytest.mark.parametrize("method", ["auto", "sequential", "associative"])
@pytest.mark.parametrize("shape", [(0, T, H), (B, T, 0), (0, T, 0), (2, 0, T, 3)], ids=str)
def test_the_recurrence_of_an_empty_array_is_empty(method, shape):
    h, last = lru.linear_recurrence(
        jnp.ones(shape[-1]), jnp.ones(shape), reset=jnp.zeros(T, bool), method=method
    )
    assert (h.shape, last.shape) == (shape, (*shape[:-2], shape[-1]))


@pytest.mark.parametrize("name", MODELS)
def test_models_take_empty_batches(name):
    model, inputs = make_model(name, remat=True, chunk_size=2)
    assert shapes(model, inputs[:0]).shape[0] == 0


BATCH, TIME = export.symbolic_shape("batch, time")


def exported(module, inputs, *symbols, **options):
    """Returns the program for inputs with those leading axes, and the parameters."""
    variables = jax.jit(module.init)(jax.random.key(0), inputs)
    shape = jax.ShapeDtypeStruct((*symbols, *inputs.shape[len(symbols) :]), inputs.dtype)
    call = functools.partial(module.apply, **options)
    return export.export(jax.jit(call))(jax.tree.map(like, variables), shape), variables


def like(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


@pytest.mark.parametrize("symbols", [(BATCH,), (BATCH, TIME)], ids=["batch", "batch and time"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_layer_exports_for_any_batch_and_time(layer, symbols, reverse):
    module = layer(reverse=reverse)
    variables = jax.eval_shape(module.init, jax.random.key(0), ones())
    shape = (*symbols, *ones().shape[len(symbols) :])

    def call(variables, inputs, lengths, reset):
        return module.apply(variables, inputs, seq_lengths=lengths, reset=reset)

    arguments = (
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(shape[:1], jnp.int32),
        jax.ShapeDtypeStruct(shape[:2], bool),
    )
    (outputs,) = export.export(jax.jit(call))(variables, *arguments).out_avals
    assert outputs.shape == shape


@pytest.mark.parametrize("name", ["LRU", "S5", "S4D"])
def test_an_exported_layer_equals_the_layer(name):
    module = LAYERS[name]()
    for symbols in [(BATCH,), (BATCH, TIME)]:
        program, variables = exported(module, ones(), *symbols)
        u = jax.random.normal(jax.random.key(1), (7, T, H))
        want = jax.jit(module.apply)(variables, u)
        np.testing.assert_allclose(program.call(variables, u), want, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_exports_for_any_batch(name):
    model, inputs = make_model(name, remat=True, chunk_size=2)
    program, _ = exported(model, inputs, BATCH)
    assert program.out_avals[0].shape[0] == BATCH


def test_gradients_export_for_any_batch():
    layer, shape = lru.LRU(6), jax.ShapeDtypeStruct((BATCH, 50, H), jnp.float32)
    variables = jax.eval_shape(layer.init, jax.random.key(0), ones())
    gradient = jax.jit(jax.grad(lambda variables, u: layer.apply(variables, u).sum()))
    assert export.export(gradient)(variables, shape).out_avals


@pytest.mark.parametrize(
    "method, shape",
    [("associative", (BATCH, TIME, H)), ("pallas", (BATCH, T, H))],
)
def test_exporting_a_method_that_needs_sizes_raises(method, shape):
    def solve(x):
        return lru.linear_recurrence(jnp.ones(H), x, method=method)

    with pytest.raises(ValueError, match=f"method='{method}' needs known sizes"):
        export.export(jax.jit(solve))(jax.ShapeDtypeStruct(shape, jnp.float32))


def test_an_instance_equals_a_factory():
    """The instance does not change, and each block has its own parameters."""
    mixer, block = lru.LRU(6, r_min=0.5), ResidualBlock(lru.LRU(6, r_min=0.5))
    factory = functools.partial(lru.LRU, 6, r_min=0.5)
    pairs = [(make_model(name, mixer=mixer), make_model(name, mixer=factory)) for name in MODELS]
    x = ones(shape=(T, B, H))
    pairs.append(((ResidualBlock(mixer), x), (ResidualBlock(factory), x)))
    blocks = functools.partial(ResidualBlock, factory)
    pairs.append(((ResidualStack(2, block), x), (ResidualStack(2, blocks), x)))
    cell, unit = Lattice(H, 2, unit=PSLRUCell(99)), Lattice(H, 2, unit=PSLRUCell)
    pairs.append(((cell, ones()), (unit, ones())))
    for pair in pairs:
        got, want = (
            jax.eval_shape(module.init, jax.random.key(0), inputs) for module, inputs in pair
        )
        assert got == want
    assert mixer.parent is None and mixer.name is None


def test_an_instance_with_a_module_inside_is_copied_too():
    """It may be any Flax layer, even if its call takes no resets."""
    for mixer in (nn.RNN(nn.GRUCell(H)), functools.partial(nn.RNN, nn.GRUCell(H))):
        model, tokens = make_model("classifier", mixer=mixer, norm="layer")
        variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
        for layer in range(2):  # Flax would share the cell's parameters
            assert "cell" in variables["params"]["stack"][f"blocks_{layer}"]["mixer"]


@pytest.mark.parametrize(
    "mixer",
    [
        None, 4, "lru:LRU", lru.nnx.LRU, functools.partial(lru.nnx.LRU, H, 6), lru.LRUCell(6),
        functools.partial(nn.GRUCell, 4),
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_factory_raises(mixer):
    words = "expected a Flax Linen layer such as lru.LRU"
    makers = [
        functools.partial(ResidualBlock, mixer),
        functools.partial(ResidualStack, 2, mixer),
        functools.partial(SequenceClassifier, 2, H, 1, mixer),
        functools.partial(SequenceMatcher, 2, H, 1, mixer),
    ]
    makers += [functools.partial(LanguageModel, 7, H, mixer, 1)] if mixer is not None else []
    for make in makers:
        with pytest.raises(ValueError, match=words):
            make()


def test_an_nnx_instance_as_a_mixer_raises():
    layer = lru.nnx.LRU(H, 6, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"mixer is a lru.nnx.linear.LRU; expected a Flax Linen layer"
    ):
        SequenceClassifier(2, H, 1, layer)


def test_a_unit_from_another_package_raises():
    with pytest.raises(ValueError, match="unit makes a GRUCell; expected a TwoWayCell, such as"):
        shapes(Lattice(H, 1, unit=nn.GRUCell), ones())


ATTRIBUTES = [
    dict(reverse=True), dict(return_carry=True), dict(time_major=True),
    dict(reverse=True, keep_order=True), dict(reverse=True, return_carry=True, time_major=True),
]  # fmt: skip


@pytest.mark.parametrize("options", ATTRIBUTES, ids=str)
def test_options_of_the_call_may_be_attributes_as_in_flax(options):
    """Arguments of the call override them."""
    u = jax.random.normal(jax.random.key(0), (B, T, H))
    variables = jax.jit(lru.LRU(6).init)(jax.random.key(0), u)
    want = lru.LRU(6).apply(variables, u, **options)
    layer = lru.LRU(6, **options)
    jax.tree.map(np.testing.assert_array_equal, layer.apply(variables, u), want)
    others = {name: False for name in options}
    plain = lru.LRU(6).apply(variables, u)
    np.testing.assert_array_equal(layer.apply(variables, u, **others), plain)
    flax = nn.RNN(lru.LRUCell(6), **options).apply({"params": {"cell": variables["params"]}}, u)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-5), want, flax)
    native = lru.nnx.LRU(H, 6, **options, rngs=nnx.Rngs(0))
    nnx.update(native, variables["params"])
    jax.tree.map(np.testing.assert_array_equal, native(u), want)


def test_every_layer_has_the_attributes_and_is_not_causal_in_reverse(layer):
    carry, y = shapes(layer(return_carry=True, time_major=True), ones(shape=(T, B, H)))
    assert y.shape == (T, B, H) and jax.tree.leaves(carry)[0].shape[0] == B
    assert not layer(reverse=True).causal


def test_a_block_with_a_reversed_mixer_does_not_run_in_chunks():
    class Claims(nn.Module):
        causal = True
        reverse: bool = True

        @nn.compact
        def __call__(self, x, **_):
            return None, jnp.flip(x, 0)

    x = jax.random.normal(jax.random.key(0), (B, T, H))
    plain, chunked = (ResidualBlock(Claims, remat=r, chunk_size=2) for r in (False, True))
    variables = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(chunked.apply(variables, x), plain.apply(variables, x))


def test_a_layer_with_time_first_or_right_to_left_cannot_be_streamed():
    for options, words in [
        (dict(time_major=True), "time_major is True; expected False"),
        (dict(reverse=True), "causal is False; expected True"),
    ]:
        with pytest.raises(ValueError, match=words):
            stream(lru.LRU(6, **options), {}, ones())


def test_invalid_arguments_of_models_raise():
    for name, (_, _, inputs) in MODELS.items():
        model, _ = make_model(name)
        batch = inputs.shape[: 2 if name == "matcher" else 1]
        for options, words in [
            (
                dict(seq_lengths=jnp.ones(batch)),
                "seq_lengths have dtype float32; expected integers",
            ),
            (dict(seq_lengths=7), "seq_lengths have shape"),
            (dict(reset=jnp.ones(2)), "reset has shape"),
            (dict(initial_carry=jnp.ones(2)), "initial_carry is a ArrayImpl; expected"),
        ]:
            with pytest.raises(ValueError, match=words):
                shapes(model, inputs, **options)
        with pytest.raises(ValueError, match="inputs have shape .*; expected"):
            shapes(model, jnp.ones((B,) * 5, jnp.int32))


def test_models_take_lists_numpy_arrays_and_float_resets():
    model, tokens = make_model("classifier")
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    resets = np.zeros((B, T))
    resets[1, 2] = 1.0
    options = dict(seq_lengths=jnp.array([5, 0, 2]), reset=jnp.asarray(resets, bool))
    want = model.apply(variables, tokens, **options)
    got = model.apply(variables, np.asarray(tokens), seq_lengths=[9, -1, 2], reset=resets.tolist())
    np.testing.assert_array_equal(got, want)


def test_a_pooled_carry_does_not_count_negative_lengths():
    model, tokens = make_model("classifier")
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    carry, _ = model.apply(variables, tokens, seq_lengths=[-7] * B, return_carry=True)
    got = model.apply(variables, tokens, initial_carry=carry)
    np.testing.assert_array_equal(got, model.apply(variables, tokens))


def test_a_language_model_with_a_mixer_alone_raises():
    for mixer in (functools.partial(lru.LRU, H), lru.LRU(H), DenseRNN(H)):
        with pytest.raises(ValueError, match="num_layers=None; expected the number of residual"):
            shapes(LanguageModel(7, H, mixer), TOKENS)
    with pytest.raises(ValueError, match="mixer and stack are both None; give one of them"):
        shapes(LanguageModel(7, H), TOKENS)
    for option in (dict(num_layers=2), dict(mixer=lru.LRU(H)), dict(dropout=0.1)):
        with pytest.raises(ValueError, match="is an option of residual blocks"):
            shapes(LanguageModel(7, H, stack=Lattice(H, 2), **option), TOKENS)


def test_a_stack_as_the_mixer_of_a_stored_config_is_the_stack():
    """Configs, records and exports of version 0.1.0 contain it."""
    stored = LanguageModel(7, H, mixer=functools.partial(Lattice, H, num_layers=2))
    for stack in (Lattice(H, 2), functools.partial(Lattice, H, 2)):
        model = LanguageModel(7, H, stack=stack)
        assert model.causal and stored.causal
        want, got = (
            jax.jit(module.init_with_output)(jax.random.key(0), TOKENS)
            for module in (stored, model)
        )
        jax.tree.map(np.testing.assert_array_equal, got, want)
    one_layer = LanguageModel(7, H, stack=lru.LRU(6))  # any layer may be given as a stack
    assert shapes(one_layer, TOKENS).shape == (B, T, 7)
