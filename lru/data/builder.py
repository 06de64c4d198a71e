"""The base class of all data sets: it prepares, verifies and reads their examples.

To add a data set, add a module to this package that defines a subclass of `SequenceDataset` with
the module's name as its `name`; `lru.data.dataset_class` finds it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from lru.data.array_spec import ArraySpec
from lru.data.options import Options
from lru.data.released import Found, Paths, Release
from lru.data.sources import SourceFile, Sources, unchanged
from lru.errors import UserError, did_you_mean
from lru.io.files import lock, wait_for_lock

SPLITS = ("train", "validation", "test")
_CHECKSUMS = "checksums.json"
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class _Config(tfds.core.BuilderConfig):
    options: Options | None = None


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing, so that TFDS does not look for the data set on its servers."""


class SequenceDataset(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """A TFDS builder that needs neither TensorFlow nor TFDS servers, and verifies prepared files.

    A subclass sets `name`, `options_class` and `num_classes`, and defines `splits`, `max_length`
    and `vocab_size`. This suffices for sequences of tokens from 0 to 255 with one label each; for
    other examples, also override `features`, `example` or `decode`; to read released files,
    override `release_needed`.

    Attributes:
      name: the name of the data set, of its directory and of its module.
      VERSION: the version, to be increased whenever the same options yield different data.
      options_class: the class of the data set's options, a subclass of `Options`.
      num_classes: the number of classes, labeled 0 .. num_classes - 1; 0 if there are none.
      class_names: the names of the classes, in the order of the labels; empty if unnamed.
      paths: the paths that a preparation uses, set while it runs; see `lru.data.released.Paths`.
      found: the released files that `release_needed` asks for, set while a preparation runs.
    """

    VERSION = tfds.core.Version("1.0.0")
    options_class: ClassVar[type[Options]]
    num_classes: ClassVar[int]
    class_names: ClassVar[tuple[str, ...]] = ()
    paths: Paths
    found: Found

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(skip_registration=True, **kwargs)

    @classmethod
    def create(
        cls,
        data_dir: str | os.PathLike[str],
        manual_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """Returns the data set; prepares it if necessary, and verifies it.

        The data are prepared if they do not exist. Data from released files are prepared again if
        these files are available and not known to be unchanged.

        Args:
          data_dir: the directory of all prepared data sets.
          manual_dir: the directory that contains the released files or their archive, or the path
            of the archive or of one of the files; by default, the path that is recorded with the
            prepared data, if any.
          **options: fields of `options_class`.

        Raises:
          UserError: if an option is unknown or invalid, the data cannot be prepared, or a prepared
            file has changed since it was prepared.
        """
        chosen = cls.options_class.choose(options)
        config = _Config(name=chosen.directory_name(), options=chosen)
        root, manual = _absolute(data_dir), _absolute(manual_dir) if manual_dir else None
        directory = root / cls.name / config.name / str(cls.VERSION)
        if manual is None and (known := Sources.read(directory)) and known.manual_dir:
            manual = Path(known.manual_dir)
        _remove_leftovers(root)
        if cls._reason_to_prepare(root, directory, config, manual):
            with _scratch_directory(root, directory) as scratch:
                # Another process may have prepared it while this one waited.
                if why := cls._reason_to_prepare(root, directory, config, manual):
                    _logger.info("%s", why)
                    start = time.monotonic()
                    cls._prepare(root, directory, scratch, config, manual)
                    _logger.info("prepared %s in %.1f s", cls.name, time.monotonic() - start)
        _verify_checksums(directory)
        return cls(data_dir=root, config=config)

    @classmethod
    def _reason_to_prepare(
        cls, root: Path, directory: Path, config: _Config, manual: Path | None
    ) -> str:
        """Returns the reason to prepare the data, or to prepare them again; "" if there is none."""
        preparing = f"preparing {cls.name} in {directory.parent.parent}"
        if not directory.exists():
            return preparing
        builder = cls(data_dir=root / "nothing", config=config)  # reads no file
        if (release := builder.release_needed()) is None:
            return ""
        paths = _present(release, builder._paths(root, directory, root, manual), directory)
        if not paths or unchanged(directory, manual, paths):
            return ""
        if Sources.read(directory) is None:
            why = f"{cls.name} was prepared by an older version, which did not record its source"
        else:
            why = f"{paths[0]} differs from the source that {cls.name} was prepared from"
        return f"{why}: {preparing} again"

    @classmethod
    def _prepare(
        cls, root: Path, directory: Path, scratch: Path, config: _Config, manual: Path | None
    ) -> None:
        # TFDS has a temporary directory too, but renames it before we can add the checksums.
        builder = cls(data_dir=scratch, config=config)
        builder.paths = builder._paths(root, directory, scratch, manual)
        sources = builder._find()
        builder._write_examples(root)
        for source in sources:
            if not source.is_at(Path(source.path)):
                raise UserError(f"{source.path} changed while it was read: run the command again")
        prepared = Path(builder.data_dir)
        _write_checksums(prepared)
        if sources:
            Sources(str(manual) if manual else None, sources).write(prepared)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists():
            directory.rename(scratch / "before")  # removed together with `scratch`
        prepared.rename(directory)
        shutil.rmtree(builder.paths.unfinished, ignore_errors=True)

    def _find(self) -> list[SourceFile]:
        """Finds the released files, if any are needed; sets `found`; returns the source files."""
        if (release := self.release_needed()) is None:
            return []
        # Digests are taken before unpacking, so that a later change of an archive is detected.
        located = release.locate(self.paths)
        sources = [SourceFile.of(path) for path in located.origin] if located else []
        self.found = release.find(self.paths)
        self.info.metadata["folder"] = self.found.folder
        inside = f", folder {self.found.folder}" if self.found.folder else ""
        _logger.info("reading %s%s", ", ".join(map(str, self.found.origin)), inside)
        return sources or [SourceFile.of(path) for path in self.found.origin]

    def _paths(self, root: Path, directory: Path, scratch: Path, manual: Path | None) -> Paths:
        unfinished = directory.with_name(f"unfinished.{directory.name}")
        return Paths(manual, root / "downloads", scratch, unfinished, self._command())

    def _write_examples(self, root: Path) -> None:
        tfds.display_progress_bar(False)  # `_digested` shows one line instead of TFDS's many
        try:
            self.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                file_format="array_record",
            )
        except RuntimeError as error:  # the writer raises it if the disk is full
            reason = str(error).partition(";")[0]
            raise UserError(
                f"{self.name} cannot be prepared in {root}: {reason}; all partial files were "
                "deleted"
            ) from error

    def _command(self) -> str:
        """Returns the command that prepares this data set, without --data_dir and --manual_dir."""
        options = "".join(f" --{key}={value}" for key, value in self.options.changed().items())
        return f"python -m lru.prepare --task={self.name}{options}"

    @property
    def options(self) -> Any:
        """The options of this data set, an instance of `options_class`."""
        return self.builder_config.options

    @property
    def max_length(self) -> int:
        """T, the maximum length of a sequence, to which `source` pads by default."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int | None:
        """V, the size of the vocabulary (tokens 0 .. V - 1); None if a step is a feature vector."""
        return None

    @property
    def spec(self) -> ArraySpec | None:
        """The specification of the arrays of `lru.data.arrays`; None for other data sets."""
        return None

    @property
    def token_names(self) -> Sequence[str] | None:
        """The text of each token; None if there are no tokens, or they have no text."""
        return None

    @property
    def kind(self) -> str:
        """The provenance of the examples, shown beside results.

        "full": the released data. "prefix": the first part of the released data. "stand-in": other
        data of the same form. "generated": made by rules like those of the released data. "own":
        the user's own files. "made-up": synthetic data for tests and trials. "artificial": made by
        the generator that defines the task; such a task has no released data.
        """
        return "full"

    @property
    def note(self) -> str:
        """A note to show beside results; "" if there is none."""
        return ""

    @property
    def digests(self) -> Mapping[str, str]:
        """A digest of the examples of each split; empty if an older version prepared them."""
        return self.info.metadata.get("digests", {})

    def release_needed(self) -> Release | None:
        """Returns the released files that this data set is read from; None if it needs none.

        A preparation sets `found` to these files. If they have changed, `create` prepares the data
        again.
        """
        return None

    def features(self) -> dict[str, Any]:
        """Returns the TFDS features of a stored example."""
        return {
            # Stored as one byte string: reading a list of integers is 50 times slower.
            "inputs": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.Scalar(np.int32),
        }

    def splits(self) -> Mapping[str, Iterable[dict[str, Any]]]:
        """Returns the examples of each split, with the structure of `features`.

        This method is called once, during the preparation. It may add to `self.info.metadata`,
        which is saved with the examples.
        """
        raise NotImplementedError

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Converts a stored example to an example of `source`; by default, pads its tokens."""
        return {
            "inputs": self.padded(stored["inputs"]),
            "length": np.int32(len(stored["inputs"])),
            "label": np.int32(stored["label"]),
        }

    def padded(self, x: np.ndarray, dtype: Any = np.int32) -> np.ndarray:
        """Returns `x`, whose first axis is time, as `dtype`, padded with zeros to T steps."""
        padded = np.zeros((self.max_length, *x.shape[1:]), dtype)
        padded[: len(x)] = x
        return padded

    def decode(self, inputs: Any) -> Any:
        """Converts inputs from `source` to inputs of the model, normally on the device.

        Args:
          inputs: the inputs of one example or of a batch, a NumPy or JAX array.

        Returns:
          A NumPy array for a NumPy array, else a JAX array; by default, the unchanged inputs.
        """
        return inputs

    def source(self, split: str) -> Source:
        """Returns a split with random access: a sequence of examples, converted by `example`.

        By default, an example is `{"inputs": (T,) int32, "length": int32, "label": int32}`.

        Raises:
          UserError: if there is no such split.
        """
        if split not in SPLITS:
            raise UserError(
                f"there is no split {split!r} of {self.name}; {did_you_mean(split, SPLITS)}"
            )
        return Source(self.as_data_source(split), self.example)

    def _info(self) -> tfds.core.DatasetInfo:
        # Not shuffled here: the pipeline shuffles in every epoch.
        features = tfds.features.FeaturesDict(self.features())
        return _Info(
            builder=self,
            features=features,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # `lru.data.released` downloads instead
        self.info.metadata["digests"] = {}
        return {
            split: enumerate(self._digested(split, examples))
            for split, examples in self.splits().items()
        }

    def _digested(self, split: str, examples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the examples unchanged, and saves a digest of them at the end.

        On a terminal, a line shows the number of examples so far.
        """
        digest = hashlib.sha256()
        for example in tqdm(examples, split, unit=" examples", leave=False, disable=None):
            for key, value in sorted(example.items()):
                array = np.asarray(value)
                digest.update(f"{key} {array.shape} ".encode())
                digest.update(array.tobytes())
            yield example
        self.info.metadata["digests"][split] = digest.hexdigest()

    def _generate_examples(self) -> Any:
        raise NotImplementedError("`_split_generators` returns the examples")

    def _create_builder_config(self, builder_config: Any, *args: Any, **kwargs: Any) -> Any:
        return builder_config  # TFDS would warn that the config is not in its list

    def _log_download_bytes(self) -> None:
        """Does nothing; the method of TFDS would print to standard output."""

    def _log_download_done(self) -> None:
        """Does nothing; the method of TFDS would print to standard output."""


class Source:
    """A split with random access; examples are converted when they are read."""

    def __init__(self, stored: Any, example: Callable[[dict[str, Any]], dict[str, Any]]):
        self._stored = stored
        self._example = example

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._example(self._stored[range(len(self))[index]])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Reads a whole batch, which is faster than reading examples one by one."""
        return [self._example(stored) for stored in self._stored.__getitems__(indices)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), 256):
            yield from self.__getitems__(range(start, min(start + 256, len(self))))


@contextmanager
def _scratch_directory(root: Path, directory: Path) -> Iterator[Path]:
    """Yields an empty directory, and deletes it after the `with` block.

    First waits while another process prepares the same data.
    """
    what = str(directory.relative_to(root))
    scratch = root / f"incomplete.{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    waiting = f"waiting for another process that is preparing {what}"
    with wait_for_lock(root / f"{scratch.name}.lock", lambda: _logger.info(waiting)):
        try:
            if scratch.is_symlink():
                scratch.unlink()
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _remove_leftovers(root: Path) -> None:
    """Removes the scratch directories, possibly of gigabytes, of preparations that were killed.

    A running preparation holds the lock of its directory, so that directory is left alone.
    """
    for scratch in root.glob("incomplete.*"):
        if scratch.is_dir() and not scratch.is_symlink():
            file = root / f"{scratch.name}.lock"
            with suppress(UserError), lock(file) as acquired:
                if acquired:
                    _logger.info("removing %s, which a killed preparation left behind", scratch)
                    shutil.rmtree(scratch, ignore_errors=True)
                    with suppress(OSError):
                        file.unlink()


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # an unknown user in `~user`
        raise UserError(f"{path} cannot be found: {error}") from error


def _present(release: Release, paths: Paths, directory: Path) -> Sequence[Path]:
    """Returns the source files found in `paths`, else the recorded files if all exist, else []."""
    found = None
    with suppress(UserError):  # the files may be gone
        found = release.locate(paths)
    if found:
        return found.origin
    known = Sources.read(directory)
    recorded = [Path(source.path) for source in known.files] if known else []
    return recorded if all(path.exists() for path in recorded) else []


def _write_checksums(directory: Path) -> None:
    sums = {path.name: _fingerprint(path) for path in sorted(directory.iterdir())}
    (directory / _CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")


def _verify_checksums(directory: Path) -> None:
    try:
        sums = json.loads((directory / _CHECKSUMS).read_text())
        wrong = [name for name, made in sums.items() if _fingerprint(directory / name) != made]
        wrong += [] if sums else [_CHECKSUMS]
    except (OSError, ValueError, AttributeError, RecursionError):
        wrong = [_CHECKSUMS]
    if wrong:
        raise UserError(
            f"{directory / wrong[0]} is missing or has changed since the data were prepared: "
            f"delete the directory {directory}, and run the command again"
        )


def _fingerprint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}
