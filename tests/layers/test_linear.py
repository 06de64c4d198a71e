"""Laws of the Linear Recurrent Unit, against a float64 transcription of Appendix A."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import lru
from lru.layers.linear import lru_layer, lru_step

B, T, H, N = 3, 9, 4, 6
LENGTHS = jnp.array([9, 1, 5])
FLAGS = [(False, False), (True, False), (True, True)]  # reverse, keep_order


def appendix_a(params, u, h0=None):
    """y_k = Re[C h_k] + D u_k for one sequence u (T, H), in complex128, step by step."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    b_norm = (p["B_re"] + 1j * p["B_im"]) * np.exp(p["gamma_log"])[:, None]
    c = p["C_re"] + 1j * p["C_im"]
    x = np.zeros(lam.shape, complex) if h0 is None else np.asarray(h0, complex)
    outputs = []
    for u_k in np.asarray(u, np.float64):
        x = lam * x + b_norm @ u_k
        outputs.append((c @ x).real + p["D"] * u_k)
    return x, np.stack(outputs)


def whole_layer(params, u, carry, length, reset, reverse, keep_order):
    """Applies all flags to one sequence u (T, H): it is mirrored first, then run forward."""
    u = np.asarray(u, np.float64)[:length]
    border = np.flatnonzero(np.asarray(reset)[:length]).tolist()
    spans = list(zip([0, *border], [*border, length]))  # each span is a separate sequence
    readouts = ["C", "C2"] if "C2_re" in params else ["C"]
    total, ends = np.asarray(params["D"]) * u, []
    for readout, h0, backward in zip(readouts, carry, [reverse, not reverse]):
        part = params | {f"C_{x}": params[f"{readout}_{x}"] for x in ("re", "im")} | {"D": 0.0}
        h, outputs = h0, []
        for number, (start, stop) in enumerate(spans[::-1] if backward else spans):
            h = h if number == 0 else np.zeros_like(h0)
            if start < stop:
                h, y = appendix_a(part, u[start:stop][:: -1 if backward else 1], h)
                outputs.append(y)
        outputs = np.concatenate([*outputs, np.zeros((0, u.shape[1]))])
        total = total + (outputs[::-1] if backward else outputs)
        ends.append(h)
    return ends, total[::-1] if reverse and not keep_order else total


def inputs(seed=0, shape=(B, T, H)):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def make(bidirectional=False, seed=0, **options):
    layer = lru.LRU(N, bidirectional=bidirectional, **options)
    return layer, jax.jit(layer.init)(jax.random.key(seed), inputs())


def carry(bidirectional=False, seed=7):
    parts = jax.random.normal(jax.random.key(seed), (4, B, N))
    pair = (jax.lax.complex(parts[0], parts[1]), jax.lax.complex(parts[2], parts[3]))
    return pair if bidirectional else pair[0]


@functools.cache
def call(layer):
    """`layer.apply` compiled, with its flags static."""
    flags = ("return_carry", "reverse", "keep_order", "time_major")
    return jax.jit(layer.apply, static_argnames=flags)


def assert_close(got, want, atol=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol), got, want)


def test_parameters_are_those_of_appendix_a():
    shapes = jax.tree.map(jnp.shape, make()[1]["params"])
    assert shapes == {
        "nu_log": (N,), "theta_log": (N,), "gamma_log": (N,), "B_re": (N, H), "B_im": (N, H),
        "C_re": (H, N), "C_im": (H, N), "D": (H,),
    }  # fmt: skip
    extra = make(bidirectional=True)[1]["params"].keys() - shapes.keys()
    assert extra == {"C2_re", "C2_im"}


def test_ring_and_phase_reach_the_parameters():
    params = make(r_min=0.6, r_max=0.7, max_phase=0.1)[1]["params"]
    modulus, phase = np.exp(-np.exp(params["nu_log"])), np.exp(params["theta_log"])
    assert modulus.min() >= 0.5999 and modulus.max() <= 0.7001
    assert phase.max() <= 0.1


