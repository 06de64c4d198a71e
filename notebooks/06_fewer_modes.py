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
# # Fewer modes
#
# A trained LRU is a linear system, $h_k = \Lambda h_{k-1} + B u_k$, $y_k = \mathrm{Re}[C h_k] + D u_k$. This notebook
# derives which combinations of its modes the outputs use, removes the others by balanced truncation
# ([Forgione et al., 2024](https://arxiv.org/abs/2403.14833), for LRUs), and shows from stored records what that costs in
# accuracy. It needs `pip install -e ".[notebooks]"` and takes under a minute on a laptop.

# %%
import json
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import lru
from lru.analysis.balancing import gramian
from lru.analysis.reduction import balanced_truncation, hankel_singular_values, modal_truncation
from lru.spectrum import layer_modes

ROOT = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
plt.style.use("lru.analysis.plots")

# %% [markdown]
# ## Gramians in closed form
#
# For white noise as input, the state has the covariance
# $E[h h^*]_{ij} = (B B^*)_{ij} / (1 - \lambda_i {\bar\lambda}_j)$. The outputs are real, so the system to reduce has the
# $2N$ real states $\mathrm{Re}\,h$ and $\mathrm{Im}\,h$. Their covariance $P$, the controllability Gramian, also
# depends on $E[h h^T]_{ij} = (B B^T)_{ij} / (1 - \lambda_i \lambda_j)$. A simulation agrees with it.

# %%
layer = lru.LRU(64, r_max=0.99)
params = jax.jit(layer.init)(jax.random.key(0), np.ones((1, 2, 4), np.float32))["params"]
(modes,) = layer_modes(params)
rng, h, samples = np.random.default_rng(0), np.zeros((64, 1_000)), []
for k in range(700):
    h = modes.lam[:, None] * h + modes.into @ rng.normal(size=(4, 1_000))
    if k >= 500 and k % 10 == 0:
        samples.append(np.concatenate([h.real, h.imag]))
samples = np.concatenate(samples, axis=1)
exact = gramian(modes.lam, modes.into)
error = np.linalg.norm(samples @ samples.T / samples.shape[1] - exact) / np.linalg.norm(exact)
assert error < 0.04
print(f"P is {exact.shape[0]} x {exact.shape[1]}; the simulation differs by {error:.1%}")

# %% [markdown]
# ## Balanced truncation
#
# Let $Q$ be the observability Gramian, the same for $C$. The Hankel singular values
# $\sigma_i = \sqrt{\mathrm{eig}_i(PQ)}$ measure how strongly a state depends on past inputs and influences later
# outputs. In balanced coordinates, both Gramians are $\mathrm{diag}(\sigma)$. Dropping the last states then changes the
# frequency response by at most $2 \sum_{\text{dropped}} \sigma_i$ at any frequency, which is the $H_\infty$ norm. The
# modes themselves are not such coordinates. Dropping those with the smallest gains is a poor choice, because modes of
# similar frequencies cancel each other.


# %%
def frequency_response(params):
    """Returns the gains at 300 frequencies, (300, H, H)."""
    (modes,), z = layer_modes(params), np.exp(1j * np.linspace(0, np.pi, 300))[:, None]
    pairs = ((modes.lam, modes.into, modes.out), tuple(map(np.conj, modes)))
    return sum(np.einsum("on,kn,ni->koi", c, z / (z - lam), b) for lam, b, c in pairs) / 2


def norm(gains):
    return np.linalg.norm(gains, 2, axis=(1, 2)).max()


sigma, whole, sizes = (
    hankel_singular_values(params),
    frequency_response(params),
    np.arange(4, 61, 8),
)
methods = {"balanced": balanced_truncation, "modal": modal_truncation}
errors = {
    name: np.array([norm(frequency_response(reduce(params, int(k))) - whole) for k in sizes])
    / norm(whole)
    for name, reduce in methods.items()
}
bound = np.array([2 * sigma[2 * k :].sum() for k in sizes]) / norm(whole)
assert np.all(errors["balanced"] <= bound + 1e-5)  # 1e-5 for the rounding of float32
assert errors["balanced"][4] < 0.03 * errors["modal"][4]  # with 36 of 64 modes

