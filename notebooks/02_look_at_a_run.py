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
# # Look at a run
#
# How did training change the eigenvalues of your model, how long does each mode remember, and which modes
# matter for the outputs? This notebook reads a work directory and plots the answers for each layer, without the
# data set and without training. It needs `pip install -e ".[notebooks]"` and takes under a minute on a laptop.
#
# Set `WORKDIR` to the work directory of your run. The default is `runs/listops`, the run of the README's first
# command. If it does not exist, the notebook reads `notebooks/run`, a small model of ListOps that is part of the
# repository ([how it was trained](README.md)).

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from lru.analysis.balancing import balance
from lru.analysis.pages import evenly
from lru.analysis.plots import near_circle, set_log_ticks
from lru.spectrum import (
    Modes,
    impulse_norm,
    impulse_response,
    plot_eigenvalues,
    plot_impulse_responses,
    plot_near_circle,
    plot_time_scales,
    plot_trajectory,
    read_run,
    read_trajectories,
    time_scales,
)

ROOT = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
WORKDIR = ROOT / "runs/listops"
if not WORKDIR.exists():
    WORKDIR = ROOT / "notebooks/run"

plt.style.use("lru.analysis.plots")

# %% [markdown]
# `read_run` returns the modes $(\lambda, B, C)$ of every layer before training and at the best checkpoint, where $B$
# includes $\gamma$. `read_trajectories` returns the eigenvalues at every evaluation. If there are more than four
# layers, four of them are plotted.

# %%
run = read_run(WORKDIR)
steps, trajectories = read_trajectories(WORKDIR)
paths = list(run.trained)
layers = {f"layer {number + 1}": paths[number] for number in evenly(len(paths), 4)}
before = {name: run.initial[path][0] for name, path in layers.items()}
trained = {name: run.trained[path][0] for name, path in layers.items()}
history = {name: trajectories[path] for name, path in layers.items()}
for name in layers:  # the log and the checkpoint agree
    logged = history[name][steps.index(run.step)]
    np.testing.assert_allclose(logged, trained[name].lam.ravel(), rtol=1e-6)

print(f"{WORKDIR.name}: best checkpoint at step {run.step:,}, layers: {len(paths)}")
if (WORKDIR / "record.json").exists():
    test = json.loads((WORKDIR / "record.json").read_text()).get("test", {})
    print("test:", ", ".join(f"{name} {round(value, 4):,}" for name, value in test.items()))


def panels(height, **options):
    """Returns a figure with one panel for each layer, and the pairs of names and panels."""
    width = {1: 4.5, 2: 6}.get(len(layers), 9)
    figure, axes = plt.subplots(1, len(layers), figsize=(width, height), squeeze=False, **options)
    for axis, name in zip(axes[0], layers):
        axis.set_title(name)
    return figure, list(zip(layers, axes[0]))


def finish(figure, axes):
    """Labels the y-axis of the first panel only, and draws one legend for all panels."""
    for _, axis in axes[1:]:
        axis.set_ylabel("")
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    plt.show()


# %% [markdown]
# ## Eigenvalues before and after training
#
# A gray circle is an initial eigenvalue, and a line connects it to the trained one. If all eigenvalues are close to
# the unit circle, the axes are the phase and the distance from the circle, both on logarithmic scales.

# %%
near = all(near_circle(modes.lam) for modes in (*before.values(), *trained.values()))
figure, axes = panels(3)
for name, axis in axes:
    plot = plot_near_circle if near else plot_eigenvalues
    plot(axis, trained[name].lam.ravel(), before[name].lam.ravel())
finish(figure, axes)

# %% [markdown]
# ## Trajectories
#
# The lines now show how the optimizer moved each eigenvalue from evaluation to evaluation.


# %%
def plot_path(axis, path):
    if near:
        plot_near_circle(axis, path[-1], path[0])
        phase, distance = np.abs(np.angle(path)), 1 - np.abs(path)
        axis.plot(phase, distance, color="0.45", linestyle="-", linewidth=0.7, zorder=1)
    else:
        plot_trajectory(axis, path)


figure, axes = panels(3)
for name, axis in axes:
    plot_path(axis, history[name])
finish(figure, axes)

# %% [markdown]
# A small change of $\lambda = r e^{i\theta}$ has a component along the radius, $dr$, which changes how long the mode
# remembers, and a component across it, $r\,d\theta$, which changes the frequency to which it responds. The bars are
# medians over the modes of a layer.

# %%
moved = {"along the radius": [], "across": []}
for path in history.values():
    begin, end = path[0], path[-1]
    moved["along the radius"].append(np.median(np.abs(np.abs(end) - np.abs(begin))))
    moved["across"].append(np.median(np.abs(begin) * np.abs(np.angle(end / begin))))

figure, axes = plt.subplots(1, 2)
places = np.arange(len(layers))
for shift, (name, values), color in zip((-0.2, 0.2), moved.items(), ("0.7", "#0b3c8c")):
    axes[0].bar(places + shift, values, 0.4, color=color, label=name)
axes[0].set_xticks(places, layers)
axes[0].set(ylabel="median change of λ", ylim=(0, 1.5 * np.max(list(moved.values()))))
axes[0].legend(loc="upper left")
for name, path in history.items():
    axes[1].plot(steps, np.median(np.abs(path - path[0]), axis=1), label=name)
axes[1].set(xlabel="training step", ylabel="median distance from the start")
axes[1].legend()
plt.show()