def test_gamma_is_drawn_from_lambda():
    params = make()[1]["params"]
    modulus = np.exp(-np.exp(np.asarray(params["nu_log"], np.float64)))
    np.testing.assert_allclose(np.exp(params["gamma_log"]), np.sqrt(1 - modulus**2), rtol=1e-4)


@pytest.mark.parametrize("method", ["auto", "sequential", "associative", "pallas"])
def test_values_equal_appendix_a_in_float64(method):
    layer, variables = make(method=method)
    h, y = call(layer)(variables, inputs(), initial_carry=carry(), return_carry=True)
    for row in range(B):
        assert_close((h[row], y[row]), appendix_a(variables["params"], inputs()[row], carry()[row]))


@pytest.mark.parametrize(
    ("method", "chunk_size"),
    [("sequential", 0), ("associative", 0), ("pallas", 0), ("sequential", 4)],
)
def test_gradients_equal_those_of_a_complex_matrix_power_sum(method, chunk_size):
    """The explicit sum h_T = sum_k Lambda^(T-k) B u_k has the same derivative."""
    layer, variables = make(method=method, chunk_size=chunk_size)
    weight = inputs(1)

    def explicit(params, u):
        lam = jnp.exp(jax.lax.complex(-jnp.exp(params["nu_log"]), jnp.exp(params["theta_log"])))
        b = jax.lax.complex(params["B_re"], params["B_im"])
        c = jax.lax.complex(params["C_re"], params["C_im"])
        steps = jnp.arange(T)[:, None] - jnp.arange(T)
        power = jnp.where((steps >= 0)[..., None], lam ** jnp.maximum(steps, 0)[..., None], 0)
        x = jnp.einsum("tsn,n,nh,bsh->btn", power, jnp.exp(params["gamma_log"]), b, u)
        return jnp.einsum("hn,btn->bth", c, x).real + params["D"] * u

    def loss(function):
        return jax.jit(jax.grad(lambda p, u: jnp.sum(weight * function(p, u)), argnums=(0, 1)))

    got = loss(lambda p, u: layer.apply({"params": p}, u))(variables["params"], inputs())
    want = loss(explicit)(variables["params"], inputs())
    assert_close(got, want, atol=2e-3)


@pytest.mark.parametrize("lengths", [[9, 1, 5], [0, 9, 8]], ids=str)
@pytest.mark.parametrize(
    ("bidirectional", "reverse", "keep_order", "seed", "chunk_size"),
    [
        (both, *flags, *sizes)
        for both in (False, True)
        for flags in FLAGS
        for sizes in ((0, None), (1, 4))
    ]
    + [(True, False, False, 2, 1)],
)
def test_all_arguments_together_equal_the_float64_layer(
    bidirectional, reverse, keep_order, lengths, seed, chunk_size
):
    layer, variables = make(bidirectional, chunk_size=chunk_size)
    reset = jax.random.bernoulli(jax.random.key(seed), 0.3, (B, T))
    reset = reset.at[0, 0].set(True)  # clears the initial state
    start = carry(bidirectional)
    h, y = call(layer)(
        variables, inputs().swapaxes(0, 1), initial_carry=start, reset=reset.T, time_major=True,
        seq_lengths=jnp.array(lengths), reverse=reverse, keep_order=keep_order, return_carry=True,
    )  # fmt: skip
    for row, length in enumerate(lengths):
        h_row, start_row = (
            [part[row] for part in (x if bidirectional else [x])] for x in (h, start)
        )
        want = whole_layer(
            variables["params"], inputs()[row], start_row, length, reset[row], reverse, keep_order
        )
        assert_close((h_row, y[:length, row]), want)


@pytest.mark.parametrize(("reverse", "keep_order"), FLAGS)
@pytest.mark.parametrize(("lengths", "time_major"), [(None, True), (LENGTHS, False)])
def test_the_layer_equals_flax_rnn_of_its_cell(reverse, keep_order, lengths, time_major):
    layer, variables = make()
    flags = dict(reverse=reverse, keep_order=keep_order, time_major=time_major, return_carry=True)
    u = inputs().swapaxes(0, 1) if time_major else inputs()
    options = dict(initial_carry=carry(), seq_lengths=lengths, **flags)
    h, y = call(layer)(variables, u, **options)
    rnn_variables = {"params": {"cell": variables["params"]}}
    want_h, want_y = call(nn.RNN(lru.LRUCell(N)))(rnn_variables, u, **options)
    if lengths is not None:  # on padding Flax has outputs, and the layer zeros
        valid = (jnp.arange(T) < lengths[:, None])[..., None]
        want_y = jnp.where(valid.swapaxes(0, 1) if time_major else valid, want_y, 0)
    assert_close((h, y), (want_h, want_y))


