"""Files that are there whole or not at all, and what one process at a time may do."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lru.errors import UserError


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file that is there whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, file)


@contextmanager
def lock(file: Path) -> Iterator[bool]:
    """Takes a lock unless another process has it; the system gives it back however a process ends.

    Args:
      file: that stands for the lock; made if it is not there, as its directory is. Who has the lock
        may remove it.

    Yields:
      Whether the lock was taken.

    Raises:
      UserError: if the file cannot be written, or the file system has no locks.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     with lock(Path(directory, "lock")) as ours, lock(Path(directory, "lock")) as again:
      ...         ours, again
      (True, False)
    """
    with _open(file) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise UserError(f"cannot lock {file}: {error.strerror}; use another disk") from error
        yield _is_at(file, opened.fileno())


def _open(file: Path) -> IO[str]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror}; choose another directory"
        ) from error


def _is_at(file: Path, opened: int) -> bool:
    """Whether the open file is still the one of that name: who had the lock may have removed it."""
    try:
        return os.path.samestat(file.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False
