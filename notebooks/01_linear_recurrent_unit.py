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
# Every part of the layer of Orvieto et al.,
# [*Resurrecting Recurrent Neural Networks for Long Sequences*](https://arxiv.org/abs/2303.06349)
# (ICML 2023), in the order in which the paper finds it: the equation, the ring that eigenvalues are
# drawn from, the exponential they are learned through, the factor $\gamma$, and the small phases that
# very long sequences need. Each claim is computed, asserted, and drawn.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lru
from lru.ops.initializers import phase_theta_log, ring_nu_log
from lru.spectrum import (
    input_gains,
    measured_gain,
    plot_norms,
    ring_density,
    ring_gain,
    time_scales,
)

plt.style.use("notebook.mplstyle")
rng = np.random.default_rng(0)

# %% [markdown]
# ## The layer
#
# A recurrent network whose state is complex, and whose recurrence is linear and diagonal: Eq. (7) and
# Appendix A,
#
# $$x_k = \Lambda x_{k-1} + \exp(\gamma^{\log}) \odot (B u_k), \qquad
#   y_k = \mathrm{Re}[C x_k] + D \odot u_k,$$
# $$\Lambda = \mathrm{diag}\left(\exp(-\exp(\nu^{\log}) + i \exp(\theta^{\log}))\right).$$
#
# The parameters of `lru.LRU` have the names of Appendix A, and are real: complex ones are kept as two
# arrays. Here is the equation as a loop in double precision, and the layer beside it.


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
y = layer.apply(variables, u)
expected = loop(jax.tree.map(np.float64, variables["params"]), u)
np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5 * np.abs(expected).max())

figure, axis = plt.subplots()
axis.plot(expected[:, 0], color="0.75", linestyle="-", linewidth=4, label="NumPy loop, float64")
axis.plot(y[:, 0], label="lru.LRU, float32")
axis.set(xlabel="step k", ylabel="first output")
axis.legend(ncols=2)
plt.show()

# %% [markdown]
# Because nothing nonlinear happens between two steps, the loop need not be a loop: the recurrence is a
# linear system, which can be solved for all steps at once. `lru.linear_recurrence` has several methods
# that do; all give the same states.

# %%
lam = np.exp(-0.01 + 0.3j * np.arange(4)).astype(np.complex64)
drive = rng.normal(size=(200, 4)).astype(np.complex64)
methods = ("sequential", "associative")
states = [np.asarray(lru.linear_recurrence(lam, drive, method=name)[0]) for name in methods]
x = 0
for k in range(200):
    x = lam * x + drive[k]
    for found in states:
        np.testing.assert_allclose(found[k], x, rtol=0, atol=1e-4)

# %% [markdown]
# ## Eigenvalues from a ring
#
# A dense real matrix drawn by Glorot's rule has eigenvalues that fill the unit disk evenly (notebook 02).
# A diagonal layer can begin with them at once, or with those of a ring of the disk. By Lemma 3.2, with
# $u_1, u_2$ uniform on $[0, 1]$,
#
# $$\nu = -\tfrac{1}{2} \log\left(u_1 (r_{\max}^2 - r_{\min}^2) + r_{\min}^2\right), \qquad \theta = 2\pi u_2$$
#
# makes $\exp(-\nu + i\theta)$ uniform in area on the ring $r_{\min} \le |\lambda| \le r_{\max}$. So the
# modulus has the density $2r / (r_{\max}^2 - r_{\min}^2)$, and $|\lambda|^2$ is uniform.


# %%
def draw(key, n, r_min, r_max, max_phase=2 * np.pi):
    keys = jax.random.split(key)
    nu_log, theta_log = ring_nu_log(r_min, r_max), phase_theta_log(max_phase)
    nu, theta = np.exp([np.float64(nu_log(keys[0], (n,))), np.float64(theta_log(keys[1], (n,)))])
    return np.exp(-nu + 1j * theta)


def uniform_distance(values):
    """The largest distance between their distribution and the uniform one on [0, 1]."""
    return np.abs(np.sort(values) - (np.arange(len(values)) + 0.5) / len(values)).max()


rings = [(0.0, 1.0), (0.5, 0.9), (0.9, 0.999)]
drawn = [draw(jax.random.key(1), 2_000, *ring) for ring in rings]
for lam, (r_min, r_max) in zip(drawn, rings):
    area = (np.abs(lam) ** 2 - r_min**2) / (r_max**2 - r_min**2)
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is exceeded by chance once in a thousand times.
    assert uniform_distance(area) < 1.95 / 2_000**0.5
    assert uniform_distance(np.angle(lam) % (2 * np.pi) / (2 * np.pi)) < 1.95 / 2_000**0.5

