"""Laws of the Lattice Recurrent Unit, against a float64 transcription of its equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.lattice import LRUCell, PSLRUCell, RGLRUCell

B, T, H = 3, 7, 4
UNITS = {"PS": PSLRUCell, "RG": RGLRUCell, "LRU": LRUCell}
GATES = {"PS": ["z", "r"], "RG": ["z", "r1", "r2"], "LRU": ["z1", "z2", "r1", "r2"]}


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def matrices(name, params):
    """Returns W, U and b of each gate and candidate, with matrices that multiply from the left."""
    blocks = {"c1": params["candidate1"], "c2": params["candidate2"]}
    for number, gate in enumerate(GATES[name]):
        columns = slice(number * H, (number + 1) * H)
        kernel, bias = params["gates"]["kernel"], params["gates"]["bias"]
        blocks[gate] = {"kernel": kernel[:, columns], "bias": bias[columns]}
    split = {}
    for gate, block in blocks.items():
        kernel = np.float64(block["kernel"])
        split[gate] = kernel[:H].T, kernel[H:].T, np.float64(block["bias"])
    return split


def by_hand(name, params, h1, h2):
    """Returns (h1', h2') of one step of a sequence, by the printed equations with biases."""
    m = matrices(name, params)

    def gate(which):
        which = which if which in m else which[0]
        W, U, b = m[which]
        return sigmoid(W @ h1 + U @ h2 + b)

    z1, z2, r1, r2 = map(gate, ["z1", "z2", "r1", "r2"])
    (W1, U1, b1), (W2, U2, b2) = m["c1"], m["c2"]
    candidate1 = np.tanh(W1 @ h1 + U1 @ (r2 * h2) + b1)
    candidate2 = np.tanh(W2 @ (r1 * h1) + U2 @ h2 + b2)
    return z1 * candidate2 + (1 - z1) * h1, z2 * candidate1 + (1 - z2) * h2


def assert_close(got, want, atol=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=atol), got, want)


@pytest.fixture(params=UNITS)
def name(request):
    return request.param


def test_a_step_equals_the_equations_in_float64_in_value_and_gradient(name, slopes):
    cell, h1, h2 = UNITS[name](H), normal(0, B, H), normal(1, B, H)
    params = jax.jit(cell.init)(jax.random.key(2), h2, h1)["params"]
    up, right = np.asarray(normal(3, B, H)), np.asarray(normal(4, B, H))

    def run(params, h1, h2):
        carry, y = cell.apply({"params": params}, h2, h1)
        return jnp.sum(up * y + right * carry), (y, carry)

    grads, got = jax.jit(jax.grad(run, (0, 1, 2), has_aux=True))(params, h1, h2)

    def steps(flat):
        tree = {n: {k: flat[f"{n}.{k}"] for k in ("kernel", "bias")} for n in params}
        return [by_hand(name, tree, *rows) for rows in zip(flat["h1"], flat["h2"])]

    def loss(flat):
        return sum(np.sum(up[b] * y + right[b] * c) for b, (y, c) in enumerate(steps(flat)))

    flat = {f"{n}.{k}": leaf for n, layer in params.items() for k, leaf in layer.items()}
    flat |= {"h1": h1, "h2": h2}
    wanted = [np.stack(x) for x in zip(*steps(jax.tree.map(np.float64, flat)))]
    assert_close(list(got), wanted)
    want = slopes(loss, flat)
    got = {f"{n}.{k}": leaf for n, layer in grads[0].items() for k, leaf in layer.items()}
    assert_close(got | {"h1": grads[1], "h2": grads[2]}, want, atol=5e-5)


def test_parameters_are_three_dense_layers_with_biases(name):
    shapes = jax.eval_shape(
        UNITS[name](H).init, jax.random.key(0), jnp.ones((B, H)), jnp.ones((B, H))
    )["params"]  # fmt: skip
    gates = len(GATES[name])
    assert jax.tree.map(lambda p: p.shape, shapes) == {
        "gates": {"kernel": (2 * H, gates * H), "bias": (gates * H,)},
        "candidate1": {"kernel": (2 * H, H), "bias": (H,)},
        "candidate2": {"kernel": (2 * H, H), "bias": (H,)},
    }
    assert UNITS[name](H).count() == sum(p.size for p in jax.tree.leaves(shapes))


def test_weights_and_biases_are_uniform_within_one_over_the_root_of_h(name):
    params = jax.jit(UNITS[name](100).draw)(jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert 0.09 < abs(leaf).max() <= 0.1
        np.testing.assert_allclose(leaf.std(), 0.1 / np.sqrt(3), rtol=0.15)


def test_a_cell_runs_in_flax_rnn(name):
    cell, x = UNITS[name](H), normal(0, B, T, H)
    rnn = nn.RNN(cell, return_carry=True)
    variables = jax.jit(rnn.init)(jax.random.key(0), x)
    carry, y = jax.jit(rnn.apply)(variables, x)
    params = variables["params"]["cell"]
    for b in range(B):
        h2, outputs = np.zeros(H), []
        for h1 in np.float64(x[b]):
            above, h2 = by_hand(name, params, h1, h2)
            outputs.append(above)
        assert_close((carry[b], y[b]), (h2, np.stack(outputs)))


def test_bfloat16_products_keep_a_float32_state(name):
    h1, h2 = normal(0, B, H), normal(1, B, H)
    variables = jax.jit(UNITS[name](H).init)(jax.random.key(2), h2, h1)
    carry, y = UNITS[name](H, dtype=jnp.bfloat16).apply(variables, h2, h1)
    assert (carry.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    want = UNITS[name](H).apply(variables, h2, h1)
    assert_close((carry, y.astype(jnp.float32)), want, atol=0.05)


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_wrong_width_raises(name):
    with pytest.raises(ValueError, match=r"inputs have shape \(3, 5\); expected \(..., 4\)"):
        UNITS[name](H).init(jax.random.key(0), jnp.ones((B, H)), jnp.ones((B, 5)))
    with pytest.raises(ValueError, match="features=0; expected a whole number of at least 1"):
        UNITS[name](0).draw(jax.random.key(0))
