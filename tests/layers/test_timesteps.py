"""Laws of steps that are not evenly spaced, against a float64 loop that discretizes every step."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import lru
import lru.nnx
from lru.baselines import GRU, S4D, S5, DenseRNN, DiagonalRNN
from lru.lattice import Lattice
from lru.layers.linear import lru_directions, lru_layer, lru_step
from lru.layers.mixers import over_time
from lru.models.streaming import stream

B, T, H, N = 3, 9, 4, 4
U = jax.random.normal(jax.random.key(0), (B, T, H))
DT = jnp.exp(jax.random.normal(jax.random.key(1), (B, T)))
LENGTHS = jnp.array([9, 1, 5])
VALID = jnp.arange(T) < LENGTHS[:, None]
LARGE = dict(dt_min=0.05, dt_max=0.5)  # so that a duration changes a step noticeably

LAYERS = {
    "LRU": functools.partial(lru.LRU, N),
    "exp": functools.partial(DiagonalRNN, N, "exp"),
    "stable_exp": functools.partial(DiagonalRNN, N, "stable_exp"),
    "S5": functools.partial(S5, N, **LARGE),
    "S5 bilinear": functools.partial(S5, N, discretization="bilinear", **LARGE),
    "S4D": functools.partial(S4D, N, **LARGE),
    "S4D bilinear": functools.partial(S4D, N, discretization="bilinear", **LARGE),
}
LAWS = ("LRU", "S5", "S4D")  # the others differ from these by their discretization alone
IMPULSES = ("LRU", "exp", "stable_exp")  # the input of a step does not depend on its duration
OTHERS = {
    "real_imag": functools.partial(DiagonalRNN, N, "real_imag"),
    "dense": functools.partial(DenseRNN, N),
    "GRU": functools.partial(GRU, H, 1),
    "lattice": functools.partial(Lattice, H, 2),
}


@pytest.fixture(params=LAWS)
def name(request):
    return request.param


@pytest.fixture
def layer(name):
    return make(name)


@functools.cache
def make(name, **options):
    """A layer in chunks of 4 steps, of which the last is padded."""
    return LAYERS[name](**{"chunk_size": 4} | options)


@functools.cache
def init(layer):
    return jax.jit(layer.init)(jax.random.key(1), U)


@functools.cache
def call(layer):
    """`layer.apply` compiled, with its flags static."""
    flags = ("return_carry", "reverse", "keep_order", "time_major")
    return jax.jit(layer.apply, static_argnames=flags)


def some_carry(layer):
    return call(layer)(init(layer), jnp.roll(U, 1, 0), return_carry=True)[0]


def assert_close(got, want, atol=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol, rtol=1e-5), got, want)


def rates(name, p):
    """Returns the eigenvalues in continuous time, and the size of the regular step."""
    if name.startswith("S5"):
        return p["Lambda_re"] + 1j * p["Lambda_im"], np.exp(p["log_step"])
    if name.startswith("S4D"):
        return -np.exp(p["nu_log"]) + 1j * p["Lambda_im"], np.exp(p["log_step"])[:, None]
    nu = p["nu"] if name == "exp" else np.exp(p["nu_log"])
    return -nu + 1j * (np.exp(p["theta_log"]) if name == "LRU" else p["theta"]), 1.0


def discretized(name, lam, step):
    """Returns the factors of the state and of the input for a step of this size."""
    if name in IMPULSES:
        return np.exp(lam * step), 1.0
    if name.endswith("bilinear"):
        return (1 + lam * step / 2) / (1 - lam * step / 2), step / (1 - lam * step / 2)
    return np.exp(lam * step), (np.exp(lam * step) - 1) / lam


def loop(name, p, u, timesteps, h):
    """Runs one sequence u (T, H) in complex128, and returns the last state and the outputs."""
    lam, step = rates(name, p)
    c, outputs = p["C_re"] + 1j * p["C_im"], []
    for u_k, t in zip(u, timesteps):
        a, scale = discretized(name, lam, step * t)
        if name.startswith("S4D"):
            h = a * h + scale * u_k[:, None]
            y = 2 * (c * h).real.sum(-1)
        else:
            gamma = np.exp(p["gamma_log"]) if name == "LRU" else 1.0
            h = a * h + gamma * scale * ((p["B_re"] + 1j * p["B_im"]) @ u_k)
            y = (1 if name in IMPULSES else 2) * (c @ h).real
        outputs.append(y + p["D"] * u_k)
    return h, np.stack(outputs)


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_equal_the_float64_loop(name, slopes):
    """The gradients are those by parameters, inputs, timesteps and the initial carry."""
    layer = make(name)
    params, u, timesteps = init(layer)["params"], U[:1, :6], DT[:1, :6]
    weight = np.asarray(jax.random.normal(jax.random.key(2), u.shape))
    carry = some_carry(layer)[:1]
    values = dict(params) | {"u": u, "t": timesteps, "re": carry.real, "im": carry.imag}

    def run(values):
        p = {key: values[key] for key in params}
        h, y = layer.apply(
            {"params": p}, values["u"], timesteps=values["t"], return_carry=True,
            initial_carry=jax.lax.complex(values["re"], values["im"]),
        )  # fmt: skip
        return jnp.sum(weight * y) + jnp.sum(h.real + 2 * h.imag), (h, y)

    def by_hand(v):
        return loop(name, v, v["u"][0], v["t"][0], v["re"][0] + 1j * v["im"][0])

    def loss(v):
        h, y = by_hand(v)
        return np.sum(weight[0] * y) + np.sum(h.real + 2 * h.imag)

    (_, (h, y)), gradients = jax.jit(jax.value_and_grad(run, has_aux=True))(values)
    assert_close((h[0], y[0]), by_hand(jax.tree.map(np.float64, values)))
    want = slopes(loss, values)
    assert abs(want["t"]).max() > 1e-2
    assert_close(gradients, want, atol=5e-4)


@pytest.mark.parametrize("method", ["associative", "pallas"])
@pytest.mark.parametrize("name", ["LRU", "S5"])
def test_every_method_gives_the_same_values_and_gradients(name, method):
    def run(layer):
        def loss(variables, u, timesteps):
            h, y = layer.apply(variables, u, timesteps=timesteps, reverse=True, return_carry=True)
            return jnp.sum(y**2) + jnp.sum(jnp.abs(h) ** 2), (h, y)

        gradient = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
        return jax.jit(gradient)(init(make(name)), U, DT)

    assert_close(run(make(name, method=method)), run(make(name)), atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_ones_change_nothing(layer, reverse):
    options = dict(initial_carry=some_carry(layer), seq_lengths=LENGTHS, return_carry=True)
    options |= dict(reset=jnp.zeros((B, T), bool).at[:, 3].set(True), reverse=reverse)
    got = call(layer)(init(layer), U, timesteps=jnp.ones((B, T)), **options)
    assert_close(got, call(layer)(init(layer), U, **options))


@pytest.mark.parametrize("name", ["LRU", "exp"])
def test_a_step_of_duration_two_is_a_step_without_input_and_then_a_step(name):
    layer, every_other = make(name), jnp.zeros((B, 2 * T, H)).at[:, 1::2].set(U)
    carry, y = call(layer)(init(layer), every_other, return_carry=True)
    got = call(layer)(init(layer), U, timesteps=jnp.full((B, T), 2.0), return_carry=True)
    assert_close(got, (carry, y[:, 1::2]))


@pytest.mark.parametrize("name", ["LRU", "exp"])
def test_two_steps_at_the_same_time_are_one_step_with_the_sum_of_their_inputs(name):
    layer, twice = make(name), jnp.repeat(U, 2, axis=1)
    timesteps = jnp.tile(jnp.array([1.0, 0.0]), (B, T))
    carry, y = call(layer)(init(layer), 2 * U, return_carry=True)
    got = call(layer)(init(layer), twice, timesteps=timesteps, return_carry=True)
    assert_close(got[0], carry)
    skip = init(layer)["params"]["D"] * U  # of the second step alone
    assert_close(got[1][:, 1::2] + skip, y)


@pytest.mark.parametrize("name", ["S5", "S4D"])
def test_a_step_of_duration_two_is_two_steps_with_the_same_input(name):
    layer = make(name)
    carry, y = call(layer)(init(layer), jnp.repeat(U, 2, axis=1), return_carry=True)
    got = call(layer)(init(layer), U, timesteps=jnp.full((B, T), 2.0), return_carry=True)
    assert_close(got, (carry, y[:, 1::2]))


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(layer, reverse):
    """NaN on the padding of inputs and timesteps reaches neither values nor gradients."""
    u, timesteps = jnp.where(VALID[..., None], U, jnp.nan), jnp.where(VALID, DT, jnp.nan)
    start = some_carry(layer)

    def loss(variables, u, timesteps, start, lengths):
        options = dict(initial_carry=start, seq_lengths=lengths, reverse=reverse)
        h, y = layer.apply(variables, u, timesteps=timesteps, return_carry=True, **options)
        return jnp.sum(y**2) + jnp.sum(jnp.abs(h) ** 2), (h, y)

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))
    (_, (h, y)), got = gradient(init(layer), u, timesteps, start, LENGTHS)
    (_, (h_row, y_row)), want = gradient(init(layer), U[2:, :5], DT[2:, :5], start[2:], None)
    assert_close((h[2:], y[2:, :5]), (h_row, y_row))
    assert_close([g[2] for g in got[1:]], [g[0] if g.shape[0] == 1 else g for g in (
        jnp.pad(want[1], ((0, 0), (0, 4), (0, 0))), jnp.pad(want[2], ((0, 0), (0, 4))), want[3],
    )], atol=1e-4)  # fmt: skip
    (_, _), clean = gradient(init(layer), U, DT, start, LENGTHS)
    assert_close(got, clean, atol=1e-4)


def test_a_stream_in_chunks_equals_the_whole_sequence(layer):
    variables, whole = init(layer), call(layer)(init(layer), U, timesteps=DT, return_carry=True)
    carry, left = call(layer)(variables, U[:, :5], timesteps=DT[:, :5], return_carry=True)
    carry, right = call(layer)(
        variables, U[:, 5:], timesteps=DT[:, 5:], initial_carry=carry, return_carry=True
    )
    assert_close((carry, jnp.concatenate([left, right], 1)), whole)
    step, carry = stream(layer, variables, U[:, :1])
    outputs = []
    for k in range(T):
        carry, y = step(carry, U[:, k : k + 1], DT[:, k : k + 1])
        outputs.append(y)
    assert_close((carry, jnp.concatenate(outputs, 1)), whole)


def test_a_reverse_stream_equals_the_whole_sequence(layer):
    """The first timestep of the right chunk is the time to the carry's step of the left chunk."""
    flags = dict(reverse=True, keep_order=True, return_carry=True)
    variables, whole = init(layer), call(layer)(init(layer), U, timesteps=DT, **flags)
    timesteps = DT[:, 4:].at[:, 0].set(DT[:, 0])  # there is no carry before the right chunk
    carry, right = call(layer)(variables, U[:, 4:], timesteps=timesteps, **flags)
    timesteps = DT[:, :4].at[:, 0].set(DT[:, 4])
    carry, left = call(layer)(
        variables, U[:, :4], timesteps=timesteps, initial_carry=carry, **flags
    )  # fmt: skip
    assert_close((carry, jnp.concatenate([left, right], 1)), whole)