@pytest.mark.parametrize(
    ("bidirectional", "reverse", "keep_order"),
    [(False, False, False), *((True, *flags) for flags in FLAGS)],
)
def test_padding_changes_nothing(bidirectional, reverse, keep_order):
    layer, variables = make(bidirectional)
    flags = dict(reverse=reverse, keep_order=keep_order, return_carry=True)
    garbage = jnp.where((jnp.arange(T) < LENGTHS[:, None])[..., None], inputs(), jnp.nan)
    start = carry(bidirectional)
    h, y = call(layer)(variables, garbage, initial_carry=start, seq_lengths=LENGTHS, **flags)
    start_row, h_row = jax.tree.map(lambda c: c[2], (start, h))
    alone = call(layer)(variables, inputs()[2, :5], initial_carry=start_row, **flags)
    assert_close((h_row, y[2, :5]), alone)
    assert not jnp.where((jnp.arange(T) < LENGTHS[:, None])[..., None], 0, y).any()


@pytest.mark.parametrize(("bidirectional", "chunk_size"), [(False, 0), (True, 4)])
def test_padding_neither_gets_nor_gives_a_gradient(bidirectional, chunk_size):
    layer, variables = make(bidirectional, chunk_size=chunk_size)
    valid = (jnp.arange(T) < LENGTHS[:, None])[..., None]

    def loss(u, params):
        return jnp.sum(layer.apply({"params": params}, u, seq_lengths=LENGTHS) ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    du, dparams = gradient(jnp.where(valid, inputs(), jnp.nan), variables["params"])
    _, want = gradient(inputs(), variables["params"])
    assert not jnp.where(valid, 0, du).any()
    assert_close(dparams, want, atol=1e-4)


@pytest.mark.parametrize(
    ("reverse", "bidirectional", "chunk_size"), [(False, True, 4), (True, False, 0)]
)
def test_an_empty_sequence_keeps_the_carry(reverse, bidirectional, chunk_size):
    layer, variables = make(bidirectional, chunk_size=chunk_size)
    start = carry(bidirectional)
    h, y = call(layer)(
        variables, inputs(), initial_carry=start, seq_lengths=jnp.zeros(B, int),
        reverse=reverse, return_carry=True,
    )  # fmt: skip
    assert_close(h, start, atol=0)
    assert not y.any()


def test_chunked_stream_equals_full_scan():
    layer, variables = make()
    cuts = [1, 5]
    whole_h, whole = call(layer)(variables, inputs(), return_carry=True)
    h, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, T]):
        u = inputs()[:, start:stop]
        h, y = call(layer)(variables, u, initial_carry=h, return_carry=True)
        parts.append(y)
    assert_close((h, jnp.concatenate(parts, 1)), (whole_h, whole))


def test_step_by_step_equals_the_whole_sequence():
    layer, variables = make()
    cell = lru.LRUCell(N)
    step = jax.jit(cell.apply)
    h, outputs = cell.initialize_carry(jax.random.key(0), (B, H)), []
    for t in range(T):
        h, y = step(variables, h, inputs()[:, t])
        outputs.append(y)
    assert_close((h, jnp.stack(outputs, 1)), call(layer)(variables, inputs(), return_carry=True))


def test_a_reverse_stream_equals_the_whole_sequence():
    layer, variables = make()
    flags = dict(reverse=True, keep_order=True, return_carry=True)
    reset = jnp.zeros((B, T), bool).at[:, 4].set(True).at[0, 6].set(True)
    whole_h, whole = call(layer)(variables, inputs(), reset=reset, **flags)
    h, right = call(layer)(variables, inputs()[:, 4:], reset=reset[:, 4:], **flags)
    h, left = call(layer)(variables, inputs()[:, :4], reset=reset[:, :4], initial_carry=h, **flags)
    assert_close((h, jnp.concatenate([left, right], 1)), (whole_h, whole))


