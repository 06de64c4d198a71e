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
# [Orvieto et al. (2023)](https://arxiv.org/abs/2303.06349) remove the nonlinearity from the recurrence and keep
# it between the layers. This notebook shows what that changes: three layers learn a filter, a nonlinearity adds
# frequencies to a signal, and a linear recurrence with a pointwise nonlinearity after it computes what neither
# could alone. It needs `pip install -e ".[notebooks]"` and takes under a minute on a laptop.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lru
from lru.baselines import DenseRNN

plt.style.use("lru.analysis.plots")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Learning a filter
#
# The task of Figure 7: from 32 inputs $\sin(0.05\, a k) \cos(0.05\, c k)^2$, with $a$ from 1 to 8 and $c$ from 1 to
# 4, and their outputs, learn the filter $h_k = 0.1\, e^{-0.015 k} \cos(0.04 k)^2$ of 100 steps. Each model is one
# layer of 100 hidden units, trained for 100 steps of Adam at the best of four learning rates. Two of them are dense,
# $x_k = f(A x_{k-1} + B u_k)$ (Eq. 1), with the identity and with tanh as $f$; the third is `lru.LRU`. In so few
# steps the two dense layers reach about the same loss, because neither has the slow modes that the filter needs.
# The diagonal layer has them from the start.

# %%
k = np.arange(100)
h = 0.1 * np.exp(-0.015 * k) * np.cos(0.04 * k) ** 2
a, c = (grid.ravel()[:, None] for grid in np.meshgrid(np.arange(1, 9), np.arange(1, 5)))
u = np.sin(0.05 * a * k) * np.cos(0.05 * c * k) ** 2
y = np.stack([np.convolve(row, h)[:100] for row in u])


def train(layer, steps=100):
    """Returns the losses and the parameters of the learning rate with the lowest final loss."""
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
    "dense, linear": DenseRNN(100, "linear"),
    "dense, tanh": DenseRNN(100, "tanh"),
    "lru.LRU": lru.LRU(100, r_min=0.9, r_max=0.999),
}
runs = {name: train(layer) for name, layer in layers.items()}
last = {name: losses[-20:].mean() for name, (losses, _) in runs.items()}
assert last["lru.LRU"] < 0.1 * min(last["dense, linear"], last["dense, tanh"])

apply = jax.jit(layers["lru.LRU"].apply)
learned = apply({"params": runs["lru.LRU"][1]}, np.float32(u)[..., None])[..., 0]
assert np.linalg.norm(learned - y) < 0.1 * np.linalg.norm(y)
figure, axes = plt.subplots(1, 2)
for name, (losses, _) in runs.items():
    axes[0].semilogy(losses, label=name)
