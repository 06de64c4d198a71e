"""Files of official releases: found where a user has put them, or else downloaded and checked.

They may lie in `manual_dir` itself, in a folder below it that has the name it has in the archive or
in a public pipeline, or in the archive. Names may differ in case, or by the ` (1)` of a browser; a
file may be compressed. What is hidden, such as the `._x` of macOS, is passed over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lru.data.archives import unpack
from lru.data.download import download, from_network
from lru.data.loose_names import (
    COMPRESSED,
    entries_of,
    is_packed,
    look_up,
    plain,
    stem,
    subfolders_of,
)
from lru.errors import UserError
from lru.io.files import wait_for_lock

_logger = logging.getLogger(__name__)
_UNFINISHED = (".part", ".crdownload", ".download", ".partial", ".tmp")
_UNREAD = (".7z", ".rar", ".zst")
_DEPTH = 4  # of folders below manual_dir that are searched
_MOST_FOLDERS = 1_000  # a level


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
class Found:
    """Released files, or the archive that holds them.

    Attributes:
      origin: the archive, or the files themselves.
      files: where each file is, by its name in the release; empty as long as it is packed.
      folder: the folder they lie in, as seen from `manual_dir` or inside the archive.
    """

    origin: tuple[Path, ...]
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    folder: str = ""

    def __getitem__(self, name: str) -> Path:
        return self.files[name]


@dataclasses.dataclass(frozen=True)
class Release:
    """Some files of an archive, or the one file that is all there is.

    Attributes:
      url: of the archive, compressed by tar or zip, or of the file.
      files: paths that are needed, all below one folder; a directory ends with a slash.
      folders: the names that this folder may have, one or more.
      size: of the archive, in bytes.
      sha256: of the archive; without one it is read where a user has it, and never downloaded.
      instead: other sets of files that hold the same, such as one text in three parts.
      unusable: beginnings of names that people have instead, and why they are of no use.
      hint: what else there is, if the address answers 403.
    """

    url: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""
    instead: tuple[tuple[str, ...], ...] = ()
    unusable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hint: str = ""

    @property
    def name(self) -> str:
        """The archive's."""
        return self.url.rpartition("/")[2]

    def find(self, places: Places) -> Found:
        """Returns where the files are, after downloading and unpacking them if need be.

        Raises:
          UserError: if files are missing and cannot be downloaded, or the archive is not the
            released one, is damaged, or would write outside the directory it is unpacked in.
        """
        found = self.locate(places) or Found((self._download(places),))
        if not found.files:
            found = self._unpack(found.origin[0], places.scratch / "unpacked")
        for path in found.files.values():
            if path.is_file() and not path.stat().st_size:
                raise UserError(f"{path} is empty; the released file is from {self.url}")
        return self._decompress(found, places.scratch / "decompressed")

    def locate(self, places: Places) -> Found | None:
        """Returns where a user has the files or their archive; None if nowhere.

        Raises:
          UserError: if only some of them are there, or what is there is of no use.
        """
        if places.manual and places.manual.is_file():
            return self._given(places.manual, places)
        if places.manual:
            if found := self._complete(places.manual, [places.manual]):
                return found  # without a look at all the folders below, of which there may be many
            folders = list(self._folders(places.manual))
            if found := self._complete(places.manual, folders):
                return found
            if archive := next(filter(None, map(self._archive, folders)), None):
                return Found((archive,))
            self._refuse(places, folders)
        return None

    def _given(self, file: Path, places: Places) -> Found:
        """What a user means who names a file: it alone, or with the others beside it."""
        for names in (self.files, *self.instead):
            for name in names:
                if plain(file.name) in [name.lower() + ending for ending in ("", *COMPRESSED)]:
                    beside = {other: look_up(file.parent, other) for other in names} | {name: file}
                    files = {other: path for other, path in beside.items() if path}
                    if len(files) == len(names):
                        return Found(tuple(files.values()), files)
                    missing = [other for other in names if other not in files]
                    raise UserError(self._not_found(missing, places))
        self._refuse_one(file)
        if is_packed(file.name) or plain(file.name) == stem(self.name):
            return Found((file,))
        known = ", ".join(name.rstrip("/") for name in (self.name, *self.files))
        raise UserError(f"{file} is none of {known}: give one of them, or the directory it is in")

    def _complete(self, root: Path, folders: list[Path]) -> Found | None:
        """The files of the first folder that has them all."""
        for names in (self.files, *self.instead):
            for folder in folders:
                files = {name: path for name in names if (path := look_up(folder, name))}
                if len(files) == len(names):
                    relative = folder.relative_to(root).as_posix().removeprefix(".")
                    return Found(tuple(files.values()), files, relative)
        return None

    def _folders(self, root: Path) -> Iterator[Path]:
        """The directory itself; then those below it of a known name, the nearest first.

        LRA's archive has a folder `lra_release` twice, one inside the other, and some tasks in
        both. The inner one is what LRA's own and other public pipelines read: it comes first.
        """
        names = {*map(str.lower, self.folders), stem(self.name)}
        level, found = [root], []
        for _ in range(_DEPTH):
            level = [below for folder in level for below in subfolders_of(folder)][:_MOST_FOLDERS]
            found += [folder for folder in level if plain(folder.name) in names]
        yield root
        yield from sorted(found, key=lambda f: (-f.parts.count("lra_release"), len(f.parts), f))

    def _archive(self, folder: Path) -> Path | None:
        """The archive, under its own name or one that is as clear."""
        stems = {stem(self.name), *map(str.lower, self.folders)} - {"data"}
        entries = [path for path in entries_of(folder) if path.is_file()]
        packed = [path for path in entries if is_packed(path.name) and stem(path.name) in stems]
        if stem(self.name) not in map(str.lower, self.files):
            # A name without an ending is what gunzip leaves.
            packed += [path for path in entries if plain(path.name) == stem(self.name)]
        return min(packed, key=lambda path: (path.name != self.name, path.name), default=None)

    def _refuse(self, places: Places, folders: list[Path]) -> None:
        """Raises a UserError if there is something that cannot be what was meant."""
        for path in (path for folder in folders for path in entries_of(folder)):
            self._refuse_one(path)
        for name in (name for name in self.files if "/" not in name):
            alike = [path for path in entries_of(folders[0]) if plain(path.name) == name.lower()]
            if len(alike) > 1:
                raise UserError(f"{' and '.join(map(str, alike))} may both be {name}: keep one")
        missing = self._missing(folders)
        if len(missing) < len(self.files) or not self.sha256:
            raise UserError(self._not_found(missing, places))

    def _missing(self, folders: list[Path]) -> list[str]:
        """The files that the folder lacks that has the most of them."""
        lacking = ([name for name in self.files if not look_up(folder, name)] for folder in folders)
        return min(lacking, key=len)

    def _refuse_one(self, path: Path) -> None:
        name = plain(path.name)
        for beginning, reason in self.unusable.items():
            if name.startswith(beginning.lower()):
                raise UserError(f"{path} is {reason}: put {self.url} there instead")
        if name.endswith(_UNFINISHED) and name.startswith(self.name.lower()):
            raise UserError(f"{path} is an unfinished download: finish it, or delete it")
        if name.endswith(_UNREAD) and stem(name.rpartition(".")[0]) == stem(self.name):
            raise UserError(f"{path} is of a kind that is not read: unpack it there")

    def _not_found(self, missing: list[str], places: Places, reason: str = "") -> str:
        looked = "no manual_dir was given"
        if places.manual:
            looked = f"looked in {places.manual}"
            looked += "" if places.manual.exists() else ", which does not exist"
            looked += f", in folders {', '.join(self.folders)} below" if self.folders else ""
            looked += f", and for {self.name}" if self.name not in self.files else ""
        files = ", ".join(name.rstrip("/") for name in missing)
        reason += f"; {self.url} is reported to answer 403: {self.hint}" if self.hint else ""
        return (
            f"{files} not found: {looked}{reason}\n"
            f"download {self.url} into a DIRECTORY and add --manual_dir=DIRECTORY to this "
            f"command, or prepare the data ahead: {places.command} --manual_dir=DIRECTORY"
        )

    def _download(self, places: Places) -> Path:
        if not self.sha256:
            raise UserError(self._not_found(list(self.files), places))
        target = places.downloads / self.name
        if target.is_file():
            return target
        part = target.with_name(f"{target.name}.part")
        waiting = f"waiting for another process, which downloads {self.url}"
        with wait_for_lock(part.with_suffix(".lock"), lambda: _logger.info(waiting)):
            if target.is_file():  # it may be, after another process
                return target
            while True:
                resumed = part.exists()
                self._request(part, places)
                try:
                    self._verify(part, self.url)
                except UserError:
                    part.unlink()  # what was there was not the beginning of this file
                    if not resumed:
                        raise
                else:
                    return part.replace(target)

    def _request(self, part: Path, places: Places) -> None:
        _logger.info("downloading %s, %.0f MB", self.url, self.size / 1e6)
        try:
            download(self.url, part, self.size)
        except (OSError, http.client.HTTPException) as error:
            if not from_network(error):  # but, say, from a disk that cannot be written
                raise
            reason = f"; {self.name} cannot be downloaded: {getattr(error, 'reason', error)}"
            raise UserError(self._not_found(list(self.files), places, reason)) from error

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

    def _unpack(self, archive: Path, directory: Path) -> Found:
        if plain(archive.name) == self.name.lower():
            self._verify(archive, archive)
        single = self.files[0] if len(self.files) == 1 else None
        unpack(archive, directory, self._wants, single)
        folders = list(self._folders(directory))
        found = self._complete(directory, folders) if directory.exists() else None
        if found is None:
            files = ", ".join(name.rstrip("/") for name in self._missing(folders))
            raise UserError(f"{archive} has no {files}: download {self.url} again")
        return dataclasses.replace(found, origin=(archive,))

    def _wants(self, path: str) -> bool:
        """Whether a member of the archive is one of the files, or lies below one."""
        if any(part.startswith(("._", "__MACOSX")) for part in PurePosixPath(path).parts):
            return False
        return self._pattern().fullmatch(path) is not None

    def _pattern(self) -> re.Pattern[str]:
        names = "|".join(map(re.escape, (*self.folders, stem(self.name))))
        files = "|".join(
            re.escape(name) + (".+" if name.endswith("/") else "")
            for names in (self.files, *self.instead)
            for name in names
        )
        return re.compile(rf"(?:(?:.*/)?(?:{names})/)?(?:{files})", re.IGNORECASE | re.DOTALL)

    def _decompress(self, found: Found, directory: Path) -> Found:
        files = dict(found.files)
        for name, path in files.items():
            if path.suffix.lower() in COMPRESSED and not name.lower().endswith(COMPRESSED):
                unpack(path, directory / name, lambda _: False, PurePosixPath(name).name)
                files[name] = directory / name / PurePosixPath(name).name
        return dataclasses.replace(found, files=files)


def lra_release(name: str, files: tuple[str, ...], *others: str, hint: str = "") -> Release:
    """Files of the Long Range Arena, whose archive of 8 GB a user has to download.

    Args:
      name: of their folder in the archive.
      files: as in `Release`.
      *others: names that public pipelines give to the folder.
      hint: as in `Release`.
    """
    return Release(
        url="https://storage.googleapis.com/long-range-arena/lra_release.gz",
        files=files,
        folders=(name, *others),
        hint=hint,
    )


def taken_from(metadata: Mapping[str, Any]) -> str:
    """Says which folder a prepared data set of the Long Range Arena was read from, if it is noted.

    Example:
      >>> taken_from({"folder": "lra_release/lra_release/listops-1000"})
      'read from lra_release/lra_release/listops-1000'
    """
    folder = metadata.get("folder")
    return f"read from {folder}" if folder else ""
