"""Laws of the gated baselines, against Flax's cells or float64 transcriptions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.baselines import GRU, LSTM, RHN, GridLSTM
from lru.lattice import PSLRU, RGLRU, Lattice, LRUCell, PSLRUCell, RGLRUCell
from lru.layers.gated import GridLSTMCell, GRUCell, LSTMCell, RHNCell

B, T, H = 2, 5, 3
X = jax.random.normal(jax.random.key(0), (B, T, H))
CELLS = {
    "gru": GRUCell,
    "gru, reset before": functools.partial(GRUCell, reset_after=False),
    "lstm": LSTMCell,
    "grid": GridLSTMCell,
    "rhn": functools.partial(RHNCell, recurrence_depth=3),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def apply(layer, x):
    """`x W + b` in float64."""
    return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def gru_by_hand(p, x, h, reset_after=False):
    (xr, xz, xc), (hr, hz, hc) = (
        np.split(apply(p[n], v), 3) for n, v in (("input", x), ("state", h))
    )
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    past = r * hc if reset_after else np.split(apply(p["state"], r * h), 3)[2]
    h = z * h + (1 - z) * np.tanh(xc + past)
    return h, h


def lstm_by_hand(a, c):
    i, f, g, o = np.split(a, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def lstm_step(p, x, state):
    h, c = np.split(state, 2)
    h, c = lstm_by_hand(apply(p["input"], x) + apply(p["state"], h), c)
    return np.concatenate([h, c]), h


def grid_by_hand(p, input, state):
    (h1, m1), (h2, m2) = np.split(input, 2), np.split(state, 2)
    h1, m1 = lstm_by_hand(apply(p["depth_input"], h2) + apply(p["depth_state"], h1), m1)
    h2, m2 = lstm_by_hand(apply(p["time_input"], h1) + apply(p["time_state"], h2), m2)
    return np.concatenate([h2, m2]), np.concatenate([h1, m1])


def rhn_by_hand(p, x, s):
    for i in range(len(p)):
        new, t = np.split(apply(p[f"micro_{i}"], s if i else np.concatenate([x, s])), 2)
        s = np.tanh(new) * sigmoid(t) + s * (1 - sigmoid(t))
    return s, s


BY_HAND = {
    "gru": functools.partial(gru_by_hand, reset_after=True),
    "gru, reset before": gru_by_hand,
    "lstm": lstm_step,
    "grid": grid_by_hand,
    "rhn": rhn_by_hand,
}


def stack_by_hand(name, params, x):
    """Returns the outputs of two layers for one sequence x (T, H)."""
    states = [np.zeros(CELLS[name](H).state_size) for _ in params]
    outputs = []
    for input in np.float64(x):
        if name == "grid":
            input = np.concatenate([input, np.zeros(H)])
        for layer in range(len(params)):
            states[layer], input = BY_HAND[name](params[f"layers_{layer}"], input, states[layer])
        outputs.append(input[:H])
    return np.stack(states), np.stack(outputs)


@pytest.mark.parametrize("order", ["plain", "wavefront"])
@pytest.mark.parametrize("name", CELLS)
def test_two_layers_equal_the_float64_loop(name, order):
    layer = Lattice(H, 2, unit=CELLS[name], order=order)
    params = jax.jit(layer.init)(jax.random.key(1), X)["params"]
    call = jax.jit(layer.apply, static_argnames="return_carry")
    carry, y = call({"params": params}, X, return_carry=True)
    for row in range(B):
        want = stack_by_hand(name, params, X[row])
        np.testing.assert_allclose(carry[row], want[0], atol=1e-5)
        np.testing.assert_allclose(y[row], want[1], atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_equal_the_float64_loops(name, slopes):
    layer = Lattice(H, 1, unit=CELLS[name])
    params = jax.jit(layer.init)(jax.random.key(1), X)["params"]
    weight = np.asarray(jax.random.normal(jax.random.key(2), (T, H)))
    grads = jax.jit(jax.grad(lambda p: jnp.sum(weight * layer.apply({"params": p}, X[0]))))(params)

    def tree(flat):
        layers = params["layers_0"]
        return {"layers_0": {n: {k: flat[f"{n}.{k}"] for k in layers[n]} for n in layers}}

    def flat(tree):
        return {f"{n}.{k}": v for n, part in tree["layers_0"].items() for k, v in part.items()}

    want = slopes(lambda p: np.sum(weight * stack_by_hand(name, tree(p), X[0])[1]), flat(params))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=5e-5), flat(grads), want)


def flax_gru(params):
    """Returns the weights of Flax's cell, which has no second bias for the gates."""
    layers = {}
    for number, gate in enumerate("rzn"):
        columns = slice(number * H, (number + 1) * H)
        input, recurrent = (
            {name: leaf[..., columns] for name, leaf in params[side].items()}
            for side in ("input", "state")
        )
        if gate != "n":
            input["bias"] = input["bias"] + recurrent.pop("bias")
        layers |= {f"i{gate}": input, f"h{gate}": recurrent}
    return layers


