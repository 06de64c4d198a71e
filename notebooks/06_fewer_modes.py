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
# A trained LRU is a linear system, $h_k = \Lambda h_{k-1} + B u_k$, $y_k = \mathrm{Re}[C h_k] + D u_k$.
# Which of its modes do the outputs use, and how many can go? Balanced truncation answers both, for one
# layer at a time ([Forgione et al., 2024](https://arxiv.org/abs/2403.14833), for LRUs). First a layer as
# it is drawn, then a small model of ListOps trained here, then `configs/lra_listops.py:quick`.

# %%
import contextlib
import io
import json
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import lru
from lru.analysis.balancing import gramian
from lru.analysis.reduction import balanced_truncation, hankel_singular_values, modal_truncation
from lru.spectrum import layer_modes
from lru.training.config import load_config

plt.style.use("notebook.mplstyle")

# %% [markdown]
# ## Gramians in closed form
#
# For white noise the state's covariance is $E[h h^*]_{ij} = (B B^*)_{ij} / (1 - \lambda_i {\bar\lambda}_j)$. The
# outputs are real, so the system to reduce has the $2N$ real states $\mathrm{Re}\,h$ and
# $\mathrm{Im}\,h$, whose covariance $P$ also needs $E[h h^T]_{ij} = (B B^T)_{ij} / (1 - \lambda_i \lambda_j)$.
# Here it is beside a simulation.

# %%
layer = lru.LRU(64, r_max=0.99)
params = jax.jit(layer.init)(jax.random.key(0), np.ones((1, 2, 4), np.float32))["params"]
(modes,) = layer_modes(params)
rng, h, total = np.random.default_rng(0), np.zeros((64, 2_000)), 0
for k in range(700):
    h = modes.lam[:, None] * h + modes.into @ rng.normal(size=(4, 2_000))
    if k >= 600:
        s = np.concatenate([h.real, h.imag])
        total = total + s @ s.T / (100 * 2_000)
exact = gramian(modes.lam, modes.into)
error = np.linalg.norm(total - exact) / np.linalg.norm(exact)
assert error < 0.02
print(f"P is {exact.shape[0]} x {exact.shape[1]}; the simulation differs by {error:.1%}")

# %% [markdown]
# ## What a layer uses
#
# With $Q$, the same of $C$, the Hankel singular values are $\sigma_i = \sqrt{\mathrm{eig}_i(PQ)}$: how much a
# state takes from past inputs and gives to later outputs. In balanced coordinates both Gramians are
# $\mathrm{diag}(\sigma)$, and dropping the last states makes an error in the $H_\infty$ norm, the largest gain
# at any frequency, of at most $2 \sum_{\text{dropped}} \sigma_i$. Modes are no such coordinates: dropping those
# with the smallest gain of their own is a poor choice, because modes of similar frequency cancel each other.


# %%
def response(params):
    """The gains at 300 frequencies, `(300, H, H)`."""
    (modes,), z = layer_modes(params), np.exp(1j * np.linspace(0, np.pi, 300))[:, None]
    pairs = ((modes.lam, modes.into, modes.out), tuple(map(np.conj, modes)))
    return sum(np.einsum("on,kn,ni->koi", c, z / (z - lam), b) for lam, b, c in pairs) / 2


def norm(gains):
    return np.linalg.norm(gains, 2, axis=(1, 2)).max()


sigma, whole, sizes = hankel_singular_values(params), response(params), np.arange(4, 65, 4)
errors = {
    name: np.array([norm(response(reduce(params, int(k))) - whole) for k in sizes]) / norm(whole)
    for name, reduce in (("balanced", balanced_truncation), ("modal", modal_truncation))
}
bound = np.array([2 * sigma[2 * k :].sum() for k in sizes]) / norm(whole)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
axes[0].plot(np.arange(128) / 2, sigma / sigma[0])
axes[0].set(xlabel="number / 2 (a mode is two states)", ylabel="Hankel singular value / largest")
for name, values in errors.items():
    axes[1].plot(sizes, values, label=name)
