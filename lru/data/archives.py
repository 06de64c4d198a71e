"""Unpacks archives, and detects damage by checksums where the format has them.

A compressed tar archive is read to its end, because gzip, bzip2 and xz store checksums there. The
first bytes of an archive, not its name, determine its format.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import logging
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from lru.errors import UserError

try:
    import lzma
except ImportError:  # this Python was built without xz
    lzma = None  # type: ignore[assignment]

_logger = logging.getLogger(__name__)
_CHUNK = 1 << 20
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
}
_OTHERS = {b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
# Exceptions that Python's modules raise for damaged archives, besides those of `_is_damage`.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # a flipped bit may mark a zip archive as encrypted, or change its method
    UnicodeError,
    *([lzma.LZMAError] if lzma else []),
)
_XZ = b"\xfd7zXZ"
if lzma:
    _OPENERS[_XZ] = lzma.LZMAFile
else:
    _OTHERS[_XZ] = "xz"


def unpack(
    archive: Path, directory: Path, wanted: Callable[[str], bool], single: str | None = None
) -> None:
    """Unpacks the wanted members of a zip or tar archive, or a single compressed file.

    A tar archive may be compressed by gzip, bzip2 or xz.

    Args:
      archive: the archive.
      directory: the directory to unpack to; it is removed on any error.
      wanted: a function that takes the path of a member and returns whether to unpack it. Of a
        tar archive, only regular files are unpacked.
      single: the name of the unpacked file if `archive` is a single compressed file, such as
        `x.gz`; None if it must be a zip or tar archive.

    Raises:
      UserError: if the archive is damaged, truncated or of another format, or a member of a tar
        archive would be written outside the directory.
    """
    _logger.info("unpacking %s", archive)
    try:
        size = archive.stat().st_size
        with archive.open("rb") as file, progress(file, size, "unpacking") as watched:
            _extract(file, watched, directory, wanted, single)
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, tarfile.FilterError):
            raise UserError(f"{archive} is unsafe: {error}") from error
        if isinstance(error, _DAMAGE) or _is_damage(error):
            raise UserError(f"{archive} is damaged ({error}): download it again") from error
        raise


def _is_damage(error: BaseException) -> bool:
    """Returns whether the error is an OSError that was caused by damaged data, not by the disk."""
    return isinstance(error, OSError) and error.errno in (None, errno.EINVAL)


def _extract(
    file: IO[bytes],
    watched: IO[bytes],
    directory: Path,
    wanted: Callable[[str], bool],
    single: str | None,
) -> None:
    start = file.read(6)
    file.seek(0)
    if name := next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None):
        raise UserError(f"{file.name} is a {name} archive, which is not supported: unpack it")
    if start.startswith(b"PK"):
        return _extract_zip(file, directory, wanted)
    openers = (opener for magic, opener in _OPENERS.items() if start.startswith(magic))
    opener = next(openers, None)
    stream = opener(watched) if opener else watched
    first = stream.read(tarfile.BLOCKSIZE)
    if single and opener and not _is_tar(first):
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / single).open("xb") as target:
            target.write(first)
            shutil.copyfileobj(stream, target, _CHUNK)
        return
    if not opener:
        _logger.info("%s is not compressed, so it has no checksum to verify", file.name)
    _extract_tar(_Joined(first, stream), directory, wanted)
    while stream.read(_CHUNK):  # the checksum is at the end
        pass


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # type: ignore[attr-defined]
        return False
    return True


class _Joined:
    """A stream of the bytes already read from another stream, and then of the rest of that one."""

    def __init__(self, first: bytes, rest: IO[bytes]):
        self._first, self._rest = first, rest

    def read(self, size: int) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first + self._rest.read(size - len(first)) if len(first) < size else first


class _Member(tarfile.TarInfo):
    """A tar member that raises an error if its header is damaged; `tarfile` may stop silently."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zeros that end an archive
        except tarfile.HeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error


def _extract_tar(stream: _Joined, directory: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            if member.isreg() and wanted(str(PurePosixPath(member.name))):
                archive.extract(member, directory, set_attrs=False, filter="data")
            archive.members.clear()  # LRA's archive has millions of members


def _extract_zip(file: IO[bytes], directory: Path, wanted: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and wanted(str(PurePosixPath(name))):
                archive.extract(name, directory)


@contextmanager
def progress(file: Any, size: int, what: str, initial: int = 0) -> Iterator[IO[bytes]]:
    """Yields the file, wrapped so that reading it shows a progress bar on a terminal."""
    options = {"total": size or None, "initial": initial, "desc": what}
    with tqdm.wrapattr(
        file, "read", disable=None, leave=False, unit="B", unit_scale=True, **options
    ) as watched:
        yield watched
