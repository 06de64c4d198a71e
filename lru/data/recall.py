"""Recall: sequences of random tokens; the token at one position determines the label.

The token at that position is the cue; all other tokens, the distractors, carry no information. If
the cue comes first and the label is read from the last state, a model has to carry the cue through
all T steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from lru.data.builder import SequenceDataset
from lru.data.options import Options
from lru.errors import UserError

_MOST_TOKENS = 255  # tokens are stored as bytes, and 0 is reserved for padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallOptions(Options):
    """The options of Recall.

    Attributes:
      length: T, the number of steps of every sequence.
      classes: the number of different cues, which is also the number of labels.
      distractors: the number of different distractors.
      position: the step of the cue, from 0 to T - 1.
      num_train: the number of training examples.
      num_validation: the number of validation examples.
      num_test: the number of test examples.
      seed: the seed of the generator. Each split has its own random stream, so increasing the
        size of a split only appends examples.
    """

    length: int = 1024
    classes: int = 4
    distractors: int = 8
    position: int = 0
    num_train: int = 20_000
    num_validation: int = 1_000
    num_test: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_least(length=1, classes=2, distractors=1, position=0, seed=0)
        self.check_least(num_train=1, num_validation=1, num_test=1)
        if self.position >= self.length:
            raise UserError(
                f"position is {self.position}; expected less than length={self.length}: "
                "the first step is 0"
            )
        if self.classes + self.distractors > _MOST_TOKENS:
            raise UserError(
                f"classes={self.classes} and distractors={self.distractors} make "
                f"{self.classes + self.distractors} tokens; expected at most {_MOST_TOKENS}"
            )


class Recall(SequenceDataset):
    """Sequences of T tokens; one token, the cue, determines the label.

    With C classes, tokens 1 ... C are the cues of labels 0 ... C - 1, and all higher tokens are
    distractors. Token 0 is reserved for padding and never occurs. Cues and distractors are drawn
    uniformly and independently.
    """

    name = "recall"
    options_class = RecallOptions

    @property
    def num_classes(self) -> int:  # type: ignore[override]  # here, an option
        return self.options.classes

    @property
    def max_length(self) -> int:
        return self.options.length

    @property
    def vocab_size(self) -> int:
        return 1 + self.options.classes + self.options.distractors

    @property
    def kind(self) -> str:
        return "artificial"

    def splits(self) -> dict[str, Iterator[dict[str, Any]]]:
        options = self.options
        sizes = (options.num_train, options.num_validation, options.num_test)
        return {
            split: _examples(options, np.random.default_rng([options.seed, stream]), size)
            for stream, (split, size) in enumerate(zip(("train", "validation", "test"), sizes))
        }


def _examples(
    options: RecallOptions, rng: np.random.Generator, size: int
) -> Iterator[dict[str, Any]]:
    first = 1 + options.classes  # the first distractor
    for _ in range(size):
        label = int(rng.integers(options.classes))
        tokens = rng.integers(first, first + options.distractors, options.length, dtype=np.uint8)
        tokens[options.position] = 1 + label
        yield {"inputs": tokens, "label": label}
