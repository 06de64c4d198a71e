"""Files of official releases: found where a user has put them, else downloaded and checked.

Whatever is looked for may lie in `manual_dir` itself, in a folder there as the archive has it, or
in the archive as it was downloaded. Of an archive, only the files asked for are unpacked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import logging
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from lru.errors import UserError

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where files are.

    Attributes:
      manual: where a user has put files of official releases; None if nobody said.
      downloads: where what is downloaded stays, to be read again for other numbers.
      scratch: what is put here lasts as long as the preparation; on the disk of `downloads`.
      unfinished: what is put here is there for the next preparation of the same data set, if this
        one is interrupted, and else removed; it need not exist.
      command: what prepares this data set, but for where the files are.
    """

    manual: Path | None
    downloads: Path
    scratch: Path
    unfinished: Path
    command: str


@dataclasses.dataclass(frozen=True)
class Release:
    """Some files of an archive, or the one file that is all there is.

    Attributes:
      url: of the archive, compressed by tar or zip, or of the file.
      files: paths that are needed, all below one folder: of files or, if not of a zip archive, of
        directories too.
      folders: where that may be, below `manual_dir` as well as in the archive.
      size: of the archive, in bytes.
      sha256: of the archive; without one it is read where a user has it, and never downloaded.
    """

    url: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    size: int = 0
    sha256: str = ""

    @property
    def name(self) -> str:
        """The archive's."""
        return self.url.rpartition("/")[2]

    def find(self, places: Places) -> Path:
        """Returns a directory that has all of `files`, after downloading and unpacking if need be.

        Raises:
          UserError: if files are missing and cannot be downloaded, or the archive is not the
            released one, is damaged, or would write outside the directory it is unpacked in.
        """
        folder, missing = self._best_folder(places.manual) if places.manual else (None, self.files)
        if folder is not None and not missing:
            return folder
        if places.manual and (archive := places.manual / self.name).is_file():
            self._verify(archive, archive)
        elif len(missing) < len(self.files) or not self.sha256:
            raise UserError(self._not_found(missing, places))
        else:
            archive = self._download(places)
        return self._unpack(archive, places.scratch / "unpacked")

    def _best_folder(self, directory: Path) -> tuple[Path, tuple[str, ...]]:
        """The folder that has the most files, and those that are missing there."""
        folders = [directory / folder for folder in self.folders]
        missing = [
            tuple(file for file in self.files if not (folder / file).exists()) for folder in folders
        ]
        return min(zip(folders, missing), key=lambda found: len(found[1]))

    def _not_found(self, missing: tuple[str, ...], places: Places, reason: str = "") -> str:
        looked = "no manual_dir was given"
        if places.manual:
            looked = f"looked in {places.manual}"
            if others := ", ".join(folder for folder in self.folders if folder):
                looked += f", and in {others} and {self.name} there"
        return (
            f"{', '.join(missing)} not found: {looked}{reason}\n"
            f"download {self.url} into a DIRECTORY and add --manual_dir=DIRECTORY to this command, "
            f"or prepare the data ahead: {places.command} --manual_dir=DIRECTORY"
        )

    def _download(self, places: Places) -> Path:
        target = places.downloads / self.name
        if target.exists():
            self._verify(target, target)
            return target
        part = places.scratch / self.name
        _logger.info("downloading %s, %.0f MB", self.url, self.size / 1e6)
        try:
            with (
                urllib.request.urlopen(self.url, timeout=60) as response,
                _progress(response, self.size, "downloading") as watched,
                part.open("wb") as file,
            ):
                shutil.copyfileobj(watched, file)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is the connection, too
            reason = f"; {self.name} cannot be downloaded: {getattr(error, 'reason', error)}"
            raise UserError(self._not_found(self.files, places, reason)) from error
        self._verify(part, self.url)
        places.downloads.mkdir(parents=True, exist_ok=True)
        return part.rename(target)

    def _verify(self, archive: Path, what: Path | str) -> None:
        """Checks size and checksum, where they are known."""
        found = expected = ""
        if self.size:
            found, expected = f"{archive.stat().st_size:,} bytes", f"{self.size:,} bytes"
        if self.sha256 and found == expected:
            with archive.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found, expected = f"sha256 {digest}", f"sha256 {self.sha256}"
        if found != expected:
            raise UserError(
                f"{what} is not the released file: {found}, expected {expected}\n"
                f"delete what is there of it and download {self.url} again"
            )

    def _unpack(self, archive: Path, directory: Path) -> Path:
        _logger.info("unpacking %s", archive)
        try:
            size = archive.stat().st_size
            with archive.open("rb") as file, _progress(file, size, "unpacking") as watched:
                self._extract(watched, directory)
        except tarfile.FilterError as error:
            raise UserError(f"{archive} is not to be trusted: {error}") from error
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UserError(f"{archive} is damaged ({error}): download it again") from error
        folder, missing = self._best_folder(directory)
        if missing:
            raise UserError(f"{archive} has no {', '.join(missing)}: download {self.url} again")
        return folder

    def _extract(self, file: IO[bytes], directory: Path) -> None:
        """Unpacks what lies at or below the files, until all of them are there."""
        wanted = {PurePosixPath(folder, file) for folder in self.folders for file in self.files}
        if self.name.endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if PurePosixPath(name) in wanted:
                        archive.extract(name, directory)
            return
        found = 0
        with tarfile.open(fileobj=file, mode="r|*") as members:
            for member in members:
                path = PurePosixPath(member.name)
                # No links: nothing that is released has any.
                if member.isreg() and not wanted.isdisjoint((path, *path.parents)):
                    members.extract(member, directory, set_attrs=False, filter="data")
                    found += path in wanted
                    if found == len(self.files):
                        break


def lra_release(folder: str, files: tuple[str, ...]) -> Release:
    """Files of the Long Range Arena, whose archive of 8 GB a user has to download."""
    return Release(
        url="https://storage.googleapis.com/long-range-arena/lra_release.gz",
        files=files,
        folders=("", folder, f"lra_release/{folder}", f"lra_release/lra_release/{folder}"),
    )


@contextmanager
def _progress(file: Any, size: int, what: str) -> Iterator[IO[bytes]]:
    """A file with a bar of how much of it was read, on a terminal."""
    options = {"total": size or None, "desc": what, "unit": "B", "unit_scale": True}
    with tqdm.wrapattr(file, "read", disable=None, leave=False, **options) as watched:
        yield watched
