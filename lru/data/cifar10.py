"""CIFAR-10 as sequences of pixels, row by row: in color, or gray as in the Long Range Arena.

Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from lru.data.builder import SequenceDataset
from lru.data.options import ReleasedOptions
from lru.data.released import Release
from lru.errors import UserError

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_RELEASE = Release(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    files=(*_TRAIN, _TEST),
    folders=("cifar-10-batches-bin",),
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    unusable={
        "cifar-10-python": "the Python version, whose pickle files are never read",
        "cifar-10-batches-py": "the Python version, whose pickle files are never read",
        "cifar-10-matlab": "the MATLAB version, which is not supported",
        "cifar-10-batches-mat": "the MATLAB version, which is not supported",
    },
)
_PER_FILE = 10_000
_STEPS = 32 * 32
_ROW = 1 + 3 * _STEPS  # the label, then the planes of red, green and blue
# On a scale of 0 to 1, as in S4 and S5, which Orvieto et al. (2023) follow.
_MEAN = {"rgb": (0.4914, 0.4822, 0.4465), "grey": (122.6 / 255,)}
_STD = {"rgb": (0.247, 0.243, 0.261), "grey": (61 / 255,)}
Images = tuple[np.ndarray, np.ndarray]  # pixels (n, T, 3) and labels (n,), uint8


@dataclasses.dataclass(frozen=True, kw_only=True)
class CIFAR10Options(ReleasedOptions):
    """The options of CIFAR-10, in addition to those of `ReleasedOptions`.

    Attributes:
      color: "rgb", the sCIFAR of Orvieto et al. (2023), with three features per step; or "grey",
        LRA's task, with one feature per step.
      num_validation: the number of images in the validation split, drawn with `seed` from the
        50,000 released training images, regardless of class, and excluded from training.
    """

    color: str = "rgb"
    num_validation: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("color", *_MEAN)
        self.check_least(num_validation=1)
        if self.num_validation >= len(_TRAIN) * _PER_FILE:
            raise UserError(
                f"num_validation is {self.num_validation}; expected less than "
                f"{len(_TRAIN) * _PER_FILE:,}, the number of training images"
            )

    def unused(self) -> Collection[str]:
        return {*super().unused(), *(["num_validation"] if self.synthetic else [])}


class CIFAR10(SequenceDataset):
    """Images of 32 x 32 pixels in ten classes, stored as bytes, which `decode` standardizes."""

    name = "cifar10"
    options_class = CIFAR10Options
    num_classes = 10
    class_names = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    @property
    def max_length(self) -> int:
        return _STEPS

    @property
    def kind(self) -> str:
        return "made-up" if self.options.synthetic else "full"

    def features(self) -> dict[str, Any]:
        shape = (_STEPS, len(_MEAN[self.options.color]))
        return {
            "inputs": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.Scalar(np.int32),
        }

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns `{"inputs": (T, features) uint8, "length": int32, "label": int32}`."""
        return {
            "inputs": stored["inputs"],
            "length": np.int32(_STEPS),
            "label": np.int32(stored["label"]),
        }

    def decode(self, inputs: Any) -> Any:
        """Converts bytes to float32 numbers, standardized as in S4 and S5.

        Example:
          >>> import tempfile
          >>> with tempfile.TemporaryDirectory() as directory:
          ...     dataset = CIFAR10.create(directory, source="made_up", color="grey")
          >>> dataset.decode(np.array([[0], [255]], np.uint8)).round(2)
          array([[-2.01],
                 [ 2.17]], dtype=float32)
        """
        color = self.options.color
        mean, std = np.array(_MEAN[color], np.float32), np.array(_STD[color], np.float32)
        return (inputs.astype(np.float32) / 255 - mean) / std

    def release_needed(self) -> Release | None:
        return None if self.options.synthetic else _RELEASE

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        splits = self._synthetic() if self.options.synthetic else self._released()
        return {split: self._examples(*images) for split, images in splits.items()}

    def _examples(self, pixels: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, Any]]:
        for image, label in zip(pixels, labels):
            inputs = image if self.options.color == "rgb" else grey(image)
            yield {"inputs": inputs, "label": int(label)}

    def _released(self) -> dict[str, Images]:
        trained = (read_images(self.found[name]) for name in _TRAIN)
        pixels, labels = map(np.concatenate, zip(*trained))
        held = held_out(len(labels), self.options)
        return {
            "train": (pixels[~held], labels[~held]),
            "validation": (pixels[held], labels[held]),
            "test": read_images(self.found[_TEST]),
        }

    def _synthetic(self) -> dict[str, Images]:
        rng = np.random.default_rng(self.options.seed)
        return {
            split: synthetic_images(rng, size)
            for split, size in self.options.synthetic_sizes.items()
        }


def held_out(number: int, options: CIFAR10Options) -> np.ndarray:
    """Returns a mask `(number,)` of the images in the validation split.

    Example:
      >>> held_out(10, CIFAR10Options(num_validation=3)).nonzero()[0].tolist()
      [2, 4, 6]
    """
    order = np.random.default_rng(options.seed).permutation(number)
    return np.isin(np.arange(number), order[: options.num_validation])


def grey(pixels: np.ndarray) -> np.ndarray:
    """Converts colors, `(..., 3)` uint8, to brightness, `(..., 1)` uint8.

    Computes 0.299 R + 0.587 G + 0.114 B in integers, rounded as in Pillow, which S4 and S5 use
    through torchvision's `Grayscale`.

    Example:
      >>> grey(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]], np.uint8)).tolist()
      [[76], [150], [29], [7]]
    """
    weights = np.array([19595, 38470, 7471], np.uint32)  # in units of 2**-16
    return ((pixels @ weights + (1 << 15)) >> 16).astype(np.uint8)[..., None]


def read_images(path: Path) -> Images:
    """Returns the images `(n, T, 3)` and the labels `(n,)`, both uint8, of one released file.

    Raises:
      UserError: if the file has the wrong size, or a label is above 9.
    """
    rows = np.fromfile(path, np.uint8)
    if rows.size != _PER_FILE * _ROW:
        raise UserError(
            f"{path} has {rows.size:,} bytes; expected {_PER_FILE * _ROW:,}: "
            f"download {_RELEASE.url} again"
        )
    labels, planes = np.split(rows.reshape(-1, _ROW), [1], axis=1)
    if (wrong := np.flatnonzero(labels > 9)).size:
        raise UserError(f"{path}, image {wrong[0]}: label {labels[wrong[0], 0]}; expected 0 to 9")
    return planes.reshape(-1, 3, _STEPS).transpose(0, 2, 1), labels[:, 0]


def synthetic_images(rng: np.random.Generator, number: int) -> Images:
    """Returns noise images and labels; class c has a bright bar in rows 3 c to 3 c + 2."""
    labels = rng.integers(10, size=number, dtype=np.uint8)
    pixels = rng.integers(156, size=(number, 32, 32, 3), dtype=np.uint8)
    pixels[labels[:, None] == np.arange(32) // 3] += 100
    return pixels.reshape(number, _STEPS, 3), labels
