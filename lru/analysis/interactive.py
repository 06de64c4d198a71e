"""An HTML page with the eigenvalues of all layers over training."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lru.analysis.pages import evenly
from lru.analysis.plots import near_circle
from lru.errors import UserError
from lru.io.files import write_atomically

_TEMPLATE = Path(__file__).with_name("spectrum.html")
_MOST_EVALUATIONS = 150
_MOST_VALUES = 1_000_000  # complex64, about 11 MB as text


def save_interactive(
    steps: Sequence[int], trajectories: Mapping[str, np.ndarray], file: Path, title: str
) -> None:
    """Saves eigenvalues over training as an HTML page that needs no network and no other file.

    The page shows the eigenvalues of every layer at an evaluation chosen by a slider, either on the
    unit disk or by phase and distance from the unit circle. For the mode nearest to the pointer, it
    shows the modulus, phase, period, time scale, trajectory and impulse response Re lambda^k.

    If there are more than 150 evaluations, or more than a million eigenvalues, the page holds only
    evenly spaced evaluations, from the first to the last.

    Args:
      steps: the steps of the evaluations, `(K,)`.
      trajectories: eigenvalues `(K, N)` by layer; see `lru.training.eigenvalue_log.EigenvalueLog`.
      file: the file to write, whose name must end with .html.
      title: the title of the page.

    Raises:
      UserError: if the name of the file does not end with .html.
    """
    if file.suffix.lower() != ".html":
        raise UserError(f"--html is {file}; expected a file name that ends in .html")
    modes = sum(trajectory.shape[1] for trajectory in trajectories.values())
    most = min(max(_MOST_VALUES // modes, 2), _MOST_EVALUATIONS)
    shown = evenly(len(steps), most)
    data = {
        "title": title,
        "near": all(near_circle(trajectory) for trajectory in trajectories.values()),
        "steps": [int(steps[i]) for i in shown],
        "layers": [
            {"name": name, "values": _encoded(trajectory[shown])}
            for name, trajectory in trajectories.items()
        ],
    }
    # In a script, "<" could begin a tag that ends it: names come from the files of a run.
    text = json.dumps(data).replace("<", "\\u003c")
    write_atomically(file, _TEMPLATE.read_text().replace("/*DATA*/null", text))


def _encoded(values: np.ndarray) -> str:
    """Returns complex numbers as pairs of little-endian float32, in base64."""
    return base64.b64encode(values.astype("<c8").tobytes()).decode()
