"""Draws the modes of a run's Linear Recurrent Units: `python -m lru.spectrum --workdir=DIR`.

The command draws a page that compares the layers of the run's best checkpoint with the layers
before training: eigenvalues, moduli, phases, time scales and impulse responses. With --animation or
--html, it instead draws the eigenvalues over training: as an animation, or as a web page with a
slider. If --out is given too, it also draws the comparison. The command supports not only LRUs but
also the other diagonal layers, which are in lru.baselines.

The module exports the functions that compute these quantities, and functions that plot them. Each
plotting function takes Matplotlib `Axes` and returns them:

    from lru.spectrum import model_eigenvalues, plot_time_scales, read_run
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lru.analysis.histograms import plot_frequency, plot_modulus, plot_time_scales
from lru.analysis.modes import (
    Modes,
    eigenvalues,
    find_layers,
    layer_modes,
    model_eigenvalues,
    model_modes,
)
from lru.analysis.plots import (
    plot_eigenvalues,
    plot_gains,
    plot_impulse_responses,
    plot_near_circle,
    plot_norms,
    plot_trajectory,
)
from lru.analysis.responses import (
    InputGains,
    impulse_norm,
    impulse_response,
    input_gains,
    measured_gain,
    ring_gain,
)
from lru.analysis.statistics import (
    fractions,
    frequencies,
    glorot_eigenvalues,
    phase_density,
    ring_density,
    ring_fractions,
    time_scales,
)
from lru.command_line import CACHE_HELP, Parser, add_run_arguments, cache_compilations, path, run
from lru.errors import UserError
from lru.io.terminal import log

__all__ = [
    "InputGains", "Modes", "RunModes", "eigenvalues", "find_layers", "fractions", "frequencies",
    "glorot_eigenvalues", "impulse_norm", "impulse_response", "input_gains", "layer_modes", "main",
    "measured_gain", "model_eigenvalues", "model_modes", "phase_density", "plot_eigenvalues",
    "plot_frequency", "plot_gains", "plot_impulse_responses", "plot_modulus", "plot_near_circle",
    "plot_norms", "plot_time_scales", "plot_trajectory", "read_run", "read_trajectories",
    "ring_density", "ring_fractions", "ring_gain", "time_scales",
]  # fmt: skip


_HELP = """Draws the eigenvalues and modes of a run's Linear Recurrent Units and other
diagonal layers.

For example:

    python -m lru.spectrum --workdir=runs/listops
    python -m lru.spectrum --workdir=runs/listops --html=eigenvalues.html
    python -m lru.spectrum --workdir=runs/listops --animation=eigenvalues.gif
