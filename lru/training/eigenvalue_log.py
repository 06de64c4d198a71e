"""The eigenvalues that a run logs at every evaluation: `spectra/STEP.npz` in its work directory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lru.errors import UserError
from lru.files import write_whole
from lru.spectra.layers import model_eigenvalues


class EigenvalueLog:
    """A directory with a file a step, each of which is there whole or not at all.

    A file holds the eigenvalues, complex64 `(N,)`, of every diagonal layer, by its path. A model
    that has none has no directory.

    Args:
      directory: where the files are, or will be.
      layers: `lru.spectra.layers.find_layers` of the model; only `write` needs it.
    """

    def __init__(self, directory: Path, layers: Mapping[str, Any] | None = None):
        self._directory, self._layers = directory, layers

    def write(self, step: int, params: Mapping[str, Any]) -> None:
        """Leaves the file of a step; its bytes are a function of the parameters."""
        found = model_eigenvalues(params, self._layers)
        if not found:
            return
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: lam.astype(np.complex64) for name, lam in found.items()}
        np.savez(content, **arrays)
        self._directory.mkdir(exist_ok=True)
        write_whole(self._file(step), content.getvalue())

    def keep(self, step: int) -> None:
        """Drops the files of all later steps, and one that a kill left half-written."""
        for later in self.steps():
            if later > step:
                self._file(later).unlink()
        for part in self._directory.glob("*.part"):
            part.unlink()

    def steps(self) -> list[int]:
        """The steps that there are files of, in order."""
        files = self._directory.glob("*.npz")
        return sorted(int(file.stem) for file in files if file.stem.isdecimal())

    def paths(self) -> tuple[list[int], dict[str, np.ndarray]]:
        """The steps, and the eigenvalues `(steps, N)` of every layer by its path.

        Raises:
          UserError: a file cannot be read.
        """
        steps = self.steps()
        files = [self._read(step) for step in steps]
        names = files[0] if files else {}
        return steps, {name: np.stack([file[name] for file in files]) for name in names}

    def _file(self, step: int) -> Path:
        return self._directory / f"{step}.npz"

    def _read(self, step: int) -> dict[str, np.ndarray]:
        try:
            with np.load(self._file(step), allow_pickle=False) as file:
                return dict(file)
        except Exception as error:  # zipfile and NumPy raise several kinds for a damaged file
            raise UserError(
                f"{self._file(step)} is damaged ({error}); delete it to leave that step out"
            ) from error
