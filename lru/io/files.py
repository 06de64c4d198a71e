"""Atomic file writes, checked reading of JSON, and locks between processes.

Nothing here follows a symbolic link.
"""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import filelock

from lru.errors import UserError

# The keys that a JSON object must have, each with its type, or with the keys of its own.
Fields = Mapping[str, "type | Fields"]


def write_whole(file: Path, content: str | bytes) -> None:
    """Replaces a file in one step: a reader sees the old content or the new one, never a part.

    A symbolic link at `file` is replaced; what it points to stays as it is.
    """
    part = file.with_name(file.name + ".part")
    try:
        with open_new(part) as opened:
            opened.write(content.encode() if isinstance(content, str) else content)
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def open_new(file: Path) -> IO[bytes]:
    """Opens a new file for writing, in place of a file or a symbolic link of that name."""
    file.unlink(missing_ok=True)  # what a killed process left, or a link, but not its target
    return file.open("xb")


def open_to_append(file: Path) -> IO[bytes]:
    """Opens a file for writing at its end; a new one if it is missing or not a regular file."""
    if not file.exists() or not stat.S_ISREG(file.lstat().st_mode):
        return open_new(file)
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(file, flags), "ab")


def read_object(file: Path, fields: Fields, advice: str) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Args:
      file: the file.
      fields: what the object must have, see `parse_object`.
      advice: what the user can do if it is damaged: the end of the message.

    Raises:
      UserError: the file holds something else.
      OSError: the file cannot be read.
    """
    try:
        return parse_object(file.read_text(), fields)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); {advice}") from error


def parse_object(text: str, fields: Fields) -> dict[str, Any]:
    """Parses a JSON object and checks its fields.

    Args:
      text: the JSON.
      fields: the keys that the object must have, each with its type, or with the fields of the
        object there. A `float` is any finite number.

    Raises:
      ValueError: the text is no JSON, is no object, or lacks a field.

    Example:
      >>> parse_object('{"step": 1}', {"step": int})
      {'step': 1}
      >>> parse_object("5", {"step": int})
      Traceback (most recent call last):
      ValueError: expected an object, found int
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_fields(content, fields, "")
    return content


def _check_fields(content: Any, fields: Fields, where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}expected an object, found {type(content).__name__}")
    for key, kind in fields.items():
        if key not in content:
            raise ValueError(f"{where}{key!r} is missing")
        if isinstance(kind, Mapping):
            _check_fields(content[key], kind, f"{where}{key}: ")
        elif not _is_of(content[key], kind):
            raise ValueError(f"{where}{key!r} is {str(content[key])[:40]}; expected {_NAMES[kind]}")


_NAMES = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    dict: "an object",
    list: "a list",
}


def _is_of(value: Any, kind: type) -> bool:
    if isinstance(value, bool):  # to Python, True is an int
        return kind is bool
    if kind is not float:
        return isinstance(value, kind)
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


@contextmanager
def lock(file: Path) -> Iterator[bool]:
    """Takes a lock unless another process has it; the system releases it if this process dies.

    Args:
      file: stands for the lock; made if it is missing, as is its directory. Whoever has the lock
        may remove it.

    Yields:
      Whether the lock was taken.

    Raises:
      UserError: if the file cannot be written or is not a lock, or the file system has no locks.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     with lock(Path(directory, "lock")) as ours, lock(Path(directory, "lock")) as again:
      ...         ours, again
      (True, False)
    """
    _check_lock_file(file)
    # A soft lock, which is a mere file, would outlive a killed process.
    held = filelock.FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        held.acquire()
    except filelock.Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot lock {file}: {reason}; use another disk") from error
    try:
        yield True
    finally:
        held.release()


@contextmanager
def wait_for_lock(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Waits until the lock is free, takes it, and removes its file at the end.

    Args:
      file: as in `lock`.
      waiting: called once if another process has the lock.
    """
    told = False
    while True:
        with lock(file) as ours:
            if ours:
                try:
                    yield
                finally:
                    with suppress(PermissionError):  # Windows removes no open file
                        file.unlink(missing_ok=True)
                return
        if not told:
            waiting()
            told = True
        time.sleep(0.1)


def _check_lock_file(file: Path) -> None:
    """Makes the directory, and refuses what is not an empty file: a lock library may empty it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(file, error) from error
    # Without `fcntl`, a lock is a file that names its process, and is never emptied.
    writes = issubclass(filelock.FileLock, filelock.SoftFileLock)
    if not stat.S_ISREG(found.st_mode) or (found.st_size and not writes):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not an empty file"
        raise UserError(f"{file} is {kind}, so it is not a lock of this program; move it away")
    if not os.access(file, os.W_OK):
        raise _cannot_write(file, PermissionError(13, "Permission denied"))


def _cannot_write(file: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {file}: {error.strerror}; choose another directory")