"""


class RunModes(NamedTuple):
    """The modes of a run's diagonal layers before training and at the best checkpoint.

    Attributes:
      initial: the modes before training, by path, as returned by `model_modes`.
      trained: the modes of the best checkpoint, by path.
      step: the step of the best checkpoint.
    """

    initial: dict[str, tuple[Modes, ...]]
    trained: dict[str, tuple[Modes, ...]]
    step: int


def read_run(
    workdir: Path,
    *,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
) -> RunModes:
    """Returns a run's initial modes and the modes of its best checkpoint.

    The data set is read only if the work directory has no `dataset.json`.

    Args:
      workdir, data_dir, manual_dir, allow: see `lru.training.best.restore_best`.

    Raises:
      UserError: if the run cannot be restored (see `restore_best`), its initial weights are missing
        or damaged, or the model has no diagonal layer.
    """
    from lru.training.best import restore_best
    from lru.training.init_from import set_initial_weights
    from lru.training.run_config import load_run_config

    experiment, state, step = restore_best(
        workdir, data_dir=data_dir, manual_dir=manual_dir, allow=allow, read_data=False
    )
    set_initial_weights(load_run_config(workdir), workdir, experiment)
    trained = model_modes(state.params, experiment.layers)
    if not trained:
        raise UserError(
            f"the run in {workdir} has no Linear Recurrent Unit or other diagonal layer, so there "
            "are no eigenvalues to draw; give the --workdir of a run that has one"
        )
    initial = model_modes(experiment.init_state().params, experiment.layers)
    return RunModes(initial, trained, step)


def read_trajectories(workdir: Path) -> tuple[list[int], dict[str, np.ndarray]]:
    """Returns the steps of a run's evaluations, and the eigenvalues of each layer at these steps.

    The eigenvalues are those that training logs in the work directory, before training and at every
    evaluation. They can also be read while the run is training.

    Args:
      workdir: the work directory of the run.

    Returns:
      The K steps, and the eigenvalues `(K, N)` of each layer, by path.

    Raises:
      UserError: if no eigenvalues are logged, or a file of them is damaged.
    """
    from lru.training.eigenvalue_log import EigenvalueLog
    from lru.training.history import latest_history
    from lru.training.recovery import check_spectra

    if found := latest_history(workdir / "checkpoints"):
        eigenvalue_log = EigenvalueLog(workdir / "spectra", found[1]["spectra"])
        check_spectra(eigenvalue_log, workdir / "spectra", print)
    steps, trajectories = EigenvalueLog(workdir / "spectra").trajectories()
    if not trajectories:
        raise UserError(
            f"{workdir / 'spectra'} holds no eigenvalues: training logs them there if the model "
            "has a Linear Recurrent Unit or another diagonal layer; train such a model"
        )
    return steps, trajectories


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, draws what they ask for, and prints the paths of the files."""
    parser = Parser("python -m lru.spectrum", description=_HELP, epilog=CACHE_HELP)
    add_run_arguments(parser)
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE.png",
        help="the page to draw; default: spectrum_page.png in the work directory",
    )
    parser.add_argument(
        "--animation",
        type=path,
        metavar="FILE.gif",
        help="draw the trajectories of the eigenvalues over training; then the page is drawn only "
        "with --out",
    )
    parser.add_argument(
        "--html", type=path, metavar="FILE.html",
        help=(
            "write an HTML page with all layers, a slider over training, and each mode's time "
            "scale and impulse response; then the page is drawn only with --out"
        ),
    )  # fmt: skip
    known = parser.parse_args(argv)

    if known.animation or known.html:
        _draw_training(known.workdir, known.animation, known.html)
    if known.out or not (known.animation or known.html):
        cache_compilations()
        _draw_page(
            known.workdir,
            known.out or known.workdir / "spectrum_page.png",
            data_dir=known.data_dir,
            manual_dir=known.manual_dir,
            allow=known.allow,
        )


def _draw_page(workdir: Path, out: Path, **reading: Any) -> None:
    from lru.analysis.pages import save_page

    modes = read_run(workdir, **reading)
    title = f"{_title(workdir)}\nbefore training (grey) and at step {modes.step:,} (blue)"
    save_page(modes.initial, modes.trained, out, title)
    log(f"see {out}")


def _draw_training(workdir: Path, animation: Path | None, html: Path | None) -> None:
    """Draws the logged eigenvalues over training, as an animation, as an HTML page, or as both."""
    from lru.analysis.interactive import save_interactive
    from lru.analysis.pages import save_animation

    title = _title(workdir)
    steps, trajectories = read_trajectories(workdir)
    if animation:
        save_animation(steps, trajectories, animation)
        log(f"see {animation}")
    if html:
        save_interactive(steps, trajectories, html, title)
        log(f"see {html}")


def _title(workdir: Path) -> str:
    from lru.training.figures import run_name
    from lru.training.run_config import load_run_config

    config = load_run_config(workdir)
    try:
        return f"{run_name(config)}, {workdir.resolve().name}"
    except (AttributeError, LookupError, TypeError) as error:
        raise UserError(
            f"{workdir / 'config.json'} is damaged: it does not name a data set and a model; "
            "restore it"
        ) from error


if __name__ == "__main__":
    sys.exit(run(main))
