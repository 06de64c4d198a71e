"""Draws the picture at the top of the README: `python scripts/draw_idea.py`.

The left half shows the Linear Recurrent Unit: the eigenvalues of an initialized layer, and the
impulse responses of three modes. The right half shows the Lattice Recurrent Unit: its cells in
depth and time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import lru
from lru.command_line import Parser, path, run
from lru.spectrum import layer_modes, plot_eigenvalues

ROOT = Path(__file__).resolve().parents[1]
BLUE, GREY = "#0b3c8c", "0.35"


def main(argv: Sequence[str]) -> None:
    """Draws the picture and saves it to --out."""
    parser = Parser(prog="python scripts/draw_idea.py", description=__doc__)
    parser.add_argument(
        "--out",
        type=path,
        default=ROOT / "docs" / "idea.png",
        help="the image file to write; default: docs/idea.png",
    )
    out = parser.parse_args(argv).out
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    linear, lattice = figure.subfigures(1, 2, width_ratios=(1.25, 1), wspace=0.04)
    _linear(linear)
    _lattice(lattice)
    figure.savefig(out, dpi=110)
    print(f"wrote {out}")


def _linear(figure: Any) -> None:
    figure.suptitle("Linear Recurrent Unit", fontsize=13, color=BLUE)
    figure.supxlabel(
        r"$x_k = \lambda \odot x_{k-1} + \gamma \odot B u_k$,     "
        r"$y_k = \mathrm{Re}(C x_k) + D \odot u_k$",
        fontsize=12,
    )
    layer = lru.LRU(64, r_min=0.5, r_max=0.99)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 1, 1)))["params"]
    (modes,) = layer_modes(params)
    disk, response = figure.subplots(1, 2)
    plot_eigenvalues(disk, modes.lam)
    disk.set_title(r"N eigenvalues $\lambda$ on a ring", fontsize=10)
    disk.set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$")
    steps = np.arange(60)
    slow = modes.lam[np.abs(np.angle(modes.lam)) < 0.5]
    slow = slow[np.argsort(-np.abs(slow))]
    for lam, style in zip((slow[0], slow[len(slow) // 2], slow[-1]), ("-", "--", ":")):
        label = rf"$|\lambda|$ = {abs(lam):.2f}"
        response.plot(steps, (lam**steps).real, style, color=BLUE, linewidth=1.3, label=label)
    response.set(xlabel="step k", ylabel=r"Re $\lambda^k$", ylim=(-1.05, 1.05))
    response.set_title("impulse responses of three modes", fontsize=10)
    response.spines[["top", "right"]].set_visible(False)
    response.legend(frameon=False, fontsize=8, loc="upper right")


def _lattice(figure: Any) -> None:
    figure.suptitle("Lattice Recurrent Unit", fontsize=13, color=BLUE)
    figure.supxlabel(
        r"$h_1' = z_1 \odot c_2 + (1 - z_1) \odot h_1$,     "
        r"$h_2' = z_2 \odot c_1 + (1 - z_2) \odot h_2$",
        fontsize=12,
    )
    axis = figure.subplots()
    arrow = dict(arrowstyle="-|>", linewidth=1.4, shrinkA=0, shrinkB=0)
    side, times, layers = 0.34, 4, 3
    for time in range(times):
        for layer in range(layers):
            axis.text(
                time, layer, "LRU", ha="center", va="center", fontsize=9,
                bbox=dict(boxstyle="round,pad=0.55", facecolor="#e8eefa", edgecolor=BLUE),
            )  # fmt: skip
            right, left = time + side, time - 1 + side
            recurrent = dict(arrow, color=BLUE)
            axis.annotate("", (time - side, layer), (left, layer), arrowprops=recurrent)
            upward = dict(arrow, color=GREY, linestyle="--")
            axis.annotate("", (time, layer - side), (time, layer - 1 + side), arrowprops=upward)
            if time == times - 1:
                axis.annotate("", (right + 0.32, layer), (right, layer), arrowprops=recurrent)
        upward = dict(arrow, color=GREY, linestyle="--")
        axis.annotate(
            "", (time, layers - 1 + 2 * side), (time, layers - 1 + side), arrowprops=upward
        )
        axis.text(time, -0.8, f"$u_{time + 1}$", ha="center", va="top", fontsize=11)
        axis.text(time, layers - 0.28, f"$y_{time + 1}$", ha="center", va="bottom", fontsize=11)
    axis.text(0.5, 2.12, r"$h_2$", ha="center", color=BLUE, fontsize=11)
    axis.text(0.09, 1.5, r"$h_1$", va="center", color=GREY, fontsize=11)
    axis.set(xlim=(-0.9, times - 0.3), ylim=(-1.05, layers + 0.05))
    axis.text(times - 0.35, -0.75, "time", ha="right", va="top", color=BLUE, fontsize=10)
    axis.text(-0.85, 1, "depth", rotation=90, va="center", color=GREY, fontsize=10)
    axis.axis("off")


if __name__ == "__main__":
    sys.exit(run(main))
