"""Finds files by name, even if the case differs, a browser added ` (1)`, or they are compressed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

COMPRESSED = (".gz", ".bz2", ".xz")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar", ".zip")
_HIDDEN = (".", "__MACOSX")


def look_up(folder: Path, name: str) -> Path | None:
    """Returns the path of a file or directory in a folder by its name; None if it is not found.

    If a part of the path does not exist, the entry that differs from it only in case or by a
    browser's number (see `plain`) is taken instead, if there is exactly one. A file that is still
    not found is looked up in the same way with the ending of a compressed file, such as `name.gz`.

    Args:
      folder: the folder to search.
      name: a path relative to the folder; the path of a directory ends with a slash.
    """
    *above, last = PurePosixPath(name).parts
    for part in above:
        if not (below := _only(folder, part, Path.is_dir)):
            return None
        folder = below
    if name.endswith("/"):
        return _only(folder, last, Path.is_dir)
    found = _only(folder, last, Path.is_file)
    compressed = (_only(folder, last + suffix, Path.is_file) for suffix in COMPRESSED)
    return found or next(filter(None, compressed), None)


def _only(folder: Path, name: str, kind: Callable[[Path], bool]) -> Path | None:
    if kind(folder / name):
        return folder / name
    found = [path for path in entries_of(folder) if plain(path.name) == name.lower() and kind(path)]
    return found[0] if len(found) == 1 else None


def entries_of(folder: Path) -> list[Path]:
    """Returns the entries of a folder except hidden entries; [] if it cannot be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if not name.startswith(_HIDDEN)]


def subfolders_of(folder: Path) -> list[Path]:
    """Returns the subfolders of a folder except hidden ones; `[]` if it cannot be read.

    This is fast even if the folder has many files.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
    return [folder / name for name in names if not name.startswith(_HIDDEN)]


def plain(name: str) -> str:
    """Returns a name in lower case, without the number that browsers add to a repeated download.

    Example:
      >>> plain("enwik8 (1)"), plain("aclImdb_v1.tar(2).gz")
      ('enwik8', 'aclimdb_v1.tar.gz')
    """
    return re.sub(r"\s*\(\d+\)(?=\.|$)", "", name.lower())


def stem(name: str) -> str:
    """Returns `plain(name)` without the ending of an archive or a compressed file.

    Example:
      >>> stem("LRA_release.tar.gz"), stem("enwik8.zip"), stem("a.txt")
      ('lra_release', 'enwik8', 'a.txt')
    """
    whole = plain(name)
    ending = next((ending for ending in (*_PACKED, *COMPRESSED) if whole.endswith(ending)), "")
    return whole.removesuffix(ending)


def is_packed(name: str) -> bool:
    """Returns whether the name has the ending of an archive or a compressed file."""
    return plain(name).endswith((*_PACKED, *COMPRESSED))
