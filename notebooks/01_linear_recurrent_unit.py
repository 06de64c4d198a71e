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
# # The Linear Recurrent Unit, from equation to code
#
# This notebook builds the layer of Orvieto et al.,
# [*Resurrecting Recurrent Neural Networks for Long Sequences*](https://arxiv.org/abs/2303.06349)
# (ICML 2023), in the order of the paper: the equation, the distribution of the initial eigenvalues, their
# exponential parameterization, the factor $\gamma$, and small phases for very long sequences. Every claim is
# computed, asserted and plotted. It needs `pip install -e ".[notebooks]"` and takes under a minute on a laptop.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lru
from lru.baselines import DenseRNN
from lru.ops.initializers import phase_theta_log, ring_nu_log
from lru.spectrum import (
    fractions,
    glorot_eigenvalues,
    input_gains,
    measured_gain,
    plot_norms,
    ring_density,
    ring_fractions,
    ring_gain,
    time_scales,
)

plt.style.use("lru.analysis.plots")
rng = np.random.default_rng(0)

# %% [markdown]
# ## The layer
#
# The state is complex, and the recurrence is linear and diagonal (Eq. 7 and Appendix A):
#
# $$x_k = \Lambda x_{k-1} + \exp(\gamma^{\log}) \odot (B u_k), \qquad
#   y_k = \mathrm{Re}[C x_k] + D \odot u_k,$$
# $$\Lambda = \mathrm{diag}\left(\exp(-\exp(\nu^{\log}) + i \exp(\theta^{\log}))\right).$$
#
# The parameters of `lru.LRU` have the names of Appendix A. They are real: a complex matrix is stored as two
# real ones. A loop in double precision computes the same outputs as the layer.


# %%
def loop(p, u):
    lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    b, c = p["B_re"] + 1j * p["B_im"], p["C_re"] + 1j * p["C_im"]
    x, y = np.zeros(len(lam), complex), []
    for u_k in u:
        x = lam * x + np.exp(p["gamma_log"]) * (b @ u_k)
        y.append((c @ x).real + p["D"] * u_k)
    return np.stack(y)


layer = lru.LRU(64, r_min=0.9, r_max=0.999)
u = rng.normal(size=(200, 8)).astype(np.float32)  # (T, H)
variables = jax.jit(layer.init)(jax.random.key(0), u)
y = jax.jit(layer.apply)(variables, u)
expected = loop(jax.tree.map(np.float64, variables["params"]), u)
np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5 * np.abs(expected).max())

figure, axis = plt.subplots()
axis.plot(expected[:, 0], color="0.75", linestyle="-", linewidth=5, label="NumPy loop, float64")
axis.plot(y[:, 0], label="lru.LRU, float32")
axis.set(xlabel="step $k$", ylabel="first output channel", ylim=(-7, 9))
axis.legend(ncols=2, loc="upper left")
plt.show()

# %% [markdown]
# Nothing between two steps is nonlinear, so the recurrence is a linear system that can be solved for all steps
# at once. `lru.linear_recurrence` has several methods, which give the same states.

# %%
lam = np.exp(-0.01 + 0.3j * np.arange(4)).astype(np.complex64)
terms = rng.normal(size=(200, 4)).astype(np.complex64)
methods = ("sequential", "associative")
states = [np.asarray(lru.linear_recurrence(lam, terms, method=name)[0]) for name in methods]
x = 0
for k in range(200):
    x = lam * x + terms[k]
    for found in states:
        np.testing.assert_allclose(found[k], x, rtol=0, atol=1e-4)

# %% [markdown]
# ## The circular law
#
# The paper starts from a dense recurrent matrix. Glorot's rule draws the entries of a real $N \times N$ matrix
# independently from $\mathcal N(0, 1/N)$. As $N$ grows, its eigenvalues become uniform on the unit disk
# (Theorem 3.1, Figure 2), so the fraction of them within a radius $r$ approaches $r^2$. A finite matrix has a
# few eigenvalues outside the disk.


