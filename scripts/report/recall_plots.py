"""Pictures of the runs on Recall: accuracy during training, and eigenvalues before and after it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.format import Record
from report.pictures import Picture, panels
from report.recall import NAMES, at_best, sort
from report.rows import RECALL_LENGTHS

_GROUPS = {
    "ablations of the LRU": (
        "relu", "tanh", "linear", "real_imag", "exp", "stable_exp", "ring", "ring_full_phase",
        "full_phase", "lru",
    ),
    "the LRU, S4D and S5": ("s4d", "s4d_fit", "s5", "s5_fit", "lru"),
}  # fmt: skip
_COLOURS = {
    "relu": "0.3", "tanh": "0.5", "linear": "0.7", "real_imag": "tab:brown", "exp": "tab:pink",
    "stable_exp": "tab:olive", "ring": "tab:blue", "ring_full_phase": "tab:cyan",
    "full_phase": "tab:orange", "lru": "tab:red", "s4d": "tab:green", "s4d_fit": "tab:green",
    "s5": "tab:purple", "s5_fit": "tab:purple",
}  # fmt: skip
_DASHED = {"s4d", "s5"}
_SPECTRA = ("ring", "full_phase", "lru")

Lines = Mapping[str, Sequence[Record]]  # the runs, by ablation


def pictures(records: Mapping[str, Record]) -> list[Picture]:
    """Returns pictures of validation accuracy for each length and size, and one of eigenvalues.

    A picture is left out if there are not enough records for it.

    Args:
      records: the records, by file name.
    """
    cells, quick, *_ = sort(records)
    found = [
        _curves(f"{length}", f"T = {length:,}, each recurrence at its best learning rate", lines)
        for length in RECALL_LENGTHS
        if len(lines := at_best(cells, length)) > 1
    ]
    if len(quick) > 1:
        found.append(_curves("quick", "the variants `:quick`, T = 1,024", quick))
    best: Lines = at_best(cells, 1024)
    runs = best if len(best) >= len(quick) else quick  # whichever has more ablations
    spectra = {
        ablation: runs[ablation]
        for ablation in _SPECTRA
        if "eigenvalues" in runs.get(ablation, [{}])[0]
    }
    if spectra:
        caption = (
            "Eigenvalues before training (circles) and of the tested checkpoint (dots), T = 1,024, "
            f"one seed. {_movement(spectra)}"
        )
        figure = functools.partial(plot_spectra, spectra)
        found.append(Picture("recall/spectra_1024.png", caption, figure))
    return found


def _curves(name: str, what: str, lines: Lines) -> Picture:
    caption = (
        f"Validation accuracy against steps, {what}. Each line is one seed; the dotted line is "
        "chance."
    )
    return Picture(f"recall/curves_{name}.png", caption, functools.partial(plot_curves, lines))


def plot_curves(lines: Lines) -> Figure:
    """Plots validation accuracy against steps: a panel for each group of ablations.

    Only ablations with runs count: a group without any is left out, and so is a group with one if
    another group has more.
    """
    present = {title: [r for r in ablations if r in lines] for title, ablations in _GROUPS.items()}
    most = max(map(len, present.values()))
    groups = {
        title: ablations for title, ablations in present.items() if len(ablations) >= min(most, 2)
    }
    figure, axes = panels(len(groups))
    for panel, (title, ablations) in zip(axes, groups.items()):
        data = draw_curves(panel, {ablation: lines[ablation] for ablation in ablations})
        panel.set(title=f"T = {data['length']:,}: {title}")
        panel.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return figure


def draw_curves(panel: Axes, lines: Lines) -> Record:
    """Draws validation accuracy against steps; returns the first run's `data` section."""
    for ablation, runs in lines.items():
        _plot_runs(panel, ablation, runs)
    data: Record = next(iter(lines.values()))[0]["config"]["data"]
    panel.axhline(100 / data["classes"], color="black", linestyle=":", linewidth=1)
    panel.set(xlabel="step", ylabel="validation accuracy (%)", ylim=(0, 103))
    return data


def _plot_runs(panel: Axes, ablation: str, runs: Sequence[Record]) -> None:
    for number, run in enumerate(runs):
        steps, _, accuracies = np.array(run["validation_curve"]).T
        panel.plot(
            steps,
            100 * accuracies,
            color=_COLOURS[ablation],
            linewidth=2 if ablation == "lru" else 1.2,
            linestyle="--" if ablation in _DASHED else "-",
            label=None if number else NAMES[ablation],
        )


def plot_spectra(lines: Lines) -> Figure:
    """Plots the eigenvalues of each ablation's first run in a panel.

    The eigenvalues are those before training and those of the tested checkpoint. Both axes are
    logarithmic: the phase, and the distance from the unit circle.
    """
    figure = Figure(figsize=(4 * len(lines), 3.8), layout="constrained")
    axes = figure.subplots(1, len(lines), squeeze=False, sharex=True, sharey=True)[0]
    for panel, (ablation, runs) in zip(axes, lines.items()):
        before, after = (_phase_and_distance(lam) for lam in eigenvalues(runs[0]))
        panel.plot(*np.stack([before, after], axis=1), color="0.75", linewidth=0.8, zorder=1)
        panel.scatter(*before, s=26, facecolors="none", edgecolors="0.5", label="before")
        panel.scatter(*after, s=9, color="#0b3c8c", label="after", zorder=3)
        panel.set(
            xscale="log", yscale="log", title=NAMES[ablation], xlabel="phase |arg λ| (radians)"
        )
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("distance from the unit circle, 1 − |λ|")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def eigenvalues(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Returns the layer's eigenvalues `(N,)`, before training and of the tested checkpoint."""
    found = []
    for step in (0, record["test"]["step"]):
        (pair,) = record["eigenvalues"][str(step)].values()
        real, imaginary = np.array(pair)
        found.append(real + 1j * imaginary)
    return found[0], found[1]


def _phase_and_distance(lam: np.ndarray) -> np.ndarray:
    """Returns absolute phases, and distances from the unit circle, as an array `(2, N)`."""
    return np.stack([np.abs(np.angle(lam)), 1 - np.abs(lam)])


def _movement(lines: Lines) -> str:
    """Returns, in words, how far the eigenvalues move in training.

    The measures are the median relative changes of the distance from the unit circle and of the
    phase.
    """
    words = []
    for ablation, runs in lines.items():
        before, after = (_phase_and_distance(lam) for lam in eigenvalues(runs[0]))
        phase, distance = 100 * np.median(np.abs(after / before - 1), axis=1)
        words.append(f"{distance:.0f} % and {phase:.0f} % ({NAMES[ablation]})")
    return (
        "The median mode changes its distance from the unit circle and its phase by "
        f"{'; '.join(words)}."
    )