axes[0].set(xlabel="Adam step", ylabel="mean squared error")
axes[0].legend()
axes[1].plot(k, y[9], color="0.75", linestyle="-", linewidth=5, label="target $h ∗ u$")
axes[1].plot(k, learned[9], label="lru.LRU")
axes[1].set(xlabel="step $k$", ylabel="output", title="one of the 32 inputs", ylim=(-0.4, 0.9))
axes[1].legend(loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# ## Spectral leakage
#
# The output of a linear recurrence has the frequencies of its input. The output of a ReLU has others too. By
# Proposition E.1, the spectrum of ReLU$(u)$ is that of $u$ convolved with
# $\sum_i 2 L_i e^{-i\omega p_i} \mathrm{sinc}(\omega L_i)$, a sum over the intervals in which $u$ is positive, with
# centers $p_i$ and half lengths $L_i$. It therefore extends beyond all frequencies of $u$ (Figure 6), and an MLP
# between linear layers can create frequencies that later layers need.

# %%
period = 512
time = np.arange(period)
signal = sum(np.cos(2 * np.pi * f * time / period + p) for f, p in ((5, 0.3), (9, 1.0), (14, 2.0)))
layer = lru.LRU(32, r_min=0.5, r_max=0.9)
repeated = np.tile(signal, 3)[:, None].astype(np.float32)
filtered, _ = jax.jit(layer.init_with_output)(jax.random.key(0), repeated)
answers = {
    "input": signal,
    "linear recurrence": np.float64(filtered[-period:, 0]),  # the transient has decayed
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
    axis.semilogy(np.maximum(p[:80] / p.max(), 1e-16), linewidth=1.2)
    axis.axvline(14.5, color="0.6", linestyle=":", linewidth=1)
    axis.set(title=name, xlabel="cycles per period")
axes[0].set(ylabel="power / largest", ylim=(1e-8, 3))
plt.show()

# %% [markdown]
# ## What a linear recurrence can remember
#
# After $T$ steps the state is $x_j = \sum_k \lambda_j^k\, u_{T-1-k}$, a Vandermonde matrix times the inputs. If
# $N \ge T$ eigenvalues are distinct, the matrix is invertible, and a linear readout of the state returns every
# input exactly. In finite precision this needs complex eigenvalues near the unit circle, as
# [Orvieto et al. (2024)](https://arxiv.org/abs/2307.11888) show: with real eigenvalues, the matrix is numerically
# singular.

# %%
steps, delays = 64, np.arange(64)
spread = np.exp(2j * np.pi * np.arange(steps) / steps)
eigenvalues = {"complex, |λ| = 0.99": 0.99 * spread, "real, 0 to 0.99": np.linspace(0, 0.99, steps)}
sequences = rng.normal(size=(500, steps))
noise = 1e-6 * rng.normal(size=(500, steps))  # about the rounding error of a float32 state


def readout(lam):
    """Returns R (T, N) with u = Re[R x], the inverse of the Vandermonde matrix, newest input first."""
    return np.linalg.pinv(lam ** delays[:, None], rcond=1e-6).T


error, states = {}, {}
for name, lam in eigenvalues.items():
    x = np.zeros((500, steps), complex)
    for u_k in sequences.T:
        x = lam * x + u_k[:, None]
    states[name] = x
    found = ((x + noise) @ readout(lam).T).real
    error[name] = np.sqrt(np.mean((found - sequences[:, ::-1]) ** 2, axis=0))
assert error["complex, |λ| = 0.99"].max() < 1e-5
assert error["real, 0 to 0.99"].max() > 0.5

figure, axis = plt.subplots()
for name, values in error.items():
    axis.semilogy(delays, values, label=name)
axis.set(xlabel="steps since the input", ylabel="root mean square error")
axis.set(title="inputs of variance one, read from the state of 64 modes")
axis.legend(loc="center right")
plt.show()

# %% [markdown]
# ## What a pointwise nonlinearity adds
#
# No linear layer computes a nonlinear function of the past such as $y = u_{T-4}\, u_{T-11}$: the best linear readout
# of all inputs explains none of its variance. But
#
# $$u v = \tfrac{1}{4} (u + v)^2 - \tfrac{1}{4} (u - v)^2,$$
#
# so a linear recurrence, a linear map, two units with a pointwise square, and another linear map compute it
# exactly. A block of the paper's model has this form: a recurrence, then an MLP at each step.

# %%
target = sequences[:, -4] * sequences[:, -11]
weights, *_ = np.linalg.lstsq(sequences[:250], target[:250], rcond=None)
linear = sequences[250:] @ weights
explained = 1 - np.mean((linear - target[250:]) ** 2) / np.var(target[250:])
assert explained < 0.1

rows = readout(eigenvalues["complex, |λ| = 0.99"])[[3, 10]]
hidden = (states["complex, |λ| = 0.99"] @ rows.T).real @ np.array([[1, 1], [1, -1]])
block = hidden**2 @ np.array([0.25, -0.25])
np.testing.assert_allclose(block, target, atol=1e-10)

figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True)
for axis, values, name in zip(axes, (linear, block[250:]), ("linear", "linear, then squares")):
    axis.scatter(target[250:], values, s=8, color="#0b3c8c")
    axis.set(xlabel="target", title=name)
axes[0].set(ylabel="output")
plt.show()