# %%
def plot_disk(axis, lam, title, size=2):
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6"))
    axis.scatter(lam.real, lam.imag, s=size, color="#0b3c8c")
    axis.set(title=title, xlabel="Re λ", aspect="equal")
    axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xticks=(-1, 0, 1), yticks=(-1, 0, 1))


sizes, radius = (50, 150, 450), np.linspace(0, 1.1, 45)
dense = [glorot_eigenvalues(rng, n) for n in sizes]
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), width_ratios=(1, 1, 1, 1.2))
for axis, lam, n in zip(axes, dense, sizes):
    inside = np.mean(np.abs(lam)[:, None] <= radius, axis=0)
    distance = np.abs(inside - np.minimum(radius**2, 1)).max()
    assert distance < 8 / n**0.75
    assert np.abs(lam).max() < 1 + 3 / n**0.5
    plot_disk(axis, lam, f"$N$ = {n}", size=40 / n**0.5)
    axes[3].plot(radius, inside, label=f"$N$ = {n}")
axes[0].set(ylabel="Im λ")
axes[3].plot(radius, np.minimum(radius**2, 1), label="$r^2$")
axes[3].set(xlabel="radius $r$", ylabel="fraction inside")
axes[3].legend(fontsize=9)
plt.show()

# %% [markdown]
# Haiku's initializer for recurrent networks, which the paper's dense baselines use, truncates the normal
# distribution at two standard deviations. This multiplies the standard deviation by 0.88, and so the radius of
# the disk. After 100 steps, the slowest mode retains $0.88^{100} \approx 3 \cdot 10^{-6}$ of its input.

# %%
params = jax.jit(DenseRNN(400).init)(jax.random.key(0), np.zeros((1, 1), np.float32))["params"]
truncated = np.abs(np.linalg.eigvals(np.float64(params["A"])))
np.testing.assert_allclose(truncated.max(), 0.88, atol=0.04)

# %% [markdown]
# ## Eigenvalues on a ring
#
# A diagonal layer can start with such eigenvalues directly, or with eigenvalues on a ring. By Lemma 3.2, if
# $u_1, u_2$ are uniform on $[0, 1]$ and
#
# $$\nu = -\tfrac{1}{2} \log\left(u_1 (r_{\max}^2 - r_{\min}^2) + r_{\min}^2\right), \qquad \theta = 2\pi u_2,$$
#
# then $\exp(-\nu + i\theta)$ is uniform in area on the ring $r_{\min} \le |\lambda| \le r_{\max}$. The modulus
# has the density $2r / (r_{\max}^2 - r_{\min}^2)$, and $|\lambda|^2$ is uniform. Narrow rings near the unit circle
# give long time scales.


# %%
def draw(key, n, r_min, r_max, max_phase=2 * np.pi):
    keys = jax.random.split(key)
    nu_log, theta_log = ring_nu_log(r_min, r_max), phase_theta_log(max_phase)
    nu, theta = np.exp([np.float64(nu_log(keys[0], (n,))), np.float64(theta_log(keys[1], (n,)))])
    return np.exp(-nu + 1j * theta)


def uniform_distance(values):
    """Returns the largest distance between the distribution of values and that on [0, 1]."""
    return np.abs(np.sort(values) - (np.arange(len(values)) + 0.5) / len(values)).max()


rings = [(0.0, 1.0), (0.5, 0.9), (0.9, 0.999)]
drawn = [draw(jax.random.key(1), 2_000, *ring) for ring in rings]
for lam, (r_min, r_max) in zip(drawn, rings):
    area = (np.abs(lam) ** 2 - r_min**2) / (r_max**2 - r_min**2)
    # Kolmogorov and Smirnov: chance exceeds 1.95 / sqrt(n) once in a thousand times.
    assert uniform_distance(area) < 1.95 / 2_000**0.5
    assert uniform_distance(np.angle(lam) % (2 * np.pi) / (2 * np.pi)) < 1.95 / 2_000**0.5

