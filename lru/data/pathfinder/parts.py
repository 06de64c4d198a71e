"""Images of Pathfinder drawn by all cores, part by part; what is drawn outlives an interruption.

A part is drawn by a process of its own, which imports neither JAX nor the program that asks for
it: `python -m lru.data.pathfinder.parts FILE RESOLUTION DIFFICULTY SEED FIRST STOP`.
"""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lru.data.pathfinder.images import draw
from lru.data.pathfinder.rules import Rules
from lru.errors import UserError
from lru.io.files import write_atomically

_PART = 500  # images: seconds to a minute of work, and 8 MB at 128


@dataclasses.dataclass(frozen=True)
class Parts:
    """Images with indices from 0, a file for every few hundred of them.

    Attributes:
      directory: of the files; whatever is there of them is not drawn again.
      resolution: of the images, see `Rules.of`.
      difficulty: see there.
      seed: of the images.
      number: of the images.
    """

    directory: Path
    resolution: int
    difficulty: str
    seed: int
    number: int

    def draw(self, processes: int | None = None) -> None:
        """Draws all images that are not there yet, by so many processes, by default one a core.

        Raises:
          UserError: if one of them fails, with its reason.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        missing = [part for part in self._parts() if not self._whole(part)]
        started = self.number - sum(map(len, missing))
        options = {"total": self.number, "initial": started, "unit": "image", "disable": None}
        running: dict[subprocess.Popen[bytes], range] = {}
        with tqdm(desc="drawing", leave=False, **options) as bar:
            try:
                while missing or running:
                    while missing and len(running) < (processes or _cores()):
                        part = missing.pop(0)
                        running[self._start(part)] = part
                    time.sleep(0.02)
                    for process in [one for one in running if one.poll() is not None]:
                        _finish(process, running[process])
                        bar.update(len(running.pop(process)))
            finally:
                for process in running:
                    process.communicate()  # closes its standard input, which ends it

    def __iter__(self) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
        """Yields indices, images `(n, size, size)` and labels `(n,)`, a part at a time."""
        for part in self._parts():
            yield part, *self._load(part)

    def _parts(self) -> list[range]:
        starts = range(0, self.number, _PART)
        return [range(start, min(start + _PART, self.number)) for start in starts]

    def _file(self, part: range) -> Path:
        return self.directory / f"{part.start:09}-{part.stop:09}.npz"

    def _load(self, part: range) -> tuple[np.ndarray, np.ndarray]:
        with self._file(part).open("rb") as file, np.load(file) as arrays:
            return arrays["images"], arrays["labels"]

    def _whole(self, part: range) -> bool:
        try:
            self._load(part)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False
        return True

    def _start(self, part: range) -> subprocess.Popen[bytes]:
        numbers = (self.resolution, self.difficulty, self.seed, part.start, part.stop)
        command = [sys.executable, "-m", __name__, str(self._file(part)), *map(str, numbers)]
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,  # which ends with this process, however that ends
            stderr=subprocess.PIPE,
        )


def _finish(process: subprocess.Popen[bytes], part: range) -> None:
    errors = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        reason = errors.rpartition("\n")[2] or f"exit code {process.returncode}"
        raise UserError(f"images {part.start:,} to {part.stop - 1:,} cannot be drawn: {reason}")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(file: str, resolution: str, difficulty: str, seed: str, first: str, stop: str) -> None:
    """Writes a part, whole or not at all; ends at once when the process that asked for it does."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    rules = Rules.of(int(resolution), difficulty)
    images, labels = draw(int(seed), range(int(first), int(stop)), rules)
    content = io.BytesIO()
    np.savez_compressed(content, images=images, labels=labels)
    write_atomically(Path(file), content.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