figure, axes = plt.subplots(2, 3, figsize=(7, 4), height_ratios=(2.2, 1))
for above, below, lam, ring in zip(*axes, drawn, rings):
    above.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6"))
    above.scatter(lam[:700].real, lam[:700].imag, s=1.5, color="black")
    above.set(title=f"$r$ in [{ring[0]}, {ring[1]}]", xlabel="Re λ", aspect="equal")
    above.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    r = np.linspace(*ring, 100)
    below.hist(np.abs(lam), 25, density=True, color="0.8")
    below.plot(r, ring_density(r, *ring), linestyle="-")
    below.set(xlabel="modulus |λ|")
axes[0, 0].set(ylabel="Im λ")
axes[1, 0].set(ylabel="density")
plt.show()

# %% [markdown]
# ## Why an exponential, and why a stable one
#
# What a linear layer sees of an input $k$ steps ago goes through $\lambda^k$. Section 3.3 asks what it
# takes to learn one such power, by Adam, 500 steps, from
#
# $$L(\lambda) = \tfrac{1}{2} \left|\lambda^k - \lambda_*^k\right|^2, \qquad k = 100 \qquad (\text{Figure 8}).$$
#
# With $\lambda = \exp(-\nu + i\theta)$ the loss is a function of $\nu$ and $\theta - \theta_*$ alone:
# Adam takes the same way whatever the target's phase. With $\lambda = a + ib$ it depends on the phase,
# because Adam scales $a$ and $b$ by themselves, and only on the axes are these modulus and phase. (The
# paper does not give its starting point. Ours has the target's modulus, as there, and is 0.03 radians
# off in phase, 3 radians in $\lambda^{100}$; worst for us is the diagonal.)


# %%
def real_imag(p):
    return jax.lax.complex(p[..., 0], p[..., 1])


def exponential(p):
    return jnp.exp(jax.lax.complex(-p[..., 0], p[..., 1]))


def stable_exponential(p):
    return jnp.exp(jax.lax.complex(-jnp.exp(p[..., 0]), p[..., 1]))


def fit(eigenvalue, start, target, k=100, learning_rate=1e-3, steps=500):
    """Losses (steps, ...) and eigenvalues of Adam from each start (..., 2) to each target (...)."""
    optimizer = optax.adam(learning_rate)

    def losses(p):
        return 0.5 * jnp.abs(eigenvalue(p) ** k - target**k) ** 2

    def step(carry, _):
        p, state = carry
        updates, state = optimizer.update(jax.grad(lambda p: losses(p).sum())(p), state)
        p = optax.apply_updates(p, updates)
        return (p, state), (losses(p), eigenvalue(p))

    way = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)[1]
    return jax.tree.map(np.asarray, way)


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
axes[0].set(xlabel="Adam step", ylabel="loss", title="target phase π/4", ylim=(1e-20, 2))
axes[0].legend()
late = [np.maximum(losses[150], 1e-20) for losses in (by_parts, by_exp)]
axes[1].semilogy(theta / np.pi, late[0], marker="o", markersize=4)
axes[1].semilogy(theta / np.pi, late[1], marker="s", markersize=4)
axes[1].set(xlabel="target phase (multiples of π)", ylabel="loss", title="after 150 steps")
plt.show()

# %% [markdown]
# What neither guards against is a step over the unit circle, beyond which $\lambda^k$ explodes. With
# $\nu = \exp(\nu^{\log})$, the *stable* exponential, $|\lambda| < 1$ whatever is learned. So let the target
# lie outside, at $|\lambda_*| = 1.01$: one follows it, the other comes as close as it may.

# %%
outside = np.array([1.01 * np.exp(0.5j)])
with jax.enable_x64(True):
    start = jnp.array([[0.01, 0.5]])
    _, way = fit(exponential, start, outside)
    start = start.at[:, 0].set(jnp.log(start[:, 0]))
    _, stable_way = fit(stable_exponential, start, outside, learning_rate=1e-2)
assert np.abs(way).max() > 1.005
assert np.abs(stable_way).max() < 1 and np.abs(stable_way)[-1] > 0.999

figure, axis = plt.subplots()
axis.plot(np.abs(way), label=r"$\exp(-\nu + i\theta)$")
axis.plot(np.abs(stable_way), label=r"$\exp(-\exp(\nu^{\log}) + i\theta)$")
axis.axhline(1, color="0.6", linestyle=":", linewidth=1)
axis.set(xlabel="Adam step", ylabel="modulus |λ|", title="a target outside the unit disk")
axis.legend()
plt.show()

