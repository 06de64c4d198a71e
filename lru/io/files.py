"""Atomic file writes, checked reading of JSON, and locks between processes.

If the path of a file to write is a symbolic link, no function writes to the link's target.
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
from tempfile import TemporaryDirectory
from typing import IO, Any

from lru.errors import UserError

# The keys that a JSON object must have, each with its type, or with the fields of a nested object.
Fields = Mapping[str, "type | Fields"]


def write_atomically(file: Path, content: str | bytes) -> None:
    """Writes a file atomically: a reader sees the old or the new content, never a mixture.

    A symbolic link at `file` is replaced; its target is unchanged.
    """
    partial = file.with_name(file.name + ".part")
    try:
        with open_new(partial) as opened:
            opened.write(content.encode() if isinstance(content, str) else content)
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder, which is atomically renamed to `folder` at the end of the block.

    If the block raises, the temporary folder is removed. `folder` must be missing or empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{folder.name}.part.", dir=folder.parent) as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        yield whole
        os.replace(whole, folder)


def open_new(file: Path) -> IO[bytes]:
    """Opens a new file for writing, replacing a file or a symbolic link of that name."""
    file.unlink(missing_ok=True)  # a killed process may have left it; a link's target stays
    return file.open("xb")


def open_to_append(file: Path) -> IO[bytes]:
    """Opens a file for appending; if it is missing or not a regular file, opens a new file."""
    if not file.exists() or not stat.S_ISREG(file.lstat().st_mode):
        return open_new(file)
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(file, flags), "ab")


def read_object(file: Path, fields: Fields, advice: str) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Args:
      file: the file to read.
      fields: the fields that the object must have; see `parse_object`.
      advice: what the user can do if the file is damaged; the end of the error message.

    Raises:
      UserError: if the file does not contain such an object.
      OSError: if the file cannot be read.
    """
    try:
        return parse_object(file.read_text(), fields)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); {advice}") from error


def parse_object(text: str, fields: Fields) -> dict[str, Any]:
    """Parses a JSON object and checks its fields.

    Args:
      text: the JSON text.
      fields: the keys that the object must have, each with its type, or with the fields of a nested
        object. A `float` is any finite number. Of the keys in `"one|other"`, the first that is
        present is checked; if none is, the field is missing.

    Raises:
      ValueError: if the text is not JSON or not an object, or a field is missing or of the wrong
        type.

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
    for names, kind in fields.items():
        key = next((name for name in names.split("|") if name in content), None)
        if key is None:
            raise ValueError(f"{where}{names!r} is missing")
        if isinstance(kind, Mapping):
            _check_fields(content[key], kind, f"{where}{key}: ")
        elif not _has_type(content[key], kind):
            raise ValueError(f"{where}{key!r} is {str(content[key])[:40]}; expected {_NAMES[kind]}")


_NAMES = {
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    dict: "an object",
    list: "a list",
}


def _has_type(value: Any, kind: type) -> bool:
    if isinstance(value, bool):  # in Python, True is an int
        return kind is bool
    if kind is not float:
        return isinstance(value, kind)
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


@contextmanager
def lock(file: Path) -> Iterator[bool]:
    """Acquires a lock for a `with` block, unless the lock is already held.

    The system releases the lock if the process dies.

    Args:
      file: the lock file, which is created, with its directory, if it is missing. The process that
        holds the lock may remove the file.

    Yields:
      True if the lock was acquired, else False.

    Raises:
      UserError: if the file cannot be written or is not a lock, or the file system has no locks.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     with lock(Path(directory, "lock")) as ours, lock(Path(directory, "lock")) as again:
      ...         ours, again
      (True, False)
    """
    import filelock  # only runs need locks: the weights of an export load without the package

    _check_lock_file(file)
    # A soft lock is only a file, so it would outlive a killed process.
    acquired = filelock.FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        acquired.acquire()
    except filelock.Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot lock {file}: {reason}; use another disk") from error
    try:
        yield True
    finally:
        acquired.release()


@contextmanager
def wait_for_lock(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Waits until a lock is free, holds it for a `with` block, and tries to remove the lock file.

    Args:
      file: the lock file; see `lock`.
      waiting: a function that is called once if the lock is already held.
    """
    notified = False
    while True:
        with lock(file) as ours:
            if ours:
                try:
                    yield
                finally:
                    with suppress(PermissionError):  # Windows cannot remove an open file
                        file.unlink(missing_ok=True)
                return
        if not notified:
            waiting()
            notified = True
        time.sleep(0.1)


def _check_lock_file(file: Path) -> None:
    """Creates the file's directory; rejects a file that cannot be written or is not a lock."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(file, error) from error
    import filelock

    # Without `fcntl`, a lock is a file that contains a process id and is never truncated.
    writes = issubclass(filelock.FileLock, filelock.SoftFileLock)
    if not stat.S_ISREG(found.st_mode) or (found.st_size and not writes):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not an empty file"
        raise UserError(f"{file} is {kind}, so it is not a lock of this program; move it away")
    if not os.access(file, os.W_OK):
        raise _cannot_write(file, PermissionError(13, "Permission denied"))


def _cannot_write(file: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {file}: {error.strerror}; choose another directory")