figure, axes = plt.subplots(2, 3, figsize=(8, 4.6), height_ratios=(2.1, 1))
for disk, histogram, lam, ring in zip(*axes, drawn, rings):
    plot_disk(disk, lam[:400], f"{ring[0]:g} ≤ |λ| ≤ {ring[1]:g}")
    r = np.linspace(*ring, 100)
    histogram.hist(np.abs(lam), 25, density=True, color="0.8", label="drawn")
    histogram.plot(r, ring_density(r, *ring), label="Lemma 3.2")
    histogram.set(xlabel="modulus |λ|")
    histogram.locator_params(axis="x", nbins=4)
axes[0, 0].set(ylabel="Im λ")
axes[1, 0].set(ylabel="density")
figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# The ring from 0 to 1 has the distribution of the dense matrix.
edges = np.linspace(0, 1, 11)
circular = ring_fractions(edges)
np.testing.assert_allclose(fractions(np.abs(drawn[0]), edges), circular, atol=0.03)
np.testing.assert_allclose(fractions(np.abs(dense[-1]), edges), circular, atol=0.04)

# %% [markdown]
# ## Exponential parameterizations
#
# The output depends on the input $k$ steps before through $\lambda^k$. Section 3.3 asks how well Adam learns one
# such power, from
#
# $$L(\lambda) = \tfrac{1}{2} \left|\lambda^k - \lambda_*^k\right|^2, \qquad k = 100 \qquad (\text{Figure 8}).$$
#
# With $\lambda = \exp(-\nu + i\theta)$, the loss is a function of $\nu$ and $\theta - \theta_*$, so Adam makes the
# same steps for every phase of the target. With $\lambda = a + ib$ it does not, because Adam scales $a$ and $b$
# separately, and they coincide with modulus and phase only on the axes. The paper does not state its starting
# point. Here the start has the modulus of the target, and its phase is off by 0.03 radians, which is 3 radians in
# $\lambda^{100}$. Targets near the diagonal are then the hardest.


# %%
def real_imag(p):
    return jax.lax.complex(p[..., 0], p[..., 1])


def exponential(p):
    return jnp.exp(jax.lax.complex(-p[..., 0], p[..., 1]))


def stable_exponential(p):
    return jnp.exp(jax.lax.complex(-jnp.exp(p[..., 0]), p[..., 1]))


def fit(eigenvalue, start, target, k=100, learning_rate=1e-3, steps=500):
    """Returns the losses and eigenvalues (steps, ...) of Adam from starts (..., 2) to targets (...)."""
    optimizer = optax.adam(learning_rate)

    def losses(p):
        return 0.5 * jnp.abs(eigenvalue(p) ** k - target**k) ** 2

    def step(carry, _):
        p, state = carry
        updates, state = optimizer.update(jax.grad(lambda p: losses(p).sum())(p), state)
        p = optax.apply_updates(p, updates)
        return (p, state), (losses(p), eigenvalue(p))

    history = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)[1]
    return jax.tree.map(np.asarray, history)


theta, off, modulus = np.linspace(0, np.pi / 2, 13), 0.03, 0.99
target, begin = modulus * np.exp(1j * theta), modulus * np.exp(1j * (theta + off))
with jax.enable_x64(True):
    by_parts, _ = fit(real_imag, jnp.stack([begin.real, begin.imag], -1), target)
    nu = np.full_like(theta, -np.log(modulus))
    by_exp, _ = fit(exponential, jnp.stack([nu, theta + off], -1), target)

np.testing.assert_allclose(by_exp, by_exp[:, :1] * np.ones(13), rtol=1e-2, atol=1e-12)
assert by_exp[-1].max() < 1e-12 and by_parts[-1].max() > 0.05

figure, axes = plt.subplots(1, 2)
axes[0].semilogy(by_parts[:, 6], label=r"$a + ib$")
axes[0].semilogy(by_exp[:, 6], label=r"$\exp(-\nu + i\theta)$")
axes[0].set(xlabel="Adam step", ylabel="loss", title="target phase π/4", ylim=(1e-12, 3))
axes[0].legend()
after = [losses[150] for losses in (by_parts, by_exp)]
axes[1].semilogy(theta / np.pi, after[0], marker="o", markersize=4)
axes[1].semilogy(theta / np.pi, after[1], marker="s", markersize=4)
axes[1].set(xlabel="phase of the target / π", ylabel="loss", title="after 150 Adam steps")
plt.show()

