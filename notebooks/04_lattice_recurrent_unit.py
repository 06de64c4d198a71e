# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The Lattice Recurrent Unit, from the GRU on
#
# Ahuja & Morency, [*Lattice Recurrent Unit: Improving Convergence and Statistical Efficiency for Sequence
# Modeling*](https://arxiv.org/abs/1710.02254) (AAAI 2018), take the GRU apart in three steps. This LRU shares
# nothing with the Linear Recurrent Unit of the other notebooks but the letters.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from lru.data.synthetic import words
from lru.lattice import LRUCell, PSLRUCell, RGLRUCell
from lru.layers.gated import GRUCell

plt.style.use("notebook.mplstyle")
rng = np.random.default_rng(0)
units = {"GRU": GRUCell, "PS-LRU": PSLRUCell, "RG-LRU": RGLRUCell, "LRU": LRUCell}

# %% [markdown]
# ## Four cells
#
# A layer of a deep recurrent network stands at a crossing: $h_1$ comes from the layer below, $h_2$ from the
# step before; $h_1'$ rises, $h_2'$ goes on to the next step. In the GRU the two that leave are the same:
#
# $$r = \sigma(W^r h_1 + U^r h_2), \quad z = \sigma(W^z h_1 + U^z h_2), \quad
#   \hat h = \tanh(W h_1 + U (r \odot h_2)),$$
# $$h_1' = h_2' = z \odot h_2 + (1 - z) \odot \hat h.$$
#
# Nothing carries $h_1$ past it unchanged: depth has no gate. The **PS-LRU** (projected state) has the same two
# gates, and a candidate for each direction; now $z$ takes the candidate:
#
# $${\hat h}_1 = \tanh(W_1 h_1 + U_1 (r \odot h_2)), \quad {\hat h}_2 = \tanh(W_2 (r \odot h_1) + U_2 h_2),$$
# $$h_1' = z \odot {\hat h}_2 + (1 - z) \odot h_1, \qquad h_2' = z \odot {\hat h}_1 + (1 - z) \odot h_2.$$
#
# They cross: what rises takes the candidate that kept all of $h_2$. The **RG-LRU** (reset gate) gives each
# direction its own reset, $r_1$ of $h_1$ and $r_2$ of $h_2$; the **LRU** its own update gate too, $z_1$ in $h_1'$
# and $z_2$ in $h_2'$.


# %%
def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def dense(p, name, *parts):
    return np.concatenate(parts, axis=-1) @ p[name]["kernel"] + p[name]["bias"]


def gru(p, h1, h2):
    (w_r, w_z, w), (u_r, u_z, u) = (np.split(p[n]["kernel"], 3, -1) for n in ("input", "state"))
    (b_r, b_z, b), (c_r, c_z, c) = (np.split(p[n]["bias"], 3) for n in ("input", "state"))
    r, z = sigmoid(h1 @ w_r + h2 @ u_r + b_r + c_r), sigmoid(h1 @ w_z + h2 @ u_z + b_z + c_z)
    state = z * h2 + (1 - z) * np.tanh(h1 @ w + (r * h2) @ u + b + c)
    return state, state


