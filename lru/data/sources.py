"""Records the source files of a prepared data set, and detects when they change.

Paths, sizes and times are compared first; contents are compared only if any of these differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from lru.io.files import write_atomically

FILE = "sources.json"
_JUNK = (".", "Thumbs.db", "desktop.ini")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file or directory that a data set was prepared from.

    The hidden and system files in a directory, which `_files` leaves out, do not count.

    Attributes:
      path: the path of the file or directory when it was recorded.
      size: the size in bytes; for a directory, the total size of its files.
      stat: a digest of size and times; for a directory, of its files' names, sizes and times.
      sha256: the SHA-256 of the content; for a directory, of its files' names and digests.
    """

    path: str
    size: int
    stat: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Returns the current state of the file or directory at a path."""
        size, stat = _stat(path)  # first, so that a change before the digest is detected
        return cls(str(path), size, stat, digest(path, _files(path)))

    def is_at(self, path: Path) -> bool:
        """Returns whether the path equals the recorded path, and sizes and times are unchanged."""
        return str(path) == self.path and _stat(path) == (self.size, self.stat)


@dataclasses.dataclass(frozen=True)
class Sources:
    """All source files of a prepared data set.

    Attributes:
      manual_dir: the user's directory or file with released data; None if there is none.
      files: the source files and directories.
    """

    manual_dir: str | None
    files: Sequence[SourceFile]

    def write(self, directory: Path) -> None:
        """Writes this record into the directory of the prepared data."""
        write_atomically(directory / FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Returns the record, or None if it is unreadable or damaged. Old versions wrote none."""
        try:
            read = json.loads((directory / FILE).read_text())
            manual_dir, files = read["manual_dir"], [SourceFile(**row) for row in read["files"]]
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return None
        return cls(manual_dir, files) if isinstance(manual_dir, str | None) and files else None


def unchanged(directory: Path, manual: Path | None, paths: Sequence[Path]) -> bool:
    """Returns whether the files at these paths are what the data were prepared from.

    Without a record of the files that the data were prepared from, returns False. If only paths or
    times differ, the record is updated if possible, so that the next comparison is fast.
    """
    known = Sources.read(directory)
    if known is None or len(known.files) != len(paths):
        return False
    if all(source.is_at(path) for source, path in zip(known.files, paths)):
        return True
    now = [SourceFile.of(path) for path in paths]
    if [source.sha256 for source in now] != [source.sha256 for source in known.files]:
        return False
    with suppress(OSError):  # a shared data directory may be read-only
        Sources(str(manual) if manual else None, now).write(directory)
    return True


def _files(path: Path) -> Iterator[Path]:
    """Yields the path itself if it is a file, else the files below it, in a fixed order.

    Hidden files and system files are left out; hidden directories are searched, too.
    """
    if path.is_file():
        yield path
        return
    for folder, below, names in os.walk(path, followlinks=True):
        below.sort()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith(_JUNK))


def _stat(path: Path) -> tuple[int, str]:
    size, listing = 0, hashlib.sha256()
    for file in _files(path):
        stat = file.stat()
        size += stat.st_size
        # The inode's change time is included because programs can set the modification time back.
        times = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        listing.update(f"{file.relative_to(path)} {times}\n".encode("utf-8", "surrogateescape"))
    return size, listing.hexdigest()[:16]


def digest(path: Path, files: Iterable[Path]) -> str:
    """Returns the SHA-256 of a file or, for a directory, of the digests of some files in it.

    Args:
      path: the path of the file or directory.
      files: the files in the directory to read; their relative paths are part of what is hashed.
    """
    if path.is_file():
        return _file_digest(path)
    lines = (f"{file.relative_to(path).as_posix()} {_file_digest(file)}\n" for file in files)
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