def test_reverse_equals_forward_on_the_mirrored_sequence_with_its_gaps(layer):
    variables, start = init(layer), some_carry(layer)
    rows = list(zip(U, DT, LENGTHS.tolist()))
    mirrored = jnp.stack([u.at[:n].set(u[:n][::-1]) for u, _, n in rows])
    gaps = jnp.stack([t.at[1:n].set(t[1:n][::-1]) for _, t, n in rows])
    options = dict(seq_lengths=LENGTHS, initial_carry=start, return_carry=True)
    carry, want = call(layer)(variables, mirrored, timesteps=gaps, **options)
    assert_close(call(layer)(variables, U, timesteps=DT, reverse=True, **options), (carry, want))
    in_order = jnp.stack([y.at[:n].set(y[:n][::-1]) for y, (_, _, n) in zip(want, rows)])
    got = call(layer)(variables, U, timesteps=DT, reverse=True, keep_order=True, **options)
    assert_close(got, (carry, in_order))


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_make_one_sequence_a_batch_of_short_ones(layer, reverse):
    flags = dict(reverse=reverse, keep_order=True)
    timesteps = DT.at[:, 0].set(DT[0, 0])  # in reverse, the timestep of the next reset is taken
    short = call(layer)(init(layer), U, timesteps=timesteps, **flags)
    reset = (jnp.arange(B * T) % T == 0)[None]
    packed = call(layer)(
        init(layer),
        U.reshape(1, B * T, H),
        reset=reset,
        timesteps=timesteps.reshape(1, -1),
        **flags,
    )
    assert_close(packed, short.reshape(packed.shape))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["LRU"])
