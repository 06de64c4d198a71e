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
# # Linear and nonlinear recurrences
#
# [Orvieto et al. (2023)](https://arxiv.org/abs/2303.06349) take the nonlinearity out of the recurrence and
# leave it to what stands between layers. Here is a filter learned by three layers, what a nonlinear
# recurrence does to a spectrum, and why a linear one with a pointwise function after it loses nothing.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lru
from lru.baselines import DenseRNN

plt.style.use("notebook.mplstyle")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Learning a filter
#
# The task of Figure 7: from 32 inputs $\sin(0.05\, a k) \cos(0.05\, c k)^2$ and their outputs, learn the
# filter $h_k = 0.1\, e^{-0.015 k} \cos(0.04 k)^2$ of 100 steps. One layer, 100 hidden units, Adam with the best
# of four learning rates, and only 100 steps; $a$ is 1 to 8 and $c$ is 1 to 4. Beside the two dense layers,
# $x_k = f(A x_{k-1} + B u_k)$ of Eq. (1), linear and tanh, stands `lru.LRU`. In so few steps the two dense ones
# are about alike, neither having the slow modes that the filter needs; the diagonal one begins with them.

# %%
k = np.arange(100)
h = 0.1 * np.exp(-0.015 * k) * np.cos(0.04 * k) ** 2
a, c = (grid.ravel()[:, None] for grid in np.meshgrid(np.arange(1, 9), np.arange(1, 5)))
u = np.sin(0.05 * a * k) * np.cos(0.05 * c * k) ** 2
y = np.stack([np.convolve(row, h)[:100] for row in u])