def test_the_order_of_the_batch_does_not_matter():
    layer, variables = make(bidirectional=True)
    order = jnp.array([2, 0, 1])
    y = call(layer)(variables, inputs(), seq_lengths=LENGTHS)
    permuted = call(layer)(variables, inputs()[order], seq_lengths=LENGTHS[order])
    np.testing.assert_array_equal(permuted, y[order])


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_number_of_batch_axes(batch):
    layer, variables = make()
    u = inputs(shape=(*batch, T, H))
    h, y = call(layer)(variables, u, return_carry=True)
    flat_h, flat = call(layer)(variables, u.reshape(-1, T, H), return_carry=True)
    assert_close((h, y), (flat_h.reshape(*batch, N), flat.reshape(u.shape)))


def test_lengths_beyond_the_end_mean_the_whole_sequence():
    layer, variables = make()
    flags = dict(initial_carry=carry(), return_carry=True)
    got = call(layer)(variables, inputs(), seq_lengths=jnp.full(B, T + 3), **flags)
    assert_close(got, call(layer)(variables, inputs(), **flags), atol=0)


def test_the_layer_replaces_a_gru_by_changing_one_line():
    class Model(nn.Module):
        rnn: nn.Module

        @nn.compact
        def __call__(self, x, lengths):
            carry, y = self.rnn(x, seq_lengths=lengths, return_carry=True, reverse=True)
            return carry, nn.Dense(2)(y)

    for rnn in (nn.RNN(nn.GRUCell(64)), lru.LRU(64)):
        model = Model(rnn)
        (h, y), _ = jax.jit(model.init_with_output)(jax.random.key(0), inputs(), LENGTHS)
        assert (h.shape, y.shape) == ((B, 64), (B, T, 2))


def test_a_batch_may_be_empty():
    layer, variables = make()
    h, y = call(layer)(variables, inputs()[:0], return_carry=True)
    assert (h.shape, y.shape) == ((0, N), (0, T, H))


@pytest.mark.parametrize("chunk_size", [0, 4])
def test_float64_inputs_give_float64_outputs(chunk_size):
    with jax.enable_x64(True):
        u = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, H)))
        layer, variables = make.__wrapped__(chunk_size=chunk_size)
        h, y = layer.apply(variables, u, return_carry=True)
    assert (h.dtype, y.dtype) == (jnp.complex128, jnp.float64)
    assert_close((h[0], y[0]), appendix_a(variables["params"], u[0]), atol=1e-6)


def test_white_noise_keeps_its_variance():
    layer = lru.LRU(384, r_min=0.9, r_max=0.99)
    u = inputs(shape=(4, 800, 256))
    variables = jax.jit(layer.init)(jax.random.key(0), u)
    variables["params"]["D"] *= 0
    np.testing.assert_allclose(call(layer)(variables, u)[:, 400:].var(), 1, atol=0.15)


def test_bfloat16_products_keep_a_complex64_state():
    layer, variables = make(dtype=jnp.bfloat16)
    h, y = call(layer)(variables, inputs().astype(jnp.bfloat16), return_carry=True)
    assert (h.dtype, y.dtype) == (jnp.complex64, jnp.bfloat16)
    want_h, want = call(lru.LRU(N))(variables, inputs(), return_carry=True)
    assert_close((h, y.astype(jnp.float32)), (want_h, want), atol=0.1)


def test_bfloat16_inputs_over_many_steps_do_not_drift():
    layer = lru.LRU(8, r_min=0.999, r_max=0.9999, dtype=jnp.bfloat16)
    u = inputs(shape=(1, 4000, H))
    variables = jax.jit(layer.init)(jax.random.key(0), u)
    h, _ = call(layer)(variables, u, return_carry=True)
    want, _ = call(lru.LRU(8))(variables, u, return_carry=True)
    assert jnp.linalg.norm(h - want) < 0.02 * jnp.linalg.norm(want)


