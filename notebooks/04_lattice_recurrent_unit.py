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
# # The Lattice Recurrent Unit, from the GRU
#
# Ahuja & Morency, [*Lattice Recurrent Unit: Improving Convergence and Statistical Efficiency for Sequence
# Modeling*](https://arxiv.org/abs/1710.02254) (AAAI 2018), derive the unit from the GRU in three steps. This notebook
# implements the four cells in NumPy, compares them with the library's, and measures how far gradients reach in ten
# layers, before and after a short training. It needs `pip install -e ".[notebooks]"` and takes under a minute on a
# laptop. Apart from its initials, this LRU has nothing in common with the Linear Recurrent Unit of the other notebooks.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.colors import LogNorm

from lru.data.synthetic import words
from lru.lattice import LRUCell, PSLRUCell, RGLRUCell
from lru.layers.gated import GRUCell

plt.style.use("lru.analysis.plots")
rng = np.random.default_rng(0)
units = {"GRU": GRUCell, "PS-LRU": PSLRUCell, "RG-LRU": RGLRUCell, "LRU": LRUCell}

# %% [markdown]
# ## Four cells
#
# A cell of a deep recurrent network has two inputs, $h_1$ from the layer below and $h_2$ from the previous step, and
# two outputs, $h_1'$ to the layer above and $h_2'$ to the next step. In the GRU, the two outputs are equal:
#
# $$r = \sigma(W^r h_1 + U^r h_2), \quad z = \sigma(W^z h_1 + U^z h_2), \quad
#   \hat h = \tanh(W h_1 + U (r \odot h_2)),$$
# $$h_1' = h_2' = z \odot h_2 + (1 - z) \odot \hat h.$$
#
# $h_1$ reaches the output only through the candidate $\hat h$: there is no gate in depth. The **PS-LRU** (projected
# state) has the same two gates and one candidate for each direction. Here $z$ weights the candidate:
#
# $${\hat h}_1 = \tanh(W_1 h_1 + U_1 (r \odot h_2)), \quad {\hat h}_2 = \tanh(W_2 (r \odot h_1) + U_2 h_2),$$
# $$h_1' = z \odot {\hat h}_2 + (1 - z) \odot h_1, \qquad h_2' = z \odot {\hat h}_1 + (1 - z) \odot h_2.$$
#
# The candidates cross: $h_1'$ takes ${\hat h}_2$, which contains $h_2$ without a reset. The **RG-LRU** (reset gate) has
# a reset gate for each direction, $r_1$ for $h_1$ and $r_2$ for $h_2$. The **LRU** also has an update gate for each
# direction, $z_1$ in $h_1'$ and $z_2$ in $h_2'$.


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
    """Draws a cell's parameters from U(-1/√h, 1/√h), as the authors do, or a stack of them."""
    state = jnp.zeros((1, cell.features))
    shapes = jax.eval_shape(cell.init, jax.random.key(0), state, state)["params"]
    limit = 1 / np.sqrt(cell.features)
    return jax.tree.map(
        lambda leaf: np.float32(rng.uniform(-limit, limit, (*stacked, *leaf.shape))), shapes
    )


h1, h2 = rng.normal(size=(2, 5, 16))
for name, unit in units.items():
    cell = unit(16, reset_after=False) if name == "GRU" else unit(16)  # as in the paper
    params = draw(cell)
    state, rising = jax.jit(cell.apply)({"params": params}, jnp.float32(h2), jnp.float32(h1))
    expected = by_hand[name](jax.tree.map(np.float64, params), h1, h2)
    np.testing.assert_allclose((rising, state), expected, atol=1e-5)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    weights = {"GRU": 6, "PS-LRU": 8, "RG-LRU": 10, "LRU": 12}[name]
    biases = {"GRU": 6, "PS-LRU": 4, "RG-LRU": 5, "LRU": 6}[name]  # a GRU has each twice
    assert count == weights * 16**2 + biases * 16
    print(f"{name:7} {weights:2} h² + {biases} h parameters")