def train(layer, steps=100):
    """The losses and the parameters with the learning rate that ends lowest."""
    inputs, outputs = (jnp.float32(rows)[..., None] for rows in (u, y))

    def loss(params):
        return jnp.mean((layer.apply({"params": params}, inputs) - outputs) ** 2)

    def run(params, learning_rate):
        optimizer = optax.adam(learning_rate)

        def step(carry, _):
            value, gradient = jax.value_and_grad(loss)(carry[0])
            updates, state = optimizer.update(gradient, carry[1])
            return (optax.apply_updates(carry[0], updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)

    start = jax.jit(layer.init)(jax.random.key(0), inputs)["params"]
    rates = jnp.array([1e-3, 3e-3, 1e-2, 3e-2])
    (params, _), losses = jax.jit(jax.vmap(run, (None, 0)))(start, rates)
    best = int(losses[:, -20:].mean(axis=1).argmin())
    return np.asarray(losses[best]), jax.tree.map(lambda leaf: leaf[best], params)


layers = {
    "linear": DenseRNN(100, "linear"),
    "tanh": DenseRNN(100, "tanh"),
    "lru.LRU": lru.LRU(100, r_min=0.9, r_max=0.999),
}
runs = {name: train(layer) for name, layer in layers.items()}
last = {name: losses[-20:].mean() for name, (losses, _) in runs.items()}
assert last["lru.LRU"] < 0.1 * min(last["linear"], last["tanh"])

learned = layers["lru.LRU"].apply({"params": runs["lru.LRU"][1]}, np.float32(u)[..., None])[..., 0]
assert np.linalg.norm(learned - y) < 0.1 * np.linalg.norm(y)
figure, axes = plt.subplots(1, 2)
for name, (losses, _) in runs.items():
    axes[0].semilogy(losses, label=name)
axes[0].set(xlabel="Adam step", ylabel="mean squared error")
axes[0].legend()
axes[1].plot(k, y[9], color="0.7", linestyle="-", linewidth=4, label="h ∗ u")
axes[1].plot(k, learned[9], label="lru.LRU")
axes[1].set(xlabel="step k", ylabel="output", title="one of the inputs")
axes[1].legend()
plt.show()

# %% [markdown]
# ## Spectral leakage
#
# A linear recurrence answers a frequency with the same frequency. A ReLU does not: by Proposition E.1 the
# spectrum of ReLU$(u)$ is that of $u$ convolved with $\sum_i 2 L_i e^{-i\omega p_i} \mathrm{sinc}(\omega L_i)$,
# over the pieces, of half length $L_i$ around $p_i$, where $u$ is positive; and so it reaches beyond all
# frequencies of $u$ (Figure 6). An MLP between linear layers can thus make frequencies that later layers need.

# %%
period = 512
time = np.arange(period)
signal = sum(np.cos(2 * np.pi * f * time / period + p) for f, p in ((5, 0.3), (9, 1.0), (14, 2.0)))
layer = lru.LRU(32, r_min=0.5, r_max=0.9)
repeated = np.tile(signal, 3)[:, None].astype(np.float32)
filtered, _ = jax.jit(layer.init_with_output)(jax.random.key(0), repeated)
answers = {
    "input": signal,
    "linear recurrence": np.float64(filtered[-period:, 0]),  # the first two periods are forgotten
    "ReLU": np.maximum(signal, 0),
}
power = {name: np.abs(np.fft.rfft(values)) ** 2 for name, values in answers.items()}
above = {name: p[15:].sum() / p[1:].sum() for name, p in power.items()}
assert above["input"] < 1e-20 and above["linear recurrence"] < 1e-8 and above["ReLU"] > 0.02

# Proposition E.1, on the grid of the transform: a product in time is a convolution of spectra.
gate = np.fft.fft(signal > 0)
spectrum = np.fft.fft(signal)
convolved = [np.dot(spectrum, gate[(m - time) % period]) / period for m in range(period // 2 + 1)]
np.testing.assert_allclose(np.abs(convolved) ** 2, power["ReLU"], rtol=1e-6, atol=1e-6)

figure, axes = plt.subplots(1, 3, sharey=True)
for axis, (name, p) in zip(axes, power.items()):
    axis.semilogy(np.maximum(p[:80] / p.max(), 1e-16), linestyle="-", linewidth=1)
    axis.axvline(14.5, color="0.6", linestyle=":", linewidth=1)
    axis.set(title=name, xlabel="cycles per period")
axes[0].set(ylabel="power", ylim=(1e-12, 3))
plt.show()

# %% [markdown]
# ## A linear recurrence forgets nothing that it need not
#
# After $T$ steps the state is $x_j = \sum_k \lambda_j^k\, u_{T-1-k}$: a Vandermonde matrix times the inputs. With
# $N \ge T$ different eigenvalues it can be inverted, so that a linear read-out of the state gives back every
# input, in principle. In practice it takes complex eigenvalues near the unit circle, as Orvieto et al. show in
# [a later paper](https://arxiv.org/abs/2307.11888): with real ones the matrix is singular to all digits.

# %%
steps, delays = 64, np.arange(64)
spread = np.exp(2j * np.pi * np.arange(steps) / steps)
eigenvalues = {"complex, |λ| = 0.99": 0.99 * spread, "real, 0 to 0.99": np.linspace(0, 0.99, steps)}
sequences = rng.normal(size=(500, steps))
noise = 1e-6 * rng.normal(size=(500, steps))  # what float32 would leave of a state


def read_out(lam):
    """R (T, N) with u = Re[R x]: the inverse of the Vandermonde matrix, newest input first."""
    return np.linalg.pinv(lam ** delays[:, None], rcond=1e-6).T


error, states = {}, {}
for name, lam in eigenvalues.items():
    x = np.zeros((500, steps), complex)
    for u_k in sequences.T:
        x = lam * x + u_k[:, None]
    states[name] = x
    found = ((x + noise) @ read_out(lam).T).real
    error[name] = np.sqrt(np.mean((found - sequences[:, ::-1]) ** 2, axis=0))
assert error["complex, |λ| = 0.99"].max() < 1e-5
assert error["real, 0 to 0.99"].max() > 0.5

figure, axis = plt.subplots()
for name, values in error.items():
    axis.semilogy(delays, values, label=name)
axis.set(xlabel="how many steps ago", ylabel="root mean square error")
axis.set(title="inputs of size one, read from the state of 64 modes")
axis.legend()
plt.show()

# %% [markdown]
# ## And what comes after it does the rest
#
# A function of the past that is not linear, say $y = u_{T-4}\, u_{T-11}$, is beyond any linear layer: the best
# linear read-out of all inputs explains nothing of it. But
#
# $$u v = \tfrac{1}{4} (u + v)^2 - \tfrac{1}{4} (u - v)^2,$$
#
# so a linear recurrence, a linear map, two units with a pointwise square, and another linear map compute it
# exactly. That is a block of the paper's model: recurrence, then an MLP at each step by itself.

# %%
wanted = sequences[:, -4] * sequences[:, -11]
weights, *_ = np.linalg.lstsq(sequences[:250], wanted[:250], rcond=None)
linear = sequences[250:] @ weights
explained = 1 - np.mean((linear - wanted[250:]) ** 2) / np.var(wanted[250:])
assert explained < 0.1

rows = read_out(eigenvalues["complex, |λ| = 0.99"])[[3, 10]]
hidden = (states["complex, |λ| = 0.99"] @ rows.T).real @ np.array([[1, 1], [1, -1]])
block = hidden**2 @ np.array([0.25, -0.25])
np.testing.assert_allclose(block, wanted, atol=1e-10)

figure, axes = plt.subplots(1, 2, sharey=True)
for axis, values, name in zip(axes, (linear, block[250:]), ("linear", "linear, then squares")):
    axis.scatter(wanted[250:], values, s=5, color="black")
    axis.set(xlabel="wanted", title=name)
axes[0].set(ylabel="computed")
plt.show()