# %% [markdown]
# ## The normalisation $\gamma$
#
# Eigenvalues near the unit circle remember long, and sum up much: for white noise (or a constant input
# and phases all around the circle) Proposition 3.3 says that in the long run
#
# $$\frac{E\|x\|^2}{E\|Bu\|^2} = \frac{1}{r_{\max}^2 - r_{\min}^2} \log\frac{1 - r_{\min}^2}{1 - r_{\max}^2}.$$
#
# A single mode sums white noise up to $1 / (1 - |\lambda|^2)$, so the layer multiplies $Bu$ by a learnable
# $\gamma$ that begins as $\sqrt{1 - |\lambda|^2}$ (section 3.4): then the ratio is one on every ring.

# %%
outer = np.array([0.9, 0.97, 0.99, 0.997, 0.999])
gains, normalised = [], []
for run in range(3):  # Figure 9 has ten runs, of N = 500 modes and 10,000 steps
    for r_max in outer:
        lam = draw(jax.random.key(run), 200, 0.5, r_max)
        noise = rng.normal(size=(4_000, 2, 200))
        gains.append(measured_gain(lam, noise))
        gamma = np.sqrt(1 - np.abs(lam) ** 2)
        normalised.append(measured_gain(lam, noise * gamma) * np.mean(gamma**2))
gains, normalised = np.reshape(gains, (3, -1)), np.reshape(normalised, (3, -1))
predicted = np.array([ring_gain(0.5, r_max) for r_max in outer])
np.testing.assert_allclose(gains.mean(axis=0), predicted, rtol=0.15)
np.testing.assert_allclose(normalised, 1, rtol=0.1)

figure, axis = plt.subplots()
plot_norms(axis, outer, predicted, gains)
for row in normalised:
    axis.scatter(1 - outer, row, marker="x", color="0.4")
axis.scatter([], [], marker="x", color="0.4", label="measured, with γ")
axis.set(title="rings 0.5 ≤ |λ| ≤ r_max, white noise")
axis.legend()
plt.show()

# %% [markdown]
# ## Small phases for very long sequences
#
# The impulse response of a mode is $\lambda^k$, which turns as often as its phase says. With 16,384 steps
# to remember, as on Path-X, and phases all around the circle, what is left of an impulse is a fast
# oscillation; phases in $[0, \pi/50]$ give slow ones (Figure 4; for Path-X the paper chose
# $[0, \pi/10]$). Three modes each, with $\nu = 5 \cdot 10^{-5}$, a time scale of 20,000 steps: how often they change their
# sign in $L$ steps is $L\theta/\pi$, up to $\theta = \pi$.

# %%
steps, nu = np.arange(16_384), 5e-5
np.testing.assert_allclose(time_scales(np.exp([-nu])), 20_000)
figure, axes = plt.subplots(2, 3, figsize=(7, 3.2), sharex=True, sharey=True)
turns = np.array([0.11, 0.23, 0.38])  # of the largest phase
for row, (most, name) in zip(axes, [(2 * np.pi, "[0, 2π]"), (np.pi / 50, "[0, π/50]")]):
    for axis, theta in zip(row, most * turns):
        response = np.exp((-nu + 1j * theta) * steps).real
        signs = np.count_nonzero(np.diff(np.signbit(response)))
        assert abs(signs - len(steps) * theta / np.pi) <= 1
        axis.plot(steps, response, linewidth=0.3 if most > 1 else 0.8, linestyle="-")
        axis.set_title(f"θ = {theta:.3f} of {name}", fontsize=8)
    row[0].set(ylabel="Re λᵏ")
axes[1, 1].set(xlabel="step k since the impulse")
plt.show()

# %% [markdown]
# Small phases have a price: $\gamma$ is right for white noise, while a mode also sums up what is constant
# in its input, to $\gamma / |1 - \lambda|$. With $\gamma^2 = 1 - r^2$ the square of that is Poisson's kernel,
# whose mean over all phases is one, as Proposition 3.3 has it; over phases in $[0, \varphi]$ it is
#
# $$\frac{1}{\varphi} \int_0^{\varphi} \frac{1 - r^2}{|1 - r e^{i\theta}|^2}\, d\theta =
#   \frac{2}{\varphi} \arctan\left(\frac{1 + r}{1 - r} \tan\frac{\varphi}{2}\right)
#   \approx \frac{\pi}{\varphi},$$
#
# ten for Path-X. It is made by few modes, those that turn less than they decay.

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
axis.set(xlabel="fraction of the modes, slowest first", ylabel="|state|², constant input")
axis.set(xlim=(1e-5, 1), title="γ on the circle |λ| = 0.9995")
axis.legend()
plt.show()