def lattice_cell(p, h1, h2, share):
    gates = sigmoid(dense(p, "gates", h1, h2))
    z1, z2, r1, r2 = share(*np.split(gates, gates.shape[-1] // h1.shape[-1], axis=-1))
    candidate1 = np.tanh(dense(p, "candidate1", h1, r2 * h2))
    candidate2 = np.tanh(dense(p, "candidate2", r1 * h1, h2))
    return z1 * candidate2 + (1 - z1) * h1, z2 * candidate1 + (1 - z2) * h2


by_hand = {
    "GRU": gru,
    "PS-LRU": partial(lattice_cell, share=lambda z, r: (z, z, r, r)),
    "RG-LRU": partial(lattice_cell, share=lambda z, r1, r2: (z, z, r1, r2)),
    "LRU": partial(lattice_cell, share=lambda z1, z2, r1, r2: (z1, z2, r1, r2)),
}


def draw(cell, *stacked):
    """A cell's parameters from U(-1/√h, 1/√h), as the authors draw them; or a stack of such trees."""
    state = jnp.zeros((1, cell.features))
    shapes = jax.eval_shape(cell.init, jax.random.key(0), state, state)["params"]
    limit = 1 / np.sqrt(cell.features)
    return jax.tree.map(
        lambda leaf: np.float32(rng.uniform(-limit, limit, (*stacked, *leaf.shape))), shapes
    )


h1, h2 = rng.normal(size=(2, 5, 16))
for name, unit in units.items():
    cell = unit(16, reset_after=False) if name == "GRU" else unit(16)  # as the paper prints it
    params = draw(cell)
    state, rising = cell.apply({"params": params}, jnp.float32(h2), jnp.float32(h1))
    expected = by_hand[name](jax.tree.map(np.float64, params), h1, h2)
    np.testing.assert_allclose((rising, state), expected, atol=1e-5)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    weights = {"GRU": 6, "PS-LRU": 8, "RG-LRU": 10, "LRU": 12}[name]
    biases = {"GRU": 6, "PS-LRU": 4, "RG-LRU": 5, "LRU": 6}[name]  # a GRU's are doubled
    assert count == weights * 16**2 + biases * 16
    print(f"{name:7} {weights:2} h² + {biases} h parameters")

# %% [markdown]
# ## Gradients through depth and time
#
# The update gate lets $h_1$ pass a layer as $(1 - z_1) \odot h_1$, which is how the gradient of a loss at the top
# reaches the bottom of a deep stack. The authors showed in a talk of 2017 where gradients are in ten layers of
# GRUs (near the top) and of LRUs (everywhere). Here is the norm of the gradient of the loss at the last of 20
# steps with respect to what leaves every cell, $h_1'$ and $h_2'$ together: to each of them a zero is added, by
# which the loss is differentiated.

# %%
text = words(rng, 20_000)
letters = sorted(set(text))
tokens = np.array([letters.index(letter) for letter in text])
width, depth, length, batch = 32, 10, 20, 8
data = tokens[: len(tokens) // (batch * length) * batch * length].reshape(batch, -1, length)


def begin(name):
    """Parameters of an embedding, of ten cells one above the other, stacked, and of a last layer."""
    return {
        "embedding": np.float32(rng.normal(size=(len(letters), width))),
        "layers": draw(units[name](width), depth),
        "head": np.float32(rng.normal(size=(width, len(letters))) / np.sqrt(width)),
    }


def rise(name, params, inputs, probes):
    """What the top layer gives at all steps, (T, B, h): a loop over time of a loop over layers."""
    cell = units[name](width)
    embedding, layers = jnp.asarray(params["embedding"]), jax.vmap(cell.pack)(params["layers"])

    def cross(rising, layer):
        weights, state, probe = layer
        state, rising = cell.step(weights, state, rising, cell.input_projection(weights, rising))
        return rising + probe[0], state + probe[1]

    def step(states, now):
        token, probe = now
        rising, states = jax.lax.scan(cross, embedding[token], (layers, states, probe))
        return states, rising

    return jax.lax.scan(step, jnp.zeros((depth, batch, width)), (inputs.T, probes))[1]


no_probes = jnp.zeros((length - 1, depth, 2, batch, width))


def cross_entropy(params, top, targets):
    logits = top @ params["head"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


@partial(jax.jit, static_argnums=0)
def gradient_norms(name, params, chunk):
    """(L, T): of the cross entropy at the last step, by what leaves each cell."""

    def loss(probes):
        top = rise(name, params, chunk[:, :-1], probes)
        return cross_entropy(params, top[-1], chunk[:, -1])

    return jnp.sqrt(jnp.sum(jax.grad(loss)(no_probes) ** 2, axis=(2, 3, 4))).T


def show(norms, title):
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), sharey=True)
    for axis, (name, norm) in zip(axes, norms.items()):
        image = axis.imshow(
            np.log10(norm / norm.max()), origin="lower", aspect="auto", cmap="gray", vmin=-6,
            extent=(-length + 1.5, 0.5, 0.5, depth + 0.5),
        )  # fmt: skip
        axis.set(title=name, xlabel="steps before the loss")
    axes[0].set(ylabel="layer")
    figure.colorbar(image, ax=axes, label="log₁₀ of gradient norm")
    figure.suptitle(title)
    plt.show()


start = {name: begin(name) for name in units}
chunk = data[:, 0]

# The two loops against the cell by hand.
top = rise("LRU", start["LRU"], chunk[:, :-1], no_probes)
leaves, tree = jax.tree.flatten(start["LRU"]["layers"])
layers = [jax.tree.unflatten(tree, layer) for layer in zip(*map(np.float64, leaves))]
states = np.zeros((depth, batch, width))
for step, token in enumerate(chunk[:, :-1].T):
    rising = start["LRU"]["embedding"][token]
    for number, params in enumerate(layers):
        rising, states[number] = by_hand["LRU"](params, rising, states[number])
    np.testing.assert_allclose(top[step], rising, atol=1e-5)

before = {name: np.asarray(gradient_norms(name, start[name], chunk)) for name in units}
reach = {name: norm[0, -1] / norm[-1, -1] for name, norm in before.items()}
print({name: f"{value:.1e}" for name, value in reach.items()})
assert all(reach[name] > 10 * reach["GRU"] for name in units if name != "GRU")
show(before, "at initialisation")

# %% [markdown]
# The column at the right is what the last step's cells get, one layer below the other: in the GRU it falls by a
# constant factor a layer, because all that rises has to pass through a candidate; in the lattice, whose gates are
# about a half at first, half of $h_1$ passes. Through time about half of a state passes in all four.
#
# ## A little training
#
# On a made-up text, eight words in random order, with Adam: what ten layers make of the first hundred steps. The
# GRU's lowest layers hardly hear of the loss, and so it is slow to get beyond the frequencies of letters. (One
# seed, and one learning rate for all; a depth that suits the lattice, not one at which GRUs are used.)

# %%
stream = np.moveaxis(data, 1, 0)  # (steps, B, T)
optimizer = optax.adam(3e-3)


@partial(jax.jit, static_argnums=0)
def train(name, params, chunks):
    """The parameters after a step with each of the chunks, and the loss of every step."""

    def loss(params, chunk):
        top = rise(name, params, chunk[:, :-1], no_probes)
        return cross_entropy(params, top, chunk[:, 1:].T)

    def step(carry, chunk):
        value, gradient = jax.value_and_grad(loss)(carry[0], chunk)
        updates, state = optimizer.update(gradient, carry[1])
        return (optax.apply_updates(carry[0], updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), chunks)
    return params, losses


trained, losses = {}, {}
for name in units:
    trained[name], losses[name] = train(name, start[name], stream[:100])
final = {name: float(values[-10:].mean()) for name, values in losses.items()}
assert all(final[name] < final["GRU"] - 0.1 for name in units if name != "GRU")
print({name: round(value, 2) for name, value in final.items()})

frequency = np.bincount(tokens) / len(tokens)
entropy = -np.sum(frequency * np.log(frequency))
figure, axis = plt.subplots()
for name, values in losses.items():
    axis.plot(np.convolve(values, np.ones(5) / 5, "valid"), label=name)
axis.axhline(entropy, color="0.6", linestyle=":", linewidth=1)
axis.text(95, entropy - 0.02, "letters by their frequency", ha="right", va="top", fontsize=8)
axis.set(xlabel="Adam step", ylabel="cross entropy (nats)", title="ten layers")
axis.legend(loc="lower left", ncols=2)
plt.show()

# %% [markdown]
# After training the lattice's gradients are at all depths; the GRU's are still in its upper layers.

# %%
after = {name: np.asarray(gradient_norms(name, trained[name], chunk)) for name in units}
reach = {name: norm[0, -1] / norm[-1, -1] for name, norm in after.items()}
print({name: f"{value:.1e}" for name, value in reach.items()})
assert all(reach[name] > 100 * reach["GRU"] for name in units if name != "GRU")
show(after, "after training")