# %% [markdown]
# Neither parameterization prevents a step over the unit circle, outside of which $\lambda^k$ explodes. The
# *stable* exponential $\nu = \exp(\nu^{\log})$ does: $|\lambda| < 1$ for all parameters. Below, the target is outside
# the disk, at $|\lambda_*| = 1.01$. The exponential follows it, and the stable exponential stays inside.

# %%
outside = np.array([1.01 * np.exp(0.5j)])
with jax.enable_x64(True):
    start = jnp.array([[0.01, 0.5]])
    _, unstable = fit(exponential, start, outside)
    start = start.at[:, 0].set(jnp.log(start[:, 0]))
    _, stable = fit(stable_exponential, start, outside, learning_rate=1e-2)
assert np.abs(unstable).max() > 1.005
assert np.abs(stable).max() < 1 and np.abs(stable)[-1] > 0.999

figure, axis = plt.subplots()
axis.plot(np.abs(unstable), label=r"$\exp(-\nu + i\theta)$")
axis.plot(np.abs(stable), label=r"$\exp(-\exp(\nu^{\log}) + i\theta)$")
axis.axhline(1, color="0.6", linestyle=":", linewidth=1)
axis.set(xlabel="Adam step", ylabel="modulus |λ|", title="a target outside the unit disk")
axis.legend(loc=(0.6, 0.5))
plt.show()

# %% [markdown]
# ## The normalization $\gamma$
#
# Modes with eigenvalues near the unit circle sum over many steps, so their states are large. For white noise, or
# for a constant input and phases on the whole circle, Proposition 3.3 states that in the long run
#
# $$\frac{E\|x\|^2}{E\|Bu\|^2} = \frac{1}{r_{\max}^2 - r_{\min}^2} \log\frac{1 - r_{\min}^2}{1 - r_{\max}^2}.$$
#
# For white noise, this ratio is $1 / (1 - |\lambda|^2)$ for a single mode. The layer therefore multiplies $Bu$ by a
# learnable $\gamma$ that is initially $\sqrt{1 - |\lambda|^2}$ (section 3.4), and the ratio is one on every ring.

# %%
outer = np.array([0.9, 0.97, 0.99, 0.997, 0.999])
gains, normalized = [], []
for run in range(3):  # Figure 9 has ten runs, with 10,000 steps
    for r_max in outer:
        lam = draw(jax.random.key(run), 500, 0.5, r_max)
        noise = rng.normal(size=(4_000, 500))
        gains.append(measured_gain(lam, noise))
        gamma = np.sqrt(1 - np.abs(lam) ** 2)
        normalized.append(measured_gain(lam, noise * gamma) * np.mean(gamma**2))
gains, normalized = np.reshape(gains, (3, -1)), np.reshape(normalized, (3, -1))
predicted = np.array([ring_gain(0.5, r_max) for r_max in outer])
np.testing.assert_allclose(gains.mean(axis=0), predicted, rtol=0.15)
np.testing.assert_allclose(normalized, 1, rtol=0.1)

figure, axis = plt.subplots()
plot_norms(axis, outer, predicted, gains)
for row in normalized:
    axis.scatter(1 - outer, row, marker="x", color="#c0392b")
axis.scatter([], [], marker="x", color="#c0392b", label="measured, with γ")
axis.set(title=r"white noise, rings $0.5 \leq |\lambda| \leq r_{\max}$")
axis.set(xlabel=r"distance from the unit circle, $1 - r_{\max}$", ylim=(0.7, 15))
axis.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
axis.minorticks_off()
axis.legend()
plt.show()