# %% [markdown]
# ## Memory
#
# A mode decays to $1/e$ in $\tau = -1/\log|\lambda|$ steps, its time scale. For slow modes this is about
# $1/(1 - |\lambda|)$: the two differ by between half a step and one step. Compare $\tau$ with the length of your
# sequences. A model without modes of that time scale cannot carry information from the first step to the last in
# one layer.

# %%
for modes in (*before.values(), *trained.values()):
    slow = modes.lam[np.abs(modes.lam) < 1]
    difference = 1 / (1 - np.abs(slow)) - time_scales(slow)
    assert np.all((difference > 0.4) & (difference < 1.1))  # with the rounding of float32

print("time scales      before training           trained")
print("(steps)         median    longest    median    longest")
for name in layers:
    pairs = (time_scales(modes[name].lam) for modes in (before, trained))
    print(f"{name:12}", *(f"{np.median(tau):9.1f} {tau.max():10.1f}" for tau in pairs))

tau = np.concatenate(
    [time_scales(modes.lam.ravel()) for modes in (*before.values(), *trained.values())]
)
tau = tau[np.isfinite(tau)]
edges = np.geomspace(tau.min(), 1.001 * tau.max(), 16)
figure, axes = panels(2.8, sharey=True)
for name, axis in axes:
    plot_time_scales(axis, trained[name].lam.ravel(), before[name].lam.ravel(), edges=edges)
    axis.set(xlabel="time scale (steps)")
finish(figure, axes)

# %% [markdown]
# ## Impulse responses
#
# The output of a layer $k$ steps after an impulse is $K_k = \mathrm{Re}[C \Lambda^k B]$, an $H \times H$ matrix. Its
# norm shows how much of an input reaches the output after $k$ steps, with all modes together.

# %%
for modes in trained.values():
    if modes.lam.ndim == 1:  # not S4D, which has one system for each channel
        kernel = impulse_response(modes, np.arange(50))
        np.testing.assert_allclose(
            impulse_norm(modes, np.arange(50)), np.linalg.norm(kernel, axis=(1, 2)), rtol=1e-3
        )

horizon = np.unique(np.geomspace(1, min(5 * tau.max(), 1e5), 200).astype(int))
gray, blue = dict(color="0.6"), dict(color="#0b3c8c", linestyle="-")
figure, axes = panels(2.8, sharey=True)
for name, axis in axes:
    lines = {
        "initial": (impulse_norm(before[name], horizon), gray),
        "trained": (impulse_norm(trained[name], horizon), blue),
    }
    plot_impulse_responses(axis, horizon, lines)
    axis.set(xlabel="steps since the impulse")
finish(figure, axes)

# %% [markdown]
# ## Which modes matter
#
# A slow mode is not always an important one: its $B$ or $C$ may be small. The largest gain of mode $i$ is
# $\|C_i\| \|B_i\| / (1 - |\lambda_i|)$, at its own frequency. Modes of similar frequency can cancel each other,
# so gains alone do not say how many modes a layer needs. The Hankel singular values do (notebook 6): a mode has two
# real states, and the sum of the values that a reduction to $n$ states drops bounds its error.


# %%
def joint(directions):
    """Returns the modes of a layer, with the output matrices of two directions stacked."""
    out = np.concatenate([modes.out for modes in directions])
    return Modes(directions[0].lam, directions[0].into, out)


def plot_importance(reducible):
    """Plots the gains of modes and the Hankel singular values of layers."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for (name, modes), marker in zip(reducible.items(), "os^v"):
        gain = np.linalg.norm(modes.into, axis=1) * np.linalg.norm(modes.out, axis=0)
        gain = gain / (1 - np.abs(modes.lam))
        points = time_scales(modes.lam), gain / gain.max()
        axes[0].scatter(*points, s=14, marker=marker, alpha=0.7, label=name)
        sigma = balance(modes).sigma
        axes[1].plot(np.arange(1, len(sigma) + 1) / 2, sigma / sigma[0])
    axes[0].set(
        xscale="log", yscale="log", xlabel="time scale (steps)", ylabel="gain / largest gain"
    )
    set_log_ticks(axes[0].xaxis)
    axes[1].set(xlabel="modes (two states each)", ylabel="Hankel singular value / largest")
    axes[1].set_yscale("log")
    axes[1].set(ylim=(max(axes[1].get_ylim()[0], 1e-8), 2))
    figure.legend(loc="outside lower center", ncols=len(reducible))
    plt.show()


reducible = {name: joint(run.trained[path]) for name, path in layers.items()}
for name, modes in list(reducible.items()):
    if modes.lam.ndim > 1 or np.abs(modes.lam).max() >= 1:
        print(f"{name} has no Hankel singular values: it is an S4D, or not stable")
        del reducible[name]
for name, modes in reducible.items():
    share = np.cumsum(balance(modes).sigma)
    needed = [np.searchsorted(share, part * share[-1]) // 2 + 1 for part in (0.9, 0.99)]
    print(
        f"{name}: {needed[0]} of {len(modes.lam)} modes have 90 % of the sum, {needed[1]} have 99 %"
    )
if reducible:
    plot_importance(reducible)

# %% [markdown]
# Commands do the same without a notebook: `python -m lru.spectrum --workdir=DIR` draws a page of these plots,
# `--html=FILE.html` writes a page for a browser with all evaluations, and `python -m lru.reduce --workdir=DIR
# --modes=K --out=FOLDER` reduces every layer to K modes and evaluates the model again.