def test_no_time_passes_at_a_reset(name, reverse):
    layer, reset = make(name), jnp.zeros((B, T), bool).at[:, 4].set(True)
    options = dict(reset=reset, reverse=reverse, return_carry=True)
    got = call(layer)(init(layer), U, timesteps=DT.at[:, 4].set(1e3), **options)
    assert_close(got, call(layer)(init(layer), U, timesteps=DT, **options))


def test_a_bidirectional_layer_sums_both_directions(name):
    layer, one_way = make(name, bidirectional=True), make(name)
    params = dict(init(layer)["params"])
    other = {key: params.pop(key) for key in list(params) if key.startswith("C2")}
    backward = params | {key.replace("C2", "C"): p for key, p in other.items()}
    backward["D"] = jnp.zeros_like(params["D"])
    options = dict(timesteps=DT, seq_lengths=LENGTHS, return_carry=True)
    want = call(one_way)({"params": params}, U, **options)
    back = call(one_way)({"params": backward}, U, reverse=True, keep_order=True, **options)
    got = call(layer)(init(layer), U, **options)
    assert_close(got, ((want[0], back[0]), want[1] + back[1]))


def test_the_order_of_axes_and_vmap_change_nothing(layer):
    variables = init(layer)
    carry, y = call(layer)(variables, U, timesteps=DT, return_carry=True)
    options = dict(timesteps=DT.T[:, None], time_major=True, return_carry=True)
    got = call(layer)(variables, U.swapaxes(0, 1)[:, None], **options)  # (T, 1, B, H)
    assert_close(got, (carry[None], y.swapaxes(0, 1)[:, None]))
    mapped = jax.vmap(lambda u, t: layer.apply(variables, u, timesteps=t, return_carry=True))
    assert_close(mapped(U, DT), (carry, y))


