"""The Pathfinder task of the Long Range Arena; at 128 x 128 pixels, it is called Path-X.

Do two markers lie at the ends of one dashed path, or of two different paths? A model reads the
image pixel by pixel.

`lru.data.pathfinder.images` generates images from a seed, by the rules of the released data with
one difference. The released images can also be read.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lru.data.builder import SequenceDataset
from lru.data.options import ReleasedOptions
from lru.data.pathfinder.rules import PATH_LENGTHS, RELEASED_LENGTHS, RELEASED_SIZES, SIZES
from lru.data.pathfinder.shards import Shards
from lru.data.released import Release, lra_release, taken_from
from lru.errors import UserError

_LEVELS = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
# One of the released easy images of 32 x 32 pixels is an empty file. Public pipelines skip it too.
_EMPTY = "0/sample_172.png"
_METADATA = re.compile(r"\d+\.npy")
_ROW = re.compile(r"imgs/(\d+) (sample_\d+\.png) \d+ ([01])( .*)?")
Images = Iterator[tuple[np.ndarray, int]]  # pixels and label


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathfinderOptions(ReleasedOptions):
    """The options of Pathfinder, in addition to those of `ReleasedOptions`.

    Attributes:
      source: "generated"; "released", LRA's images; or "made_up"; see `ReleasedOptions`.
      resolution: the side of an image in pixels: 32 for Pathfinder; 128 for Path-X; 64 or 256,
        which LRA has too; or 16, which LRA does not have.
      difficulty: the length of the paths: "hard", 14 dashes, as in LRA's results; "intermediate",
        9 dashes; "easy", 6 dashes; or "short", 3 dashes and no distractors, which LRA does not
        have. (One of LRA's easy images of 32 x 32 pixels is an empty file and is left out.)
      num_images: the number of images; LRA has 200,000. One tenth forms the validation split and
        another tenth the test split, both drawn with `seed`, which also seeds generated images.
    """

    sources: ClassVar[tuple[str, ...]] = ("generated", "released", "made_up")

    source: str = "generated"
    resolution: int = 32
    difficulty: str = "hard"
    num_images: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        released = self.source == "released"
        self.check_choice("difficulty", *(RELEASED_LENGTHS if released else PATH_LENGTHS))
        self.check_least(num_images=10)
        sizes = RELEASED_SIZES if released else SIZES
        if self.resolution not in sizes:
            raise UserError(f"resolution is {self.resolution}; expected one of {sizes}")

    def unused(self) -> Collection[str]:
        return {*super().unused(), *(("difficulty", "num_images") if self.synthetic else ())}


class Pathfinder(SequenceDataset):
    """Grayscale images, as bytes row by row; the label is 1 if a path joins the markers, else 0."""

    name = "pathfinder"
    options_class = PathfinderOptions
    num_classes = 2
    class_names = ("not connected", "connected")

    @property
    def max_length(self) -> int:
        return self.options.resolution**2

    @property
    def kind(self) -> str:
        if self.options.source == "released":
            return "stand-in" if "num_images" in self.options.changed() else "full"
        return "made-up" if self.options.synthetic else "generated"

    @property
    def note(self) -> str:
        if self.options.source != "released":
            return ""
        left_out = self.info.metadata.get("left_out")
        empty = f"{left_out}, an empty file in the release, is left out" if left_out else ""
        return "; ".join(filter(None, (taken_from(self.info.metadata), empty)))

    def release_needed(self) -> Release | None:
        return release(self.options) if self.options.source == "released" else None

    def features(self) -> dict[str, Any]:
        shape = (self.max_length, 1)
        return {
            "inputs": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.Scalar(np.int32),
        }

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns `{"inputs": (T, 1) uint8, "length": int32, "label": int32}`."""
        return {
            "inputs": stored["inputs"],
            "length": np.int32(self.max_length),
            "label": np.int32(stored["label"]),
        }

    def decode(self, inputs: Any) -> Any:
        """Scales bytes to float32 numbers from -1 to 1.

        Example:
          >>> import tempfile
          >>> with tempfile.TemporaryDirectory() as directory:
          ...     dataset = Pathfinder.create(directory, source="made_up")
          >>> dataset.decode(np.array([[0], [51], [255]], np.uint8)).tolist()
          [[-1.0], [-0.6000000238418579], [1.0]]
        """
        return (inputs.astype(np.float32) / 255 - 0.5) / 0.5

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        options = self.options
        if options.synthetic:
            rng = np.random.default_rng(options.seed)
            sizes = options.synthetic_sizes.items()
            images = {s: synthetic_images(rng, size, options.resolution) for s, size in sizes}
        else:
            read = self._released() if options.source == "released" else self._generated()
            chosen = divide(options.num_images, options.seed)
            images = {split: read(mask) for split, mask in chosen.items()}
        return {split: self._examples(some) for split, some in images.items()}

    def _examples(self, images: Images) -> Iterator[dict[str, Any]]:
        for pixels, label in images:
            yield {"inputs": pixels.reshape(-1, 1), "label": int(label)}

    def _generated(self) -> Callable[[np.ndarray], Images]:
        options, directory = self.options, self.paths.unfinished
        rules = (options.resolution, options.difficulty)
        shards = Shards(directory, *rules, options.seed, options.num_images)
        shards.draw()

        def read(chosen: np.ndarray) -> Images:
            for indices, images, labels in shards:
                here = chosen[indices.start : indices.stop]
                yield from zip(images[here], labels[here])

        return read

    def _released(self) -> Callable[[np.ndarray], Images]:
        options, level = self.options, _LEVELS[self.options.difficulty]
        images, metadata = self.found[f"{level}/imgs/"], self.found[f"{level}/metadata/"]
        rows = read_metadata(images, metadata, options.num_images)
        empty = images / _EMPTY
        if _is_the_empty_one(empty, options):
            self.info.metadata["left_out"] = f"imgs/{_EMPTY}"

        def read(chosen: np.ndarray) -> Images:
            for path, label in itertools.compress(rows, chosen):
                if path != empty or not _is_the_empty_one(path, options):
                    yield read_image(path, options.resolution), label

        return read


def release(options: PathfinderOptions) -> Release:
    """Returns the release of LRA's images with the resolution and difficulty of `options`."""
    level = _LEVELS[options.difficulty]
    return lra_release(
        f"pathfinder{options.resolution}",
        (f"{level}/imgs/", f"{level}/metadata/"),
        hint="source=generated generates data by the same rules",
    )


def _is_the_empty_one(path: Path, options: PathfinderOptions) -> bool:
    """Returns whether LRA has an empty image with these options, and this file is empty."""
    expected = options.resolution == 32 and options.difficulty == "easy"
    return expected and path.is_file() and not path.stat().st_size


def divide(number: int, seed: int) -> dict[str, np.ndarray]:
    """Divides images at random into about 80, 10 and 10 percent; returns a mask for each split.

    A mask is `(number,)` bool. The validation and test splits have `number // 10` images each.

    Example:
      >>> {split: chosen.nonzero()[0].tolist() for split, chosen in divide(10, seed=0).items()}
      {'train': [0, 1, 2, 3, 5, 7, 8, 9], 'validation': [4], 'test': [6]}
    """
    rank = np.empty(number, int)
    rank[np.random.default_rng(seed).permutation(number)] = np.arange(number)
    tenth = number // 10
    return {
        "train": rank >= 2 * tenth,
        "validation": rank < tenth,
        "test": (tenth <= rank) & (rank < 2 * tenth),
    }


def read_metadata(images: Path, metadata: Path, number: int) -> list[tuple[Path, int]]:
    """Reads the paths and labels of images from LRA's text files, called `metadata/N.npy`.

    Args:
      images: the directory `imgs`.
      metadata: the directory `metadata`; files with other names are ignored.
      number: the expected number of images.

    Raises:
      UserError: if a line differs from the released form (the message names the file and the line),
        or the number of images is wrong.
    """
    rows = []
    named = (file for file in metadata.iterdir() if _METADATA.fullmatch(file.name))
    files = sorted(named, key=lambda file: (len(file.name), file))
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        for line, content in enumerate(text.splitlines(), 1):
            if not (row := _ROW.fullmatch(content)):
                raise UserError(
                    f"{file}, line {line}: {content[:60]!r}; expected `imgs/N sample_K.png K LABEL`"
                )
            rows.append((images / row[1] / row[2], int(row[3])))
    if len(rows) != number:
        raise UserError(f"{metadata} names {len(rows):,} images; expected num_images={number:,}")
    return rows


def read_image(path: Path, resolution: int) -> np.ndarray:
    """Reads an image and converts it to grayscale: `(resolution, resolution)` uint8.

    Raises:
      UserError: if the image is missing, empty or damaged, or has the wrong size.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.verify()  # verifies the checksums, which decoding ignores
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:  # damaged PNGs raise SyntaxError
        raise UserError(f"{path} cannot be read as an image: unpack it again") from error
    if pixels.shape != (resolution, resolution):
        height, width = pixels.shape
        raise UserError(f"{path} has {width} x {height} pixels; expected {resolution} each way")
    return pixels


def synthetic_images(rng: np.random.Generator, number: int, resolution: int) -> Images:
    """Yields images of noise with labels: 1 if the upper half is brighter, 0 if the lower half."""
    for label in rng.integers(2, size=number).tolist():
        pixels = rng.integers(156, size=(resolution, resolution), dtype=np.uint8)
        upper, lower = np.split(pixels, 2)
        (upper if label else lower)[...] += 100
        yield pixels, label
