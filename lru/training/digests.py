"""SHA-256 digests of the files in a directory, saved there as `SHA256SUMS`.

The format is that of `sha256sum`, so `sha256sum --check SHA256SUMS` checks the files too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"
# Orbax adds `commit_success.txt` last and never reads it on a local disk.
_IGNORED = {SUMS, "commit_success.txt"}


class Damaged(Exception):
    """A saved file is missing, changed or unreadable, or a file was added beside it."""


def write_digests(directory: Path) -> None:
    """Writes `SHA256SUMS`, the digests of the files in a directory and its subdirectories.

    Files named `SHA256SUMS` or `commit_success.txt` are left out.
    """
    sums = {name: digest(directory / name) for name in _files(directory)}
    (directory / SUMS).write_text(_format(sums))


def check_digests(directory: Path) -> None:
    """Checks that a directory's files have not changed since `write_digests`.

    Raises:
      Damaged: a file is missing or changed, a file that is not hidden was added, or `SHA256SUMS` is
        missing or malformed.
    """
    sums, there = read_digests(directory), _files(directory)
    for name, wanted in sums.items():
        if name not in there:
            raise Damaged(f"{name} is missing")
        if digest(directory / name) != wanted:
            raise Damaged(f"{name} has changed since it was saved")
    # File managers add hidden files such as .DS_Store.
    added = [name for name in there if name not in sums and not Path(name).name.startswith(".")]
    if added:
        raise Damaged(f"{added[0]} was added later")


def read_digests(directory: Path) -> dict[str, str]:
    """Returns the digests in a directory's `SHA256SUMS`, by the files' relative paths.

    Raises:
      Damaged: `SHA256SUMS` is missing or malformed.
    """
    try:
        text = (directory / SUMS).read_bytes().decode()
        sums = {line[66:]: line[:64] for line in text.split("\n")[:-1]}
    except FileNotFoundError:
        raise Damaged(f"{SUMS} is missing") from None
    except UnicodeDecodeError:
        sums, text = {}, SUMS
    if _format(sums) != text:
        raise Damaged(f"{SUMS} has changed since it was saved")
    return sums


def digest(file: Path) -> str:
    """Returns the SHA-256 digest of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _files(directory: Path) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(directory)) for path in files if path.name not in _IGNORED)


def _format(sums: dict[str, str]) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())
