"""Logs a model's eigenvalues before training and at every evaluation, as `spectra/STEP.npz`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lru.analysis.modes import model_eigenvalues
from lru.errors import UserError
from lru.io.files import write_atomically
from lru.training.digests import digest


class EigenvalueLog:
    """A log of eigenvalues: a directory with one file per logged step, written atomically.

    Each file contains the result of `lru.analysis.modes.model_eigenvalues`, as complex64 arrays. If
    this result is empty, nothing is written.

    Args:
      directory: the directory of the files; created by the first write.
      digests: the SHA-256 digest of each expected file, by step; by default, those of the existing
        files.
      layers: see `lru.analysis.modes.model_modes`; only `write` uses them.

    Attributes:
      digests: the digests of the expected files and of the files written since, by step. The steps
        are strings, as in JSON.
    """

    def __init__(
        self,
        directory: Path,
        digests: Mapping[str, str] | None = None,
        layers: Mapping[str, Any] | None = None,
    ):
        self._directory, self._layers = directory, layers
        if digests is None:
            digests = {str(step): digest(self._file(step)) for step in self.steps()}
        self.digests = dict(digests)

    def write(self, step: int, params: Mapping[str, Any]) -> None:
        """Writes the file of a step; the same parameters yield the same bytes."""
        found = model_eigenvalues(params, self._layers)
        if not found:
            return
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: lam.astype(np.complex64) for name, lam in found.items()}
        np.savez(content, **arrays)
        self._directory.mkdir(exist_ok=True)
        write_atomically(self._file(step), content.getvalue())
        self.digests[str(step)] = hashlib.sha256(content.getvalue()).hexdigest()

    def damaged(self) -> list[int]:
        """Returns the steps whose expected files are missing or have changed."""
        return [
            int(step)
            for step, wanted in self.digests.items()
            if not self._file(int(step)).is_file() or digest(self._file(int(step))) != wanted
        ]

    def rewind(self, step: int) -> None:
        """Deletes the files of all later steps, and partial files that a killed process left."""
        for later in self.steps():
            if later > step:
                self._file(later).unlink()
                self.digests.pop(str(later), None)
        for part in self._directory.glob("*.part"):
            part.unlink()

    def steps(self) -> list[int]:
        """Returns the steps of the files, in order."""
        files = self._directory.glob("*.npz")
        return sorted(int(file.stem) for file in files if file.stem.isdecimal())

    def trajectories(self) -> tuple[list[int], dict[str, np.ndarray]]:
        """Returns the logged steps, and the eigenvalues `(steps, N)` of each layer, by path.

        Raises:
          UserError: a file is damaged, or its layers differ from those of the first file.
        """
        steps = self.steps()
        files = [self._read(step) for step in steps]
        for step, file in zip(steps, files):
            if _shapes(file) != _shapes(files[0]):
                raise self._error(step, f"its layers differ from those of step {steps[0]}")
        names = files[0] if files else {}
        return steps, {name: np.stack([file[name] for file in files]) for name in names}

    def _file(self, step: int) -> Path:
        return self._directory / f"{step}.npz"

    def _read(self, step: int) -> dict[str, np.ndarray]:
        try:
            with self._file(step).open("rb") as opened, np.load(opened) as file:
                content = dict(file)
        except Exception as error:  # zipfile and NumPy raise several types for a damaged file
            raise self._error(step, error) from error
        if not content or any(
            lam.dtype != np.complex64 or lam.ndim != 1 for lam in content.values()
        ):
            raise self._error(step, "it holds no eigenvalues")
        return content

    def _error(self, step: int, reason: object) -> UserError:
        return UserError(
            f"{self._file(step)} is damaged ({reason}); delete it to leave that step out"
        )


def _shapes(file: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: lam.shape for name, lam in file.items()}
