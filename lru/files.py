"""Atomic file writes, checked reading of JSON, and locks between processes."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lru.errors import UserError

# The keys that a JSON object must have, each with its type, or with the keys of its own.
Fields = Mapping[str, "type | Fields"]


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file that is there whole or not at all."""
    part = file.with_name(file.name + ".part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, file)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk needs the room
        raise


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
            found = type(content[key]).__name__
            raise ValueError(f"{where}{key!r} is of type {found}; expected {kind.__name__}")


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
