"""The user's own arrays: sequences of features or tokens, each with one target or one per step.

`lru.data.array_files` reads the arrays, and `lru.data.array_spec` describes what a model of them
reads and predicts. If no path is given, `lru.data.springs` simulates arrays.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from lru.data.array_examples import encoded, spec_of
from lru.data.array_files import Part, read_arrays, source_files
from lru.data.array_spec import TARGETS, ArraySpec
from lru.data.builder import SPLITS, SequenceDataset
from lru.data.options import Options
from lru.data.sources import digest
from lru.data.springs import EXAMPLES, spring_arrays
from lru.errors import UserError

_ARRAYS = ("x", "y", "lengths", "mask")
NAMES = (*_ARRAYS, *(f"{name}_{split}" for name in _ARRAYS for split in SPLITS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArraysOptions(Options):
    """The options of the user's own arrays, or of simulated arrays.

    Attributes:
      path: the path of an `.npz` file or a folder of `.npy` files; "" for simulated arrays.
      target: the kind of the targets `y`; see `lru.data.array_spec.resolve_target`.
      validation_fraction: the share of the examples that is drawn for validation, if the arrays
        have no splits.
      test_fraction: likewise, the share of the examples that is drawn for testing.
      seed: the seed of drawn splits and of simulated arrays.
      example: which arrays to simulate; see `lru.data.springs.spring_arrays`.
      num_examples: the number of simulated sequences in all splits together.
      length: T, the maximum number of steps of a simulated sequence.
    """

    path: str = ""
    target: str = "auto"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    example: str = "motion"
    num_examples: int = 2_000
    length: int = 128

    def __post_init__(self) -> None:
        self.check_choice("target", "auto", *TARGETS)
        self.check_choice("example", *EXAMPLES)
        self.check_least(seed=0, num_examples=10, length=2)
        held = (self.validation_fraction, self.test_fraction)
        if not (min(held) > 0 and sum(held) < 1):
            raise UserError(
                f"validation_fraction is {held[0]} and test_fraction is {held[1]}; expected "
                "numbers above 0 whose sum is below 1"
            )

    def unused(self) -> Collection[str]:
        # The digest replaces the path.
        return {"path", "example", "num_examples", "length"} if self.path else {"path"}

    def directory_name(self) -> str:
        """Returns a name made of the used options and the digest of the user's arrays.

        Changed arrays are therefore prepared again. Simulated arrays have no digest.
        """
        used = super().directory_name()
        return f"{used},sha256={self.digest}" if self.path else used

    @functools.cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the files' SHA-256; see `lru.data.sources.digest`."""
        try:
            path = Path(self.path).expanduser()
            return digest(path, source_files(path))[:16]
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error
        except (RuntimeError, ValueError) as error:  # an unknown user in `~user`, or a NUL byte
            raise UserError(f"cannot read {self.path!r}: {error}") from error


class Arrays(SequenceDataset):
    """The user's own arrays, or simulated arrays.

    An example of `source` has `inputs`, features `(T, features)` float32 or tokens `(T,)` int32;
    `length`, int32; and `label`, a class, int32, or real numbers `(k,)` float32. If there is a
    target for each step, `label` has a first axis of T steps, and the example also has `weight`,
    `(T,)` float32, which is 1 where the target counts and 0 elsewhere. Features and real targets
    are standardized by the mean and standard deviation of the training split.
    """

    name = "arrays"
    options_class = ArraysOptions

    @functools.cached_property
    def spec(self) -> ArraySpec:
        """What a model of these arrays reads and predicts."""
        return ArraySpec.from_json(self.info.metadata["spec"])

    @property
    def num_classes(self) -> int:  # type: ignore[override]  # here, it depends on the arrays
        return self.spec.num_outputs if self.spec.of_classes else 0

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(map(str, self.spec.labels or ()))

    @property
    def max_length(self) -> int:
        return self.info.metadata["steps"]

    @property
    def vocab_size(self) -> int | None:
        return self.spec.vocab_size

    @property
    def kind(self) -> str:
        return "own" if self.options.path else "artificial"

    @property
    def note(self) -> str:
        if self.options.path:
            return f"the arrays of {Path(self.options.path).name}; target: {self.spec.target}"
        return f"simulated springs: {self.options.example}; target: {self.spec.target}"

    def features(self) -> dict[str, Any]:
        # The bytes of each array, whose type and shape follow from the specification.
        stored = tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes")
        return {"inputs": stored, "target": stored, "weight": stored}

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        parts = self._parts()
        spec = spec_of(parts, self.options.target)
        self.info.metadata["spec"] = spec.to_json()
        self.info.metadata["steps"] = max(part.x.shape[1] for part in parts.values())
        return {split: _stored(part, spec) for split, part in parts.items()}

    def _parts(self) -> dict[str, Part]:
        """Returns the examples of each split."""
        options = self.options
        if not options.path:
            simulated = spring_arrays(
                options.example, options.num_examples, options.length, options.seed
            )
            return _drawn(Part.of(simulated, "", Path(options.example)), options)
        path = Path(options.path).expanduser()
        given = read_arrays(path, NAMES)
        if dataclasses.replace(options).digest != options.digest:  # a copy reads the files again
            raise UserError(f"{path} changed while it was read: run the command again")
        if not (split := [name for name in given if name not in _ARRAYS]):
            return _drawn(Part.of(given, "", path), options)
        if whole := [name for name in given if name in _ARRAYS]:
            raise UserError(
                f"{path} has {whole[0]} and {split[0]}; expected names with a split, such as "
                "x_train, either for all arrays or for none"
            )
        return {split: Part.of(given, split, path) for split in SPLITS}

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        spec = self.spec
        width = () if spec.inputs is None else (len(spec.inputs.mean),)
        inputs = stored["inputs"].view("<i4" if spec.inputs is None else "<f4").reshape(-1, *width)
        outputs = () if spec.of_classes else (spec.num_outputs,)
        target = stored["target"].view("<i4" if spec.of_classes else "<f4").reshape(-1, *outputs)
        found = {
            "inputs": self.padded(inputs, inputs.dtype), "length": np.int32(len(inputs))
        }  # fmt: skip
        if not spec.per_step:
            return found | {"label": target[0]}
        weight = self.padded(stored["weight"], np.float32)
        return found | {"label": self.padded(target, target.dtype), "weight": weight}


def _drawn(part: Part, options: ArraysOptions) -> dict[str, Part]:
    """Divides examples into splits at random, by the fractions and the seed of `options`."""
    number = len(part)
    validation = max(int(number * options.validation_fraction), 1)
    test = max(int(number * options.test_fraction), 1)
    if validation + test >= number:
        raise UserError(
            f"{part.where} has {number} examples, of which {validation} would be for validation "
            f"and {test} for testing; expected at least one more, for training"
        )
    order = np.random.default_rng(options.seed).permutation(number)
    bounds = {
        "train": order[validation + test :],
        "validation": order[:validation],
        "test": order[validation : validation + test],
    }
    return {
        split: dataclasses.replace(part, index=np.sort(index)) for split, index in bounds.items()
    }


def _stored(part: Part, spec: ArraySpec) -> Iterator[dict[str, np.ndarray]]:
    """Yields the encoded examples, with each array as its little-endian bytes."""
    for example in encoded(part, spec):
        yield {
            key: np.frombuffer(x.astype(x.dtype.newbyteorder("<")).tobytes(), np.uint8)
            for key, x in example.items()
        }
