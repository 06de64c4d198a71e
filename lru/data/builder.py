"""What all data sets share: each is prepared once, and from then on checked and read at random.

A new one is one module of this package, with a subclass of `SequenceDataset` whose `name` is the
module's; `lru.data.dataset_class` finds it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow_datasets as tfds

from lru.data.numbers import Numbers
from lru.data.released import Found, Places, Release
from lru.data.sources import SourceFile, Sources, unchanged
from lru.errors import UserError, did_you_mean
from lru.io.files import lock, wait_for_lock

SPLITS = ("train", "validation", "test")
_CHECKSUMS = "checksums.json"
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class _Config(tfds.core.BuilderConfig):
    numbers: Numbers | None = None


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Asks nobody: TFDS would look for a data set of that name on its own servers."""


class SequenceDataset(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """A TFDS builder that needs no TensorFlow, asks no server of TFDS, and checks what it reads.

    A subclass sets the attributes below, and defines `splits`, `max_length` and `vocab_size`. That
    will do for sequences of tokens with one label; for anything else, override `features`,
    `example` and `decode` too.

    Attributes:
      name: of the data set, of its directory and of its module.
      VERSION: to be raised whenever the same numbers come to mean other data.
      numbers_class: the subclass of `Numbers`.
      num_classes: labels are 0 .. num_classes - 1.
      class_names: what the labels mean, in their order; empty if they are numbers.
      places: where a preparation looks for released files, see `lru.data.released`.
      found: the files that `release_needed` names, during a preparation.
    """

    VERSION = tfds.core.Version("1.0.0")
    numbers_class: ClassVar[type[Numbers]]
    num_classes: ClassVar[int]
    class_names: ClassVar[tuple[str, ...]] = ()
    places: Places
    found: Found

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(skip_registration=True, **kwargs)

    @classmethod
    def create(
        cls,
        data_dir: str | os.PathLike[str],
        manual_dir: str | os.PathLike[str] | None = None,
        **numbers: Any,
    ) -> Self:
        """Returns the data set, after preparing it if it is not there, or else checking it.

        Args:
          data_dir: where prepared data sets are kept.
          manual_dir: where the released files are, if any are needed.
          **numbers: fields of `numbers_class`.

        Raises:
          UserError: if a number is unknown or impossible, a released file is missing or damaged,
            or a prepared file is not what it was when it was made.
        """
        chosen = cls.numbers_class.choose(numbers)
        config = _Config(name=chosen.directory_name(), numbers=chosen)
        root, manual = _absolute(data_dir), _absolute(manual_dir) if manual_dir else None
        directory = root / cls.name / config.name / str(cls.VERSION)
        if manual is None and (known := Sources.read(directory)) and known.manual_dir:
            manual = Path(known.manual_dir)
        _remove_leftovers(root)
        if cls._due(root, directory, config, manual):
            with _turn(root, directory) as scratch:
                # It may have been prepared in a turn of another process.
                if why := cls._due(root, directory, config, manual):
                    _logger.info("%s", why)
                    start = time.monotonic()
                    cls._prepare(root, directory, scratch, config, manual)
                    _logger.info("prepared %s in %.1f s", cls.name, time.monotonic() - start)
        _verify_checksums(directory)
        return cls(data_dir=root, config=config)

    @classmethod
    def _due(cls, root: Path, directory: Path, config: _Config, manual: Path | None) -> str:
        """Why the data have to be prepared, for the first time or again; "" if they are."""
        preparing = f"preparing {cls.name} in {directory}"
        if not directory.exists():
            return preparing
        builder = cls(data_dir=root / "nothing", config=config)  # it reads no damaged file
        if (release := builder.release_needed()) is None:
            return ""
        paths = _present(release, builder._places(root, directory, root, manual), directory)
        if not paths or unchanged(directory, manual, paths):
            return ""
        if Sources.read(directory) is None:
            why = f"{cls.name} was prepared by an older version, which noted no source"
        else:
            why = f"{paths[0]} is not what {cls.name} was prepared from"
        return f"{why}: {preparing} again"

    @classmethod
    def _prepare(
        cls, root: Path, directory: Path, scratch: Path, config: _Config, manual: Path | None
    ) -> None:
        # TFDS makes a temporary directory too, but gives it its final name before checksums could
        # be in it.
        builder = cls(data_dir=scratch, config=config)
        builder.places = builder._places(root, directory, scratch, manual)
        sources = builder._find()
        builder._write_examples(root)
        for source in sources:
            if not source.is_at(Path(source.path)):
                raise UserError(f"{source.path} changed while it was read: start once more")
        made = Path(builder.data_dir)
        _write_checksums(made)
        if sources:
            Sources(str(manual) if manual else None, sources).write(made)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists():
            directory.rename(scratch / "before")  # and removed with it
        made.rename(directory)
        shutil.rmtree(builder.places.unfinished, ignore_errors=True)

    def _find(self) -> list[SourceFile]:
        """Sets `found`, and returns what it comes from."""
        if (release := self.release_needed()) is None:
            return []
        # Before an archive is unpacked, so that a change of it meanwhile is noticed.
        there = release.locate(self.places)
        sources = [SourceFile.of(path) for path in there.origin] if there else []
        self.found = release.find(self.places)
        self.info.metadata["folder"] = self.found.folder
        inside = f", folder {self.found.folder}" if self.found.folder else ""
        _logger.info("reading %s%s", ", ".join(map(str, self.found.origin)), inside)
        return sources or [SourceFile.of(path) for path in self.found.origin]

    def _places(self, root: Path, directory: Path, scratch: Path, manual: Path | None) -> Places:
        unfinished = directory.with_name(f"unfinished.{directory.name}")
        return Places(manual, root / "downloads", scratch, unfinished, self._command())

    def _write_examples(self, root: Path) -> None:
        tfds.display_progress_bar(sys.stderr.isatty())
        try:
            self.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                file_format="array_record",
            )
        except RuntimeError as error:  # what the writer raises for a full disk
            reason = str(error).partition(";")[0]
            raise UserError(
                f"{self.name} cannot be prepared in {root}: {reason}; nothing was left behind"
            ) from error

    def _command(self) -> str:
        """What prepares this data set, but for where released files are."""
        numbers = "".join(f" --{key}={value}" for key, value in self.numbers.changed().items())
        return f"python -m lru.prepare --task={self.name}{numbers}"

    @property
    def numbers(self) -> Any:
        """The `numbers_class` this data set was created with."""
        return self.builder_config.numbers

    @property
    def max_length(self) -> int:
        """T, the length to which `source` pads every sequence."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int | None:
        """V: tokens are 0 .. V - 1, and 0 is padding; None where a step is a vector of features."""
        return None

    @property
    def token_names(self) -> Sequence[str] | None:
        """What each token stands for; None where that is nothing to be read."""
        return None

    @property
    def kind(self) -> str:
        """What the examples are, which stands beside every result.

        "full" is the released data; "prefix" a part of them, "stand-in" others of their form;
        "generated" by the rules of the released ones; "made-up" for tests alone; "artificial" a
        task that its generator defines, of which nothing was ever released.
        """
        return "full"

    @property
    def note(self) -> str:
        """What else has to be said beside every result, if anything."""
        return ""

    @property
    def digests(self) -> Mapping[str, str]:
        """A digest of the examples of each split; none if an older version prepared them."""
        return self.info.metadata.get("digests", {})

    def release_needed(self) -> Release | None:
        """Returns the files that this data set is made of; None if it needs none.

        They are `found` when it is prepared, and it is prepared again when they have changed.
        """
        return None

    def features(self) -> dict[str, Any]:
        """Returns the TFDS features of what is stored of an example."""
        return {
            # As one string of bytes: reading a list of integers is 50 times slower.
            "inputs": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.Scalar(np.int32),
        }

    def splits(self) -> Mapping[str, Iterable[dict[str, Any]]]:
        """Returns the examples of each split, as `features` describes them.

        Called once, to prepare. What it puts into `self.info.metadata` is kept beside the examples.
        """
        raise NotImplementedError

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Makes what a model sees of what is stored: the sequence padded with zeros to T."""
        return {
            "inputs": self.padded(stored["inputs"]),
            "length": np.int32(len(stored["inputs"])),
            "label": np.int32(stored["label"]),
        }

    def padded(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the tokens and zeros up to T, int32."""
        inputs = np.zeros(self.max_length, np.int32)
        inputs[: len(tokens)] = tokens
        return inputs

    def decode(self, inputs: Any) -> Any:
        """Makes what goes into the model of what `source` gives, on the device.

        Args:
          inputs: of one example or of many, an array of NumPy or of JAX.

        Returns:
          An array of the same kind: here just the inputs, tokens.
        """
        return inputs

    def source(self, split: str) -> Source:
        """Returns a split for random access: `len(source)`, and `source[i]` as `example` says.

        Example `i` of tokens is `{"inputs": (T,) int32, "length": int32, "label": int32}`.

        Raises:
          UserError: if there is no such split.
        """
        if split not in SPLITS:
            raise UserError(
                f"there is no split {split!r} of {self.name}; {did_you_mean(split, SPLITS)}"
            )
        return Source(self.as_data_source(split), self.example)

    def _info(self) -> tfds.core.DatasetInfo:
        # Not shuffled: that is for the pipeline to do, anew in every epoch.
        features = tfds.features.FeaturesDict(self.features())
        return _Info(
            builder=self,
            features=features,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # `released` downloads, where that has to be
        self.info.metadata["digests"] = {}
        return {
            split: enumerate(self._digested(split, examples))
            for split, examples in self.splits().items()
        }

    def _digested(self, split: str, examples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Passes the examples on, and notes a digest of all of them."""
        digest = hashlib.sha256()
        for example in examples:
            for key, value in sorted(example.items()):
                array = np.asarray(value)
                digest.update(f"{key} {array.shape} ".encode())
                digest.update(array.tobytes())
            yield example
        self.info.metadata["digests"][split] = digest.hexdigest()

    def _generate_examples(self) -> Any:
        raise NotImplementedError("`_split_generators` has the examples already")

    def _create_builder_config(self, builder_config: Any, *args: Any, **kwargs: Any) -> Any:
        return builder_config  # TFDS would warn that it is not in a list of known ones

    def _log_download_bytes(self) -> None:
        """Says nothing: TFDS prints to standard output here, and below."""

    def _log_download_done(self) -> None:
        """Says nothing."""


class Source:
    """A split for random access; each example is made when it is asked for."""

    def __init__(self, stored: Any, example: Callable[[dict[str, Any]], dict[str, Any]]):
        self._stored = stored
        self._example = example

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._example(self._stored[range(len(self))[index]])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Reads a whole batch, in less time than one by one."""
        return [self._example(stored) for stored in self._stored.__getitems__(indices)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), 256):
            yield from self.__getitems__(range(start, min(start + 256, len(self))))


@contextmanager
def _turn(root: Path, directory: Path) -> Iterator[Path]:
    """Waits until no other process prepares the same, and yields an empty directory to do it in."""
    what = str(directory.relative_to(root))
    scratch = root / f"incomplete.{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    waiting = f"waiting for another process, which prepares {what}"
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
    """Removes what killed preparations of whatever data set left, gigabytes perhaps.

    One that is under way has the lock.
    """
    for scratch in root.glob("incomplete.*"):
        if scratch.is_dir() and not scratch.is_symlink():
            file = root / f"{scratch.name}.lock"
            with suppress(UserError), lock(file) as gone:
                if gone:
                    _logger.info("removing %s, left by a preparation that was killed", scratch)
                    shutil.rmtree(scratch, ignore_errors=True)
                    with suppress(OSError):
                        file.unlink()


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # `~somebody`, who is nobody here
        raise UserError(f"{path} cannot be found: {error}") from error


def _present(release: Release, places: Places, directory: Path) -> Sequence[Path]:
    """The sources that are at hand: where the user has them now, or else where they were."""
    found = None
    with suppress(UserError):  # they need not be there any more
        found = release.locate(places)
    if found:
        return found.origin
    known = Sources.read(directory)
    paths = [Path(source.path) for source in known.files] if known else []
    return paths if all(path.exists() for path in paths) else []


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
            f"{directory / wrong[0]} is not as it was prepared: "
            f"delete the directory {directory} so that it is made again"
        )


def _fingerprint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}
