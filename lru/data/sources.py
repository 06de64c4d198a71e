"""What a prepared data set was made of, so that a change of it is noticed.

Sizes and times are compared first, and contents only where those differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from lru.io.files import write_atomically

FILE = "sources.json"
_JUNK = (".", "Thumbs.db", "desktop.ini")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file or a directory that was read.

    Attributes:
      path: where it was.
      size: in bytes, of all its files.
      stat: a digest of the names, sizes and times of all its files.
      sha256: of its content; of a directory, of the names and contents of all files.
    """

    path: str
    size: int
    stat: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Returns the source that is at a path now."""
        size, stat = _stat(path)  # first, so that what changes meanwhile is noticed
        return cls(str(path), size, stat, _digest(path))

    def is_at(self, path: Path) -> bool:
        """Whether that is the same source, as far as sizes and times say."""
        return str(path) == self.path and _stat(path) == (self.size, self.stat)


@dataclasses.dataclass(frozen=True)
class Sources:
    """All that a prepared data set was made of.

    Attributes:
      manual_dir: where a user had the released files; None if they were downloaded.
      files: the files and directories.
    """

    manual_dir: str | None
    files: Sequence[SourceFile]

    def write(self, directory: Path) -> None:
        """Writes them beside the prepared data."""
        write_atomically(directory / FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Reads them; None for data that were prepared before there was such a file."""
        try:
            read = json.loads((directory / FILE).read_text())
            manual_dir, files = read["manual_dir"], [SourceFile(**row) for row in read["files"]]
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return None
        return cls(manual_dir, files) if isinstance(manual_dir, str | None) and files else None


def unchanged(directory: Path, manual: Path | None, paths: Sequence[Path]) -> bool:
    """Whether the prepared data were made of what is at these paths now.

    Where only paths or times differ, the new ones are written, so that the next look is quick.
    """
    known = Sources.read(directory)
    if known is None or len(known.files) != len(paths):
        return False
    if all(source.is_at(path) for source, path in zip(known.files, paths)):
        return True
    now = [SourceFile.of(path) for path in paths]
    if [source.sha256 for source in now] != [source.sha256 for source in known.files]:
        return False
    with suppress(OSError):  # a data directory that others share may be read-only
        Sources(str(manual) if manual else None, now).write(directory)
    return True


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files below the directory, without what systems leave there."""
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
        # The time of the last change of the inode too: programs can set the other one back.
        times = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        listing.update(f"{file.relative_to(path)} {times}\n".encode("utf-8", "surrogateescape"))
    return size, listing.hexdigest()[:16]


def _digest(path: Path) -> str:
    """Returns the sha256 of a file, or of all names and contents in a directory."""
    if path.is_file():
        return _file_digest(path)
    lines = (f"{file.relative_to(path).as_posix()} {_file_digest(file)}\n" for file in _files(path))
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