# %% [markdown]
# ## Small phases for very long sequences
#
# The impulse response of a mode is $\lambda^k$. Path-X has 16,384 steps. With phases on the whole circle, most
# modes change their sign every few steps, and over the whole sequence thousands of times. Phases in
# $[0, \pi/50]$ give slow oscillations (Figure 4; for Path-X the paper uses $[0, \pi/10]$). Over $L$ steps, a mode
# changes its sign about $L\theta/\pi$ times, for $\theta \le \pi$. The modes below have $\nu = 5 \cdot 10^{-5}$, a time
# scale of 20,000 steps, and phases that are the same fraction of the largest phase.

# %%
steps, nu, share = np.arange(16_384), 5e-5, 0.11
np.testing.assert_allclose(time_scales(np.exp([-nu])), 20_000)
responses, changes = {}, {}
for name, most in (("[0, 2π]", 2 * np.pi), ("[0, π/50]", np.pi / 50)):
    response = np.exp((-nu + 1j * most * share) * steps).real
    changes[name] = np.count_nonzero(np.diff(np.signbit(response)))
    assert abs(changes[name] - len(steps) * most * share / np.pi) <= 1
    responses[name] = response
fast, slow = responses.values()

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
axes[0].plot(steps[:50], fast[:50], marker="o", markersize=3, linewidth=1)
axes[0].set(title="phases in [0, 2π]\nfirst 50 steps", ylabel="Re $λ^k$")
axes[1].fill_between(steps, -np.exp(-nu * steps), np.exp(-nu * steps), color="#0b3c8c", alpha=0.3)
axes[1].text(8_192, 0, f"{changes['[0, 2π]']:,} sign changes", ha="center", va="center")
axes[1].set(title="phases in [0, 2π]\nrange of all 16,384 steps")
axes[2].plot(steps, slow, linewidth=1)
axes[2].set(title=f"phases in [0, π/50]\n{changes['[0, π/50]']} sign changes")
for axis in axes:
    axis.set(xlabel="step $k$")
plt.show()

# %% [markdown]
# Small phases have a cost. $\gamma$ normalizes the response to white noise, but a mode also sums the constant
# part of its input, up to $\gamma / |1 - \lambda|$. With $\gamma^2 = 1 - r^2$, the square of this gain is the Poisson
# kernel. Its mean over all phases is one, in agreement with Proposition 3.3. Its mean over phases in
# $[0, \varphi]$ is
#
# $$\frac{1}{\varphi} \int_0^{\varphi} \frac{1 - r^2}{|1 - r e^{i\theta}|^2}\, d\theta =
#   \frac{2}{\varphi} \arctan\left(\frac{1 + r}{1 - r} \tan\frac{\varphi}{2}\right)
#   \approx \frac{\pi}{\varphi},$$
#
# which is ten for Path-X. A few modes cause it: those whose phase is smaller than $1 - r$, so that they decay
# before they turn.

# %%
r, most = 0.9995, np.pi / 10
theta = (np.arange(200_000) + 0.5) / 200_000
squares = {}
for name, largest in (("[0, 2π]", 2 * np.pi), ("[0, π/10]", most)):
    lam = r * np.exp(1j * largest * theta)
    squares[name] = input_gains(lam, np.sqrt(1 - r**2)).constant ** 2
np.testing.assert_allclose(squares["[0, 2π]"].mean(), 1, rtol=1e-3)
exact = 2 / most * np.arctan((1 + r) / (1 - r) * np.tan(most / 2))
np.testing.assert_allclose(squares["[0, π/10]"].mean(), exact, rtol=1e-3)
np.testing.assert_allclose(exact, np.pi / most, rtol=0.01)
assert np.median(squares["[0, π/10]"]) < 0.1

figure, axis = plt.subplots()
for name, square in squares.items():
    axis.loglog(theta, square, label=f"phases in {name}: mean {square.mean():.1f}")
axis.axhline(1, color="0.6", linestyle=":", linewidth=1)
axis.set(xlabel="phase / largest phase", ylabel="|state|², constant input")
axis.set(xlim=(1e-5, 1), title="modes with γ on the circle |λ| = 0.9995")
axis.legend()
plt.show()
