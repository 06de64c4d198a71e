"""Finds released files in the user's `manual_dir`, or downloads the files of some releases.

The files may be in `manual_dir` itself; in a folder below it that is named as in the archive or in
a public pipeline; or still in the archive. `manual_dir` may also be the path of one of the files or
of the archive. Names may differ in case or by a browser's ` (1)`, and files may be compressed.
Hidden files, such as `._x` of macOS, are ignored.
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
_DEPTH = 4  # levels of folders below manual_dir that are searched
_MOST_FOLDERS = 1_000  # searched per level


@dataclasses.dataclass(frozen=True)
class Paths:
    """The paths that the preparation of a data set uses, and the command that starts it.

    Attributes:
      manual: the user's directory or file with released data; None if it is not known.
      downloads: the directory of downloaded files, which are kept for later preparations.
      scratch: a directory on the same disk as `downloads`, removed after the preparation.
      unfinished: a directory that survives an interruption, so that the next preparation of the
        same data set can continue; it is removed on success, and need not exist.
      command: the command that prepares this data set, without --data_dir and --manual_dir.
    """

    manual: Path | None
    downloads: Path
    scratch: Path
    unfinished: Path
    command: str


@dataclasses.dataclass(frozen=True)
class Found:
    """Released files, or the archive that contains them.

    Attributes:
      origin: the archive, or the files themselves.
      files: the path of each file or directory, by its name in `Release.files` or
        `Release.instead`; empty if the archive is not yet unpacked.
      folder: the folder of the files, relative to `manual_dir` or to the root of the archive.
    """

    origin: tuple[Path, ...]
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    folder: str = ""

    def __getitem__(self, name: str) -> Path:
        return self.files[name]


@dataclasses.dataclass(frozen=True)
class Release:
    """The files needed from a released archive, or a single released file.

    Attributes:
      url: the URL of the archive, a tar or zip file, or of the single file.
      files: the paths of the needed files and directories, relative to one folder; the path of a
        directory ends with a slash.
      folders: the possible names of that folder.
      size: the size of the archive or single file in bytes; 0 if unknown.
      sha256: the SHA-256 of the archive or single file; if it is "", nothing is downloaded.
      instead: other sets of files with the same content, such as one text in three files.
      unusable: the beginnings of the file names of unusable versions, each with the reason.
      hint: an alternative to suggest, for a URL that is reported to answer 403; else "".
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
        """The file name at the end of `url`."""
        return self.url.rpartition("/")[2]

    def find(self, paths: Paths) -> Found:
        """Returns the files; downloads and unpacks them if necessary.

        Raises:
          UserError: as in `locate`; or if the files cannot be downloaded, a file is empty, or the
            archive or a compressed file is damaged, unsafe or not the released one.
        """
        found = self.locate(paths) or Found((self._download(paths),))
        if not found.files:
            found = self._unpack(found.origin[0], paths.scratch / "unpacked")
        for path in found.files.values():
            if path.is_file() and not path.stat().st_size:
                raise UserError(f"{path} is empty: download {self.url} again")
        return self._decompress(found, paths.scratch / "decompressed")

    def locate(self, paths: Paths) -> Found | None:
        """Returns the user's files or archive; None if there are none.

        Raises:
          UserError: if the files are incomplete, ambiguous or unusable; if `paths.manual` is an
            unrelated file; or if nothing is found in `paths.manual`, and nothing is downloaded for
            this release.
        """
        if paths.manual and paths.manual.is_file():
            return self._given(paths.manual, paths)
        if paths.manual:
            if found := self._complete(paths.manual, [paths.manual]):
                return found  # without a search of the folders below, which may be many
            folders = list(self._folders(paths.manual))
            if found := self._complete(paths.manual, folders):
                return found
            if archive := next(filter(None, map(self._archive, folders)), None):
                return Found((archive,))
            self._refuse(paths, folders)
        return None

    def _given(self, file: Path, paths: Paths) -> Found:
        """Returns the needed files if `file` is one of them, else the archive `file`.

        Raises:
          UserError: see `locate`.
        """
        for names in (self.files, *self.instead):
            for name in names:
                if plain(file.name) in [name.lower() + ending for ending in ("", *COMPRESSED)]:
                    beside = {other: look_up(file.parent, other) for other in names} | {name: file}
                    files = {other: path for other, path in beside.items() if path}
                    if len(files) == len(names):
                        return Found(tuple(files.values()), files)
                    missing = [other for other in names if other not in files]
                    raise UserError(self._not_found(missing, paths))
        self._refuse_one(file)
        if is_packed(file.name) or plain(file.name) == stem(self.name):
            return Found((file,))
        known = ", ".join(name.rstrip("/") for name in (self.name, *self.files))
        raise UserError(
            f"{file} is not one of {known}: give one of them, or the directory that contains it"
        )

    def _complete(self, root: Path, folders: list[Path]) -> Found | None:
        """Returns the first complete set of files in one of the folders; None if there is none."""
        for names in (self.files, *self.instead):
            for folder in folders:
                files = {name: path for name in names if (path := look_up(folder, name))}
                if len(files) == len(names):
                    relative = folder.relative_to(root).as_posix().removeprefix(".")
                    return Found(tuple(files.values()), files, relative)
        return None

    def _folders(self, root: Path) -> Iterator[Path]:
        """Yields the directory itself, then folders with known names, up to four levels below it.

        Nearer folders come first, with one exception. LRA's archive has two nested folders named
        `lra_release`, and some tasks are in both. LRA's own pipeline and other public pipelines
        read the inner folder, so folders in the inner one come first. At most a thousand folders
        of each level are searched.
        """
        names = {*map(str.lower, self.folders), stem(self.name)}
        level, found = [root], []
        for _ in range(_DEPTH):
            level = [below for folder in level for below in subfolders_of(folder)][:_MOST_FOLDERS]
            found += [folder for folder in level if plain(folder.name) in names]
        yield root
        yield from sorted(found, key=lambda f: (-f.parts.count("lra_release"), len(f.parts), f))

    def _archive(self, folder: Path) -> Path | None:
        """Returns the archive in a folder, under its name or a variant; None if there is none."""
        stems = {stem(self.name), *map(str.lower, self.folders)} - {"data"}
        entries = [path for path in entries_of(folder) if path.is_file()]
        packed = [path for path in entries if is_packed(path.name) and stem(path.name) in stems]
        if stem(self.name) not in map(str.lower, self.files):
            # gunzip leaves a name without an ending.
            packed += [path for path in entries if plain(path.name) == stem(self.name)]
        return min(packed, key=lambda path: (path.name != self.name, path.name), default=None)

    def _refuse(self, paths: Paths, folders: list[Path]) -> None:
        """Raises a UserError for unusable, ambiguous or incomplete files.

        Also raises a UserError if all files are missing and the release is never downloaded.
        """
        for path in (path for folder in folders for path in entries_of(folder)):
            self._refuse_one(path)
        for name in (name for name in self.files if "/" not in name):
            alike = [path for path in entries_of(folders[0]) if plain(path.name) == name.lower()]
            if len(alike) > 1:
                raise UserError(f"{' and '.join(map(str, alike))} may both be {name}: keep one")
        missing = self._missing(folders)
        if len(missing) < len(self.files) or not self.sha256:
            raise UserError(self._not_found(missing, paths))

    def _missing(self, folders: list[Path]) -> list[str]:
        """Returns the names of the files missing from the folder that lacks the fewest of them."""
        lacking = ([name for name in self.files if not look_up(folder, name)] for folder in folders)
        return min(lacking, key=len)

    def _refuse_one(self, path: Path) -> None:
        name = plain(path.name)
        for beginning, reason in self.unusable.items():
            if name.startswith(beginning.lower()):
                raise UserError(f"{path} is {reason}: download {self.url} instead")
        if name.endswith(_UNFINISHED) and name.startswith(self.name.lower()):
            raise UserError(f"{path} is an unfinished download: finish it, or delete it")
        if name.endswith(_UNREAD) and stem(name.rpartition(".")[0]) == stem(self.name):
            raise UserError(f"{path} has an unsupported format: unpack it in {path.parent}")

    def _not_found(self, missing: list[str], paths: Paths, reason: str = "") -> str:
        looked = "no manual_dir was given"
        if paths.manual:
            looked = f"looked in {paths.manual}"
            looked += "" if paths.manual.exists() else ", which does not exist"
            looked += (
                f", in the folders named {', '.join(self.folders)} below it" if self.folders else ""
            )
            looked += f", and for {self.name}" if self.name not in self.files else ""
        files = ", ".join(name.rstrip("/") for name in missing)
        reason += f"; {self.url} is reported to answer 403: {self.hint}" if self.hint else ""
        return (
            f"{files} not found: {looked}{reason}\ndownload {self.url} into a DIRECTORY and add "
            "--manual_dir=DIRECTORY to this command, or prepare the data in advance: "
            f"{paths.command} --manual_dir=DIRECTORY"
        )

    def _download(self, paths: Paths) -> Path:
        if not self.sha256:
            raise UserError(self._not_found(list(self.files), paths))
        target = paths.downloads / self.name
        if target.is_file():
            return target
        part = target.with_name(f"{target.name}.part")
        waiting = f"waiting for another process that is downloading {self.url}"
        with wait_for_lock(part.with_suffix(".lock"), lambda: _logger.info(waiting)):
            if target.is_file():  # another process may have downloaded it
                return target
            while True:
                resumed = part.exists()
                self._request(part, paths)
                try:
                    self._verify(part, self.url)
                except UserError:
                    part.unlink()  # it did not hold the beginning of this file
                    if not resumed:
                        raise
                else:
                    return part.replace(target)

    def _request(self, part: Path, paths: Paths) -> None:
        _logger.info("downloading %s, %.0f MB", self.url, self.size / 1e6)
        try:
            download(self.url, part, self.size)
        except (OSError, http.client.HTTPException) as error:
            if not from_network(error):  # for example, the disk cannot be written
                raise
            reason = f"; {self.name} cannot be downloaded: {getattr(error, 'reason', error)}"
            raise UserError(self._not_found(list(self.files), paths, reason)) from error

    def _verify(self, archive: Path, what: Path | str) -> None:
        """Raises a UserError if the size or the checksum of the archive is known and differs."""
        found = expected = ""
        if self.size:
            found, expected = f"{archive.stat().st_size:,} bytes", f"{self.size:,} bytes"
        if self.sha256 and found == expected:
            with archive.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found, expected = f"sha256 {digest}", f"sha256 {self.sha256}"
        if found != expected:
            if what == self.url:  # the downloaded file is deleted
                advice = "run the command again, or give the file with --manual_dir"
            else:
                advice = f"delete it and download {self.url} again"
            raise UserError(
                f"{what} is not the released file: {found}; expected {expected}\n{advice}"
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
        """Returns whether a member of the archive is a needed file, or is in a needed directory.

        The metadata files of macOS are not wanted.
        """
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
    """Returns the `Release` of some files in the archive of the Long Range Arena.

    The archive is 8 GB in size; users download it themselves.

    Args:
      name: the name of the files' folder in the archive.
      files: as in `Release`.
      *others: other names of the folder in public pipelines.
      hint: as in `Release`.
    """
    return Release(
        url="https://storage.googleapis.com/long-range-arena/lra_release.gz",
        files=files,
        folders=(name, *others),
        hint=hint,
    )


def taken_from(metadata: Mapping[str, Any]) -> str:
    """Returns a note that names the folder a data set was read from; "" if none is recorded.

    Example:
      >>> taken_from({"folder": "lra_release/lra_release/listops-1000"})
      'read from lra_release/lra_release/listops-1000'
    """
    folder = metadata.get("folder")
    return f"read from {folder}" if folder else ""
