"""Draws images of Pathfinder on all cores, in shards that survive an interruption.

A separate process, which imports neither JAX nor the main program, draws each shard:
`python -m lru.data.pathfinder.shards FILE RESOLUTION DIFFICULTY SEED FIRST STOP`.
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

_SHARD_SIZE = 500  # images: seconds to a minute of work, and 8 MB at 128 x 128 pixels


@dataclasses.dataclass(frozen=True)
class Shards:
    """Images with indices from 0, stored in files of up to 500 images each.

    Attributes:
      directory: the directory of the files; intact files that already exist are not drawn again.
      resolution: the resolution of the images; see `Rules.of`.
      difficulty: the difficulty of the images; see `Rules.of`.
      seed: the seed of the images.
      number: the total number of images.
    """

    directory: Path
    resolution: int
    difficulty: str
    seed: int
    number: int

    def draw(self, processes: int | None = None) -> None:
        """Draws all missing images, with at most `processes` processes; by default, one per core.

        Raises:
          UserError: if a process fails; the message gives the reason.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        missing = [shard for shard in self._shards() if not self._whole(shard)]
        started = self.number - sum(map(len, missing))
        bar_options = {"total": self.number, "initial": started, "unit": "image", "disable": None}
        running: dict[subprocess.Popen[bytes], range] = {}
        with tqdm(desc="drawing", leave=False, **bar_options) as bar:
            try:
                while missing or running:
                    while missing and len(running) < (processes or _cores()):
                        shard = missing.pop(0)
                        running[self._start(shard)] = shard
                    time.sleep(0.02)
                    for process in [one for one in running if one.poll() is not None]:
                        _finish(process, running[process])
                        bar.update(len(running.pop(process)))
            finally:
                for process in running:
                    process.communicate()  # closes the process's standard input, which ends it

    def __iter__(self) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
        """Yields the indices, images `(n, size, size)` and labels `(n,)` of each shard."""
        for shard in self._shards():
            yield shard, *self._load(shard)

    def _shards(self) -> list[range]:
        starts = range(0, self.number, _SHARD_SIZE)
        return [range(start, min(start + _SHARD_SIZE, self.number)) for start in starts]

    def _file(self, shard: range) -> Path:
        return self.directory / f"{shard.start:09}-{shard.stop:09}.npz"

    def _load(self, shard: range) -> tuple[np.ndarray, np.ndarray]:
        with self._file(shard).open("rb") as file, np.load(file) as arrays:
            return arrays["images"], arrays["labels"]

    def _whole(self, shard: range) -> bool:
        try:
            self._load(shard)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False
        return True

    def _start(self, shard: range) -> subprocess.Popen[bytes]:
        arguments = (self.resolution, self.difficulty, self.seed, shard.start, shard.stop)
        command = [sys.executable, "-m", __name__, str(self._file(shard)), *map(str, arguments)]
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,  # closes when this process ends, for whatever reason
            stderr=subprocess.PIPE,
        )


def _finish(process: subprocess.Popen[bytes], shard: range) -> None:
    errors = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        reason = errors.rpartition("\n")[2] or f"exit code {process.returncode}"
        raise UserError(f"images {shard.start:,} to {shard.stop - 1:,} cannot be drawn: {reason}")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(file: str, resolution: str, difficulty: str, seed: str, first: str, stop: str) -> None:
    """Draws a shard and writes it atomically; exits at once when the parent process ends."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    rules = Rules.of(int(resolution), difficulty)
    images, labels = draw(int(seed), range(int(first), int(stop)), rules)
    content = io.BytesIO()
    np.savez_compressed(content, images=images, labels=labels)
    write_atomically(Path(file), content.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