figure, axes = plt.subplots(1, 2, figsize=(9, 3))
axes[0].semilogy(np.arange(1, 129) / 2, sigma / sigma[0])
axes[0].set(
    xlabel="modes (two states each)", ylabel="Hankel singular value / largest", ylim=(1e-8, 2)
)
for name, values in errors.items():
    axes[1].semilogy(sizes, values, marker="o", markersize=4, label=name)
axes[1].semilogy(sizes, bound, color="0.6", linestyle=":", label="bound for balanced")
axes[1].set(xlabel="modes kept, of 64", ylabel="relative error", ylim=(1e-7, 30))
axes[1].legend(loc="lower left")
plt.show()

# %% [markdown]
# ## Trained models
#
# `lru.reduce --sweep` reduces every layer of a run's best checkpoint to several numbers of modes and evaluates the model,
# without further training. The inputs of a layer are not white noise: most of their variance is in few directions, and they
# change slowly. Given the second moments of the layer's states for such inputs, balanced truncation retains what these inputs
# reach. The plots show three runs of
# `scripts/reduction.py`: ListOps (four layers of 64 modes), Text (two layers of
# 32 modes) and Recall (one layer of 32 modes).

# %%
titles = {"listops": "ListOps", "text": "Text", "recall": "Recall"}
records = {
    name: json.loads((ROOT / f"results/reduction/{name}-seed0.json").read_text()) for name in titles
}


markers = {"balanced": "o", "balanced, measured inputs": "^", "modal": "s"}


figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for axis, (name, found) in zip(axes, records.items()):
    sizes = [*found["modes"], found["d_state"]]
    for method, marker in markers.items():
        scores = [100 * score["accuracy"] for score in (*found[method], found["whole"])]
        axis.plot(sizes, scores, marker=marker, markersize=4, label=method)
    axis.set(title=titles[name], xlabel="modes of each layer")
axes[0].set(ylabel="accuracy (%)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# With measured inputs, half of the modes suffice for all three models, up to 1.2 points, and a quarter of the modes for
# ListOps, up to 1.2 points, and for Recall, up to 3 points. White noise is a poor model of these inputs: half of the modes
# cost almost four points on Text, and half of all answers on Recall. Modal truncation to half of the modes leaves 27 % on
# ListOps.


# %%
def at(found, method, modes):
    return 100 * found[method][found["modes"].index(modes)]["accuracy"]


listops, text, recall = records.values()
for found, share, loss in (
    (listops, 2, 0.5),
    (listops, 4, 1.2),
    (text, 2, 1.2),
    (recall, 2, 0.1),
    (recall, 4, 3),
):
    lost = 100 * found["whole"]["accuracy"] - at(
        found, "balanced, measured inputs", found["d_state"] // share
    )
    assert lost < loss, lost
assert (
    at(text, "balanced", 16) < 100 * text["whole"]["accuracy"] - 3.5
    and at(recall, "balanced", 16) < 60
)
assert at(listops, "modal", 32) < 30
for name, found in records.items():
    half = found["d_state"] // 2
    scores = (f"{method} {at(found, method, half):.1f}" for method in markers)
    print(
        f"{name:8} {100 * found['whole']['accuracy']:5.1f} % with all modes; with half:",
        ", ".join(scores),
    )
    for values in found["hankel_singular_values"].values():
        assert values[0] < 1000 * values[-1]

# %% [markdown]
# The largest and the smallest Hankel singular value of every layer differ by less than a factor of 1,000: no state is
# unused, but the last half contributes little. `docs/reduction.md` has the scores after fine-tuning.
# `python -m lru.reduce --workdir=DIR --modes=32 --out=FOLDER` writes the reduced model of a run as an export, from which
# `lru.train --init_from=FOLDER` continues.