@pytest.mark.parametrize("name", ["LRU", "S5", "S4D"])
def test_bfloat16_products_keep_a_complex64_state(name):
    layer, variables = make(name, dtype=jnp.bfloat16), init(make(name))
    got = call(layer)(
        variables, U.astype(jnp.bfloat16), timesteps=DT.astype(jnp.bfloat16), return_carry=True
    )
    assert (got[0].dtype, got[1].dtype) == (jnp.complex64, jnp.bfloat16)
    want = call(make(name))(variables, U, timesteps=DT, return_carry=True)
    assert_close((got[0], got[1].astype(jnp.float32)), want, atol=0.1)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_gradients_work_without_implicit_promotion_of_types_and_ranks(name, dtype):
    layer, variables = make(name, dtype=dtype), init(make(name))

    def loss(variables, u, timesteps):
        h, y = layer.apply(
            variables, u, timesteps=timesteps, seq_lengths=LENGTHS, reverse=True,
            initial_carry=start, return_carry=True,
        )  # fmt: skip
        return jnp.sum(jnp.abs(h)) + jnp.sum(y).astype(jnp.float32)

    start = some_carry(make(name))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(jax.grad(loss, (0, 1, 2)), variables, U, DT.astype(jnp.bfloat16))


def test_the_cell_and_the_step_take_the_duration_of_a_step():
    layer, cell = make("LRU"), lru.LRUCell(N)
    variables, native = init(layer), lru.nnx.LRUCell(H, N, rngs=nnx.Rngs(0))
    nnx.update(native, variables["params"])
    want = call(layer)(variables, U, timesteps=DT, return_carry=True)
    steps = [
        functools.partial(cell.apply, variables),
        functools.partial(lru_step, variables["params"]),
        native,
    ]
    for step in steps:
        carry, outputs = cell.initialize_carry(jax.random.key(0), (B, H)), []
        for k in range(T):
            carry, y = step(carry, U[:, k], timesteps=DT[:, k])
            outputs.append(y)
        assert_close((carry, jnp.stack(outputs, 1)), want)


def test_the_nnx_layer_and_the_function_equal_the_linen_layer():
    layer, native = make("LRU"), lru.nnx.LRU(H, N, chunk_size=4, rngs=nnx.Rngs(0))
    nnx.update(native, init(layer)["params"])
    options = dict(timesteps=DT, seq_lengths=LENGTHS, reverse=True, return_carry=True)
    want = call(layer)(init(layer), U, **options)
    assert_close(native(U, **options), want)
    assert_close(lru_layer(init(layer)["params"], U, **options), want)


