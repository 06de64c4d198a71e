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
# # Eigenvalue spectra, before and after training
#
# Where eigenvalues begin, by Theorem 3.1 and Lemma 3.2 of
# [Orvieto et al. (2023)](https://arxiv.org/abs/2303.06349), and where training takes them: of a small
# model of ListOps, trained here. The paper shows no spectra after training.

# %%
import contextlib
import io
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from lru.baselines import DenseRNN
from lru.layers.linear import eigenvalues
from lru.ops.initializers import phase_theta_log, ring_nu_log
from lru.spectrum import (
    fractions,
    glorot_eigenvalues,
    plot_time_scales,
    plot_trajectory,
    ring_fractions,
    time_scales,
)
from lru.training.config import load_config

plt.style.use("notebook.mplstyle")
rng = np.random.default_rng(0)

# %% [markdown]
# ## The circular law
#
# The eigenvalues of a real $N \times N$ matrix of independent entries from $\mathcal N(0, 1/N)$, Glorot's
# rule, become uniform on the unit disk as $N$ grows (Theorem 3.1, Figure 2). So the fraction of them inside
# of a radius $r$ goes to $r^2$, and faster than that of as many independent points would: eigenvalues of one
# matrix repel each other. A few of a finite matrix lie outside.

# %%
sizes, radius = (50, 200, 800), np.linspace(0, 1.1, 45)
dense = [glorot_eigenvalues(rng, n) for n in sizes]
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6))
for axis, lam, n in zip(axes, dense, sizes):
    inside = np.mean(np.abs(lam)[:, None] <= radius, axis=0)
    distance = np.abs(inside - np.minimum(radius**2, 1)).max()
    assert distance < 8 / n**0.75
    assert np.abs(lam).max() < 1 + 3 / n**0.5
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6"))
    axis.scatter(lam.real, lam.imag, s=20 / n**0.5, color="black")
    axis.set(title=f"N = {n}", xlabel="Re λ", aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    axes[3].plot(radius, inside, label=f"N = {n}")
axes[0].set(ylabel="Im λ")
axes[3].plot(radius, np.minimum(radius**2, 1), color="0.6", linestyle=":", label="r²")
axes[3].set(xlabel="radius r", ylabel="fraction inside")
axes[3].legend(fontsize=8)
plt.show()

# %% [markdown]
# Haiku's rule for recurrent networks, which the paper's dense baselines use, cuts the normal distribution
# off at two deviations. That leaves 0.88 of the deviation, and a disk of radius 0.88: after 100 steps the
# slowest mode keeps $0.88^{100} \approx 3 \cdot 10^{-6}$ of what it saw.

# %%
layer = DenseRNN(400)
params = jax.jit(layer.init)(jax.random.key(0), np.zeros((1, 1), np.float32))["params"]
truncated = np.abs(np.linalg.eigvals(np.float64(params["A"])))
np.testing.assert_allclose(truncated.max(), 0.88, atol=0.04)

# %% [markdown]
# ## The ring beside it
#
# A diagonal layer can begin with the same spectrum at once: the ring from 0 to 1 of Lemma 3.2 is the
# circular law, without its repulsion. Narrower rings begin with longer time scales, $-1/\log|\lambda|$ steps.

# %%
keys = jax.random.split(jax.random.key(0))
ring = {"nu_log": ring_nu_log(0.0, 1.0)(keys[0], (800,))}
ring = np.asarray(eigenvalues(ring | {"theta_log": phase_theta_log()(keys[1], (800,))}))
edges = np.linspace(0, 1, 11)
expected = ring_fractions(edges)
np.testing.assert_allclose(fractions(np.abs(ring), edges), expected, atol=4 * 0.5 / 800**0.5)
np.testing.assert_allclose(fractions(np.abs(dense[-1]), edges), expected, atol=0.03)

figure, axes = plt.subplots(1, 3, figsize=(9, 2.6))
for axis, lam, title in zip(axes, (dense[-1], ring), ("dense matrix", "ring from 0 to 1")):
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6"))
    axis.scatter(lam.real, lam.imag, s=1, color="black")
    axis.set(title=f"{title}, N = 800", xlabel="Re λ", ylabel="Im λ", aspect="equal")
    axes[2].stairs(fractions(np.abs(lam), edges), edges, label=title, linewidth=1.4)
axes[2].patches[0].set(edgecolor="0.6")
axes[2].patches[1].set(edgecolor="black", linestyle="--")
axes[2].plot((edges[1:] + edges[:-1]) / 2, expected, "k.", label="Lemma 3.2")
axes[2].set(xlabel="modulus |λ|", ylabel="fraction of modes")
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## A run
#
# ListOps: the value of expressions like `[MAX 4 3 [MIN 2 3 ] 1 0 ]`, short ones here, made by the rules of
# the Long Range Arena. The config is `configs/lra_listops.py:quick` with less of everything, so that it
# trains in seconds; every evaluation logs the eigenvalues of every layer.

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
    from lru.training.eigenvalue_log import EigenvalueLog
    from lru.training.loop import train_and_evaluate

    record = train_and_evaluate(config, Path(scratch, "run"), data_dir=Path(scratch, "data"))
    steps, paths = EigenvalueLog(Path(scratch, "run", "spectra")).trajectories()
accuracy = record["test"]["accuracy"]
assert accuracy > 0.3  # always the commonest digit: 0.15
print(f"{record['parameters']:,} parameters, {steps[-1]} steps, test accuracy {accuracy:.1%}")

# %% [markdown]
# Here are the eigenvalues of its layers: grey rings are where they began, uniform on the ring from 0 to
# 0.99, lines are their way from evaluation to evaluation. None can leave the disk (notebook 01 has the reason).

# %%
layers = {f"layer {number}": path for number, path in enumerate(paths.values(), start=1)}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, (name, path) in zip(axes, layers.items()):
    assert np.abs(path).max() < 1
    axis.set_prop_cycle(color=["black"])
    plot_trajectory(axis, path)
    axis.set(title=name)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ## Time scales
#
# A mode of modulus $|\lambda|$ falls to $1/e$ in $-1/\log|\lambda|$ steps. Uniform in area on the disk, half of
# all modes have $|\lambda|^2 < 1/2$, and so a time scale below $2 / \log 2 = 2.9$ steps; the few slow ones are
# what carries a value over a whole expression. Some hundred steps leave the histogram nearly as it was.

# %%
edges = np.geomspace(0.3, 100, 16)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
for axis, (name, path) in zip(axes, layers.items()):
    before, after = time_scales(path[0]), time_scales(path[-1])
    assert 1.5 < np.median(before) < 5 and 0.5 < np.median(after) / np.median(before) < 2
    plot_time_scales(axis, path[-1], path[0], edges=edges)
    axis.axvline(2 / np.log(2), color="0.4", linestyle=":", linewidth=1)
    axis.set(title=name, xlabel="time scale (steps)", ylabel="")
axes[0].set(ylabel="fraction of modes")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ## What training moved
#
# A small change of $\lambda = r e^{i\theta}$ has a part along the radius, $dr$, which is about how long a mode
# remembers, and one across, $r\, d\theta$, which is about what it listens to. In this run the phases moved
# several times as far as the moduli, in every layer. (One seed of a small model: a look, not a law.)

# %%
moved = {"along the radius": [], "across": []}
for path in layers.values():
    begin, end = path[0], path[-1]
    moved["along the radius"].append(np.median(np.abs(np.abs(end) - np.abs(begin))))
    moved["across"].append(np.median(np.abs(begin) * np.abs(np.angle(end / begin))))
assert np.all(np.array(moved["across"]) > 1.5 * np.array(moved["along the radius"]))

figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
for shift, (name, values), color in zip((-0.2, 0.2), moved.items(), ("0.75", "#0b3c8c")):
    axes[0].bar(np.arange(3) + shift, values, 0.4, color=color, label=name)
axes[0].set_xticks(range(3), layers)
axes[0].set(ylabel="median way of a mode", ylim=(0, 1.4 * max(moved["across"])))
axes[0].legend()
for name, path in layers.items():
    axes[1].plot(steps, np.median(np.abs(path - path[0]), axis=1), label=name)
axes[1].set(xlabel="training step", ylabel="median distance from the start")
axes[1].legend()
plt.show()

# %% [markdown]
# A run of any size leaves the same files: `python -m lru.spectrum --workdir=DIR` draws a page of them, and
# with `--animation=FILE.gif` the way of all eigenvalues.