def flax_lstm(params):
    layers = {}
    for number, gate in enumerate("ifgo"):
        columns = slice(number * H, (number + 1) * H)
        bias = sum(params[side]["bias"][columns] for side in ("input", "state"))
        layers[f"i{gate}"] = {"kernel": params["input"]["kernel"][:, columns]}
        layers[f"h{gate}"] = {"kernel": params["state"]["kernel"][:, columns], "bias": bias}
    return layers


@pytest.mark.parametrize(
    "ours, theirs, move",
    [(GRUCell, nn.GRUCell, flax_gru), (LSTMCell, nn.LSTMCell, flax_lstm)],
    ids=["gru", "lstm"],
)
def test_flaxs_cell_with_the_same_weights_gives_the_same(ours, theirs, move):
    ours, theirs = nn.RNN(ours(H)), nn.RNN(theirs(H))
    params = jax.jit(ours.init)(jax.random.key(1), X)["params"]["cell"]
    want = jax.jit(theirs.apply)({"params": {"cell": move(params)}}, X)
    got = jax.jit(ours.apply)({"params": {"cell": params}}, X)
    np.testing.assert_allclose(got, want, atol=1e-5)


FORMULAS = {  # section 1 of the lattice's code, per layer of width H
    GRUCell: lambda h: 6 * h**2 + 6 * h,
    LSTMCell: lambda h: 8 * h**2 + 8 * h,
    GridLSTMCell: lambda h: 16 * h**2 + 16 * h,
    PSLRUCell: lambda h: 8 * h**2 + 4 * h,
    RGLRUCell: lambda h: 10 * h**2 + 5 * h,
    LRUCell: lambda h: 12 * h**2 + 6 * h,
    RHNCell: lambda h: 4 * h**2 + 2 * h**2 + 2 * 2 * h,
}


@pytest.mark.parametrize("cell", FORMULAS, ids=lambda cell: cell.__name__)
def test_a_layer_has_as_many_parameters_as_its_formula_says(cell):
    for h in (1, 7, 32):
        shapes = jax.eval_shape(
            Lattice(h, 3, unit=cell).init, jax.random.key(0), jnp.ones((1, 2, h))
        )
        assert sum(p.size for p in jax.tree.leaves(shapes)) == 3 * FORMULAS[cell](h)
        assert cell(h).count() == FORMULAS[cell](h)


def test_a_highway_network_grows_by_one_layer_a_micro_step():
    counts = [RHNCell(5, recurrence_depth=k).count() for k in (1, 2, 3)]
    assert counts == [4 * 25 + 2 * 25 * (k - 1) + 2 * 5 * k for k in (1, 2, 3)]


def test_the_sizes_of_the_talk_have_equally_many_parameters():
    sizes = {GRUCell: 387, LSTMCell: 335, GridLSTMCell: 237, RGLRUCell: 300}
    counts = [cell(h).count() for cell, h in sizes.items()]
    assert counts == [900_936, 900_480, 902_496, 901_500]
    assert max(counts) / min(counts) < 1.003


@pytest.mark.parametrize("cell", [GRUCell, LSTMCell, GridLSTMCell, RHNCell])
def test_weights_and_biases_are_drawn_as_by_pytorch(cell):
    for name, layer in jax.jit(cell(100).draw)(jax.random.key(0)).items():
        bound = 1 / np.sqrt(200 if name == "micro_0" else 100)
        for leaf in layer.values():
            assert 0.9 * bound < abs(leaf).max() <= bound
            np.testing.assert_allclose(leaf.std(), bound / np.sqrt(3), rtol=0.15)


def test_each_name_is_a_stack_of_its_cell_with_its_options():
    made = {
        GRU: GRUCell, LSTM: LSTMCell, GridLSTM: GridLSTMCell, RHN: RHNCell, Lattice: LRUCell,
        PSLRU: PSLRUCell, RGLRU: RGLRUCell,
    }  # fmt: skip
    assert all(type(stack(H, 2).cell()) is cell for stack, cell in made.items())
    assert [GRU(H, 2, reset_after=x).cell().reset_after for x in (False, True)] == [False, True]
    assert [RHN(H, 2, recurrence_depth=k).cell().recurrence_depth for k in (1, 5)] == [1, 5]


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_highway_network_without_micro_steps_raises():
    with pytest.raises(
        ValueError, match="recurrence_depth=0; expected a whole number of at least 1"
    ):
        RHNCell(H, recurrence_depth=0).draw(jax.random.key(0))