def test_a_layer_exports_for_any_batch_and_time(layer):
    batch, time = export.symbolic_shape("batch, time")
    variables = jax.eval_shape(layer.init, jax.random.key(0), U)

    def run(variables, u, timesteps, lengths):
        return layer.apply(variables, u, timesteps=timesteps, seq_lengths=lengths, reverse=True)

    shapes = (((batch, time, H), float), ((batch, time), float), ((batch,), int))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.dtype(kind)) for shape, kind in shapes]
    with jax.enable_x64(True):
        (outputs,) = export.export(jax.jit(run))(variables, *arguments).out_avals
    assert outputs.shape == (batch, time, H)


def test_without_timesteps_the_program_does_not_have_their_weights():
    """The directions hold the rates of the modes; without timesteps, the compiler drops them."""
    params = init(make("LRU"))["params"]

    def operations(**changes):
        def loss(params, u):
            directions = lru_directions(params, dtype=jnp.float32, chunk_size=4)
            directions = [direction.replace(**changes) for direction in directions]
            return jnp.sum(over_time(directions, u, seq_lengths=LENGTHS) ** 2)

        text = jax.jit(jax.grad(loss, (0, 1))).lower(params, U).compile().as_text()
        return sorted(re.findall(r" = (\S+ [\w-]+)\(", text))

    assert operations() == operations(rate=None) and len(operations()) > 50


@pytest.mark.parametrize("name", ["LRU", "S5"])
def test_the_factors_of_all_steps_are_never_in_memory_at_once(name):
    time, width = 2048, 64
    layer = {"LRU": lru.LRU, "S5": S5}[name](width, chunk_size=64)
    u, timesteps = jnp.ones((8, time, 2)), jnp.ones((8, time))
    variables = jax.eval_shape(layer.init, jax.random.key(0), u)

    def loss(variables, timesteps):
        return jnp.sum(layer.apply(variables, u, timesteps=timesteps) ** 2)

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(variables, timesteps).compile()
    factors = 8 * time * (width if name == "LRU" else width // 2) * 8
    assert compiled.memory_analysis().temp_size_in_bytes < factors / 2


def test_with_timesteps_a_chunk_is_half_as_long():
    """The factors of its steps take as much memory as its states."""
    (direction,) = lru_directions(init(make("LRU"))["params"], chunk_size=None)
    shape = (10**6, 8)
    regular, uneven = (direction.chunk_steps(shape, None, t) for t in (None, jnp.ones(shape)))
    assert 2 * uneven == pytest.approx(regular, rel=0.01)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    "timesteps, words",
    [
        (jnp.ones((B, T), int), "timesteps have dtype int32; expected real floating-point numbers"),
        (jnp.ones((B, T), bool), "timesteps have dtype bool; expected real floating-point numbers"),
        (jnp.ones((B, T), complex), "timesteps have dtype complex64; expected real floating-point"),
        (jnp.ones((T, B)), r"timesteps have shape \(9, 3\); expected \(3, 9\)"),
        (jnp.ones(T), r"timesteps have shape \(9,\); expected \(3, 9\)"),
        (jnp.ones((B, T, 1)), r"timesteps have shape \(3, 9, 1\); expected \(3, 9\)"),
        (0.5, r"timesteps have shape \(\); expected \(3, 9\)"),
        ("abc", "timesteps is a str; expected an array of numbers"),
    ],
    ids=str,
)
def test_invalid_timesteps_raise(name, timesteps, words):
    with pytest.raises(ValueError, match=words):
        make(name).apply(init(make(name)), U, timesteps=timesteps)


@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_timesteps_of_a_step_raise():
    params, carry = init(make("LRU"))["params"], jnp.zeros((B, N))
    for timesteps, words in [
        (jnp.ones((B, 1)), r"timesteps have shape \(3, 1\); expected \(3,\)"),
        (jnp.ones(B, int), "timesteps have dtype int32; expected real floating-point numbers"),
    ]:
        with pytest.raises(ValueError, match=words):
            lru_step(params, carry, U[:, 0], timesteps=timesteps)


@pytest.mark.parametrize("name", OTHERS)
def test_a_layer_without_eigenvalues_in_exponential_form_raises(name):
    with pytest.raises(
        ValueError, match="given to a layer that does not support them; use lru.LRU, S5, S4D"
    ):
        OTHERS[name]().init(jax.random.key(0), U, timesteps=DT)


def test_lists_are_taken_as_arrays():
    layer = make("LRU")
    got = layer.apply(init(layer), U, timesteps=DT.tolist())
    assert_close(got, call(layer)(init(layer), U, timesteps=DT))