# %% [markdown]
# ## Gradients through depth and time
#
# The update gate of the lattice passes $(1 - z_1) \odot h_1$ on to the next layer, so the gradient of a loss at the top
# reaches the bottom of a deep stack. In a talk in 2017, the authors compared the gradients in ten layers of GRUs, which
# are large near the top, and of LRUs, which are large everywhere. The plots below show the norm of the gradient of the
# loss at the last of 20 steps, with respect to the outputs $h_1'$ and $h_2'$ of every cell. To compute it, a zero is
# added to each of these outputs, and the loss is differentiated with respect to these zeros.

# %%
text = words(rng, 20_000)
letters = sorted(set(text))
tokens = np.array([letters.index(letter) for letter in text])
width, depth, length, batch = 32, 10, 20, 8
data = tokens[: len(tokens) // (batch * length) * batch * length].reshape(batch, -1, length)


def begin(name):
    """Draws the parameters of an embedding, of ten layers (stacked), and of an output layer."""
    return {
        "embedding": np.float32(rng.normal(size=(len(letters), width))),
        "layers": draw(units[name](width), depth),
        "head": np.float32(rng.normal(size=(width, len(letters))) / np.sqrt(width)),
    }


def top_outputs(name, params, inputs, probes):
    """Returns the outputs (T, B, h) of the top layer: a scan over time of scans over layers."""
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
    """Returns the gradient norms (L, T) of the cross entropy at the last step, for each cell."""

    def loss(probes):
        top = top_outputs(name, params, chunk[:, :-1], probes)
        return cross_entropy(params, top[-1], chunk[:, -1])

    return jnp.sqrt(jnp.sum(jax.grad(loss)(no_probes) ** 2, axis=(2, 3, 4))).T


def show(norms, title):
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), sharey=True)
    for axis, (name, norm) in zip(axes, norms.items()):
        image = axis.imshow(
            norm / norm.max(), origin="lower", aspect="auto", norm=LogNorm(1e-6, 1),
            extent=(-length + 1.5, 0.5, 0.5, depth + 0.5),
        )  # fmt: skip
        axis.set(title=name, xlabel="step − last step", xticks=(-15, -10, -5, 0))
    axes[0].set(ylabel="layer", yticks=(1, 4, 7, 10))
    figure.colorbar(image, ax=axes, label="gradient / largest", extend="min")
    figure.suptitle(title)
    plt.show()


start = {name: begin(name) for name in units}
chunk = data[:, 0]

# The two scans compute the same as loops over the NumPy cell.
top = top_outputs("LRU", start["LRU"], chunk[:, :-1], no_probes)
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
show(before, "at initialization")

# %% [markdown]
# The rightmost column has the cells of the last step. In the GRU, their gradient decreases by a constant factor per
# layer, because every path in depth goes through a candidate. In the lattice, the gates are initially about one half,
# so half of $h_1$ passes each layer. In time, about half of the state passes each step in all four units.
#
# ## A short training
#
# The text consists of eight words in random order. Each model has ten layers and is trained for 100 steps of Adam. The
# gradients of the GRU's lowest layers are so small that it learns little more than the frequencies of the letters. (This
# is one seed, one learning rate for all models, and a depth at which GRUs are not used without further measures.)

# %%
stream = np.moveaxis(data, 1, 0)  # (steps, B, T)
optimizer = optax.adam(3e-3)


@partial(jax.jit, static_argnums=0)
def train(name, params, chunks):
    """Returns the parameters after one step for each chunk, and the losses of these steps."""

    def loss(params, chunk):
        top = top_outputs(name, params, chunk[:, :-1], no_probes)
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
axis.axhline(entropy, color="0.6", linewidth=1, label="letter frequencies")
axis.set(xlabel="Adam step", ylabel="cross entropy (nats)", title="ten layers", ylim=(0.4, 2))
axis.legend(loc="lower left", ncols=2)
plt.show()

# %% [markdown]
# After training, the gradients of the lattice reach all layers. Those of the GRU are still confined to the upper
# layers.

# %%
after = {name: np.asarray(gradient_norms(name, trained[name], chunk)) for name in units}
reach = {name: norm[0, -1] / norm[-1, -1] for name, norm in after.items()}
print({name: f"{value:.1e}" for name, value in reach.items()})
assert all(reach[name] > 100 * reach["GRU"] for name in units if name != "GRU")
show(after, "after training")