axes[1].plot(sizes, bound, color="0.6", linestyle=":", label="bound of balanced")
axes[1].set(xlabel="modes kept of 64", ylabel="relative error", ylim=(1e-7, 30))
axes[1].legend()
for axis in axes:
    axis.set_yscale("log")
plt.show()
assert errors["balanced"][-1] < 1e-5  # all modes: the layer itself, to the rounding of float32
assert np.all(errors["balanced"] <= bound + 1e-5)
assert errors["balanced"][7] < 0.03 * errors["modal"][7]  # half of the modes

# %% [markdown]
# ## A trained run
#
# ListOps as in notebook 02, so small that it trains in seconds. `lru.reduce --sweep` reduces the best
# checkpoint and evaluates it again; nothing is trained after the reduction. A layer's own inputs are not
# white noise, and lie in few directions: given their second moments, balanced truncation keeps what these
# inputs can reach.

# %%
overrides = {
    "data.max_length": 32,
    "data.pad_to": 32,
    "data.num_train": 4_000,
    "data.num_validation": 500,
    "data.num_test": 500,
    "model.num_layers": 3,
    "model.d_model": 32,
    "model.mixer.d_state": 48,
    "model.remat": False,
    "optimizer.learning_rate": 8e-3,
    "train.batch_size": 32,
    "train.steps": 300,
    "train.eval_every": 50,
    "train.checkpoint_every": 100,
}
config = load_config(
    "../configs/lra_listops.py:quick", [f"--config.{name}={v}" for name, v in overrides.items()]
)
log = io.StringIO()
with (
    tempfile.TemporaryDirectory() as scratch,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),  # what is said on the way belongs in a terminal
):
    import lru.reduce
    from lru.training.loop import train_and_evaluate

    workdir, data = Path(scratch, "run"), Path(scratch, "data")
    train_and_evaluate(config, workdir, data_dir=data)
    out = ["--sweep", f"--out={scratch}/out"]
    lru.reduce.main([f"--workdir={workdir}", f"--data_dir={data}", *out])
    small = json.loads(Path(scratch, "out", "sweep.json").read_text())


# %%
def draw(axis, found):
    styles = iter(plt.rcParams["axes.prop_cycle"])
    whole = 100 * found["whole"]["accuracy"]
    for name in ("balanced", "balanced, measured inputs", "modal"):
        scores = [100 * score["accuracy"] for score in found[name]]
        axis.plot([*found["modes"], found["d_state"]], [*scores, whole], label=name, **next(styles))
    axis.axhline(whole, color="0.8", linewidth=1, zorder=0)
    axis.set(xlabel="modes of each layer", ylabel="test accuracy (%)")


def at(found, name, modes):
    return found[name][found["modes"].index(modes)]["accuracy"]


quick = json.loads(Path("../results/reduction/listops-seed0.json").read_text())
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for axis, found, title in ((axes[0], small, "trained here"), (axes[1], quick, ":quick")):
    draw(axis, found)
    axis.set(title=title)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()
assert at(small, "balanced", 24) > small["whole"]["accuracy"] - 0.05

# %% [markdown]
# On the right is `configs/lra_listops.py:quick`, four layers of 64 modes, from the record of
# `scripts/reduction.py`. Half of the modes go without a loss; so do five eighths, if the layers' inputs are
# measured; a quarter then costs a point and a half. The half of the modes with the largest gains has 28 %:
# balanced truncation does not keep modes, but combinations of them.

# %%
assert at(quick, "balanced", 32) > quick["whole"]["accuracy"] - 0.005
assert at(quick, "balanced, measured inputs", 24) > quick["whole"]["accuracy"] - 0.005
for modes in quick["modes"]:
    scores = (f"{name} {at(quick, name, modes):.1%}" for name in ("balanced", "modal"))
    print(f"{modes:2d} of 64 modes: {', '.join(scores)}")

# %% [markdown]
# All Hankel singular values of these layers are within a factor of 400 of the largest: none of the states is
# unused, but the last half of them adds little. `docs/reduction.md` has Text and recall too, and the scores
# after fine-tuning: `python -m lru.reduce --workdir=DIR --modes=32 --out=FOLDER` writes an export, which
# `lru.train --init_from=FOLDER` takes.