def test_half_precision_parameters_work():
    layer, variables = make(param_dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}
    h, y = call(layer)(variables, inputs(), return_carry=True)
    assert (h.dtype, y.dtype) == (jnp.complex64, jnp.float32)


def test_gradients_stay_finite_on_the_full_disk():
    layer = lru.LRU(512, r_min=0.0, r_max=1.0)
    u = inputs(shape=(2, 50, H))
    variables = jax.jit(layer.init)(jax.random.key(3), u)
    grads = jax.jit(jax.grad(lambda v: jnp.sum(layer.apply(v, u) ** 2)))(variables)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_it_works_in_flax_bidirectional():
    pair = nn.Bidirectional(lru.LRU(N), lru.LRU(N))
    y, _ = jax.jit(pair.init_with_output)(jax.random.key(0), inputs(), seq_lengths=LENGTHS)
    assert y.shape == (B, T, 2 * H)


@pytest.mark.parametrize(
    ("u", "options", "words"),
    [
        (jnp.ones(H), {}, "(..., T, H)"),
        (jnp.ones((B, T, H + 1)), {}, "H = 4"),
        (inputs(), {"seq_lengths": jnp.ones(B + 1, int)}, "seq_lengths have shape (4,)"),
        (inputs(), {"reset": jnp.zeros((B, T + 1), bool)}, "reset has shape (3, 10)"),
        (inputs(), {"initial_carry": jnp.zeros((B, N + 1))}, "initial_carry has shape (3, 7)"),
        (inputs(), {"initial_carry": carry(True)}, "is a tuple of 2; expected one array"),
        (jnp.ones((B, 0, H)), {}, "T >= 1"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_invalid_arguments_raise(u, options, words):
    with pytest.raises(ValueError) as error:
        lru_layer(make()[1]["params"], u, **options)
    assert words in str(error.value)


@pytest.mark.parametrize("wrong", [carry(), carry(True)[:1], (carry(True)[0],) * 3])
def test_a_bidirectional_layer_without_a_pair_of_carries_raises(wrong):
    layer, variables = make(bidirectional=True)
    with pytest.raises(ValueError, match="expected a pair of arrays"):
        layer.apply(variables, inputs(), initial_carry=wrong)


@pytest.mark.several_devices
def test_a_batch_sharded_over_devices_stays_sharded_in_chunks():
    """It also does on a mesh with explicit sharding types."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("data",), (kind,))
        layer, variables = make(chunk_size=4)
        apply = jax.jit(layer.apply)
        u = inputs(shape=(4, T, H))
        want = apply(variables, u)
        with jax.set_mesh(mesh):
            parts = jax.device_put(u, PartitionSpec("data"))
            got = apply(variables, parts)
            text = apply.lower(variables, parts).compile().as_text()
        assert_close(got, want)
        assert "all-gather" not in text


def test_a_step_with_arguments_that_do_not_fit_raises():
    layer, u = lru.LRU(4), jnp.ones((2, 3, 5))
    params = layer.init(jax.random.key(0), u)["params"]
    with pytest.raises(ValueError, match=r"expected \(..., 4\) and \(..., 5\)"):
        lru_step(params, jnp.zeros((7, 4), complex), u[0, 0])
    with pytest.raises(ValueError, match=r"expected \(..., 4\) and \(..., 5\)"):
        lru_step(params, jnp.zeros((2, 4), complex), jnp.ones((2, 3)))
    params = lru.LRU(4, bidirectional=True).init(jax.random.key(0), u)["params"]
    with pytest.raises(ValueError, match="expected those of an LRU with one direction"):
        lru_step(params, jnp.zeros((2, 4), complex), u[:, 0])


def test_the_gradient_of_the_inputs_alone_works():
    layer, u = lru.LRU(4), jnp.ones((2, 3, 5))
    variables = layer.init(jax.random.key(0), u)
    slope = jax.grad(lambda u: layer.apply(variables, u).sum())(u)
    assert slope.shape == u.shape and np.isfinite(slope).all()
