"""Text of the Long Range Arena: is a film review, read character by character, a good one?

The reviews are IMDb's, of Maas et al. (2011), "Learning Word Vectors for Sentiment Analysis".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lru.data import made_up
from lru.data.characters import CharacterDataset
from lru.data.numbers import ReleasedNumbers
from lru.data.released import Release
from lru.errors import UserError

_PER_CLASS = 12_500
_RELEASE = Release(
    url="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    files=("train/neg/", "train/pos/", "test/neg/", "test/pos/"),
    folders=("aclImdb",),
    size=84_125_825,
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
_REVIEW = re.compile(r"\d+_\d+\.txt", re.IGNORECASE)
Review = tuple[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextNumbers(ReleasedNumbers):
    """The numbers of the data set; see also those that all released ones share.

    Attributes:
      protocol: "held_out": `num_validation` training reviews, as many of each class, drawn with
        `seed`, are the validation split, and are not trained on. "paper": as LRA does it, and
        who compares with LRA, all 25,000 are trained on, and validation is the test split: so the
        test selects the model that it tests.
      pad_to: T, the length of every input: characters, end of sequence, padding. Of a longer
        review, the first T - 1 characters are kept.
      min_freq: how often a character has to occur in what is kept of the training split.
      num_validation: see `protocol`.
    """

    protocol: str = "held_out"
    pad_to: int = 4096
    min_freq: int = 15
    num_validation: int = 2_500

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("protocol", "held_out", "paper")
        self.check_least(pad_to=2, min_freq=1, num_validation=2)
        if self.num_validation % 2 or self.num_validation >= 2 * _PER_CLASS:
            raise UserError(
                f"num_validation is {self.num_validation}, expected an even number below "
                f"{2 * _PER_CLASS:,}: half of it is held out of each class"
            )

    def unused(self) -> Collection[str]:
        unused = set(super().unused())
        if self.protocol == "paper":
            unused |= {"num_validation", "made_up_validation" if self.made_up else "seed"}
        return unused | ({"num_validation"} if self.made_up else set())


class Text(CharacterDataset):
    """Reviews as characters, labelled 0 for a bad one and 1 for a good one."""

    name = "text"
    numbers_class = TextNumbers
    num_classes = 2

    @property
    def kind(self) -> str:
        return "made-up" if self.numbers.made_up else "full"

    @property
    def note(self) -> str:
        if self.numbers.protocol == "held_out":
            return ""
        return "validation is the test split, as in LRA: the test has selected the model"

    def release_needed(self) -> Release | None:
        return None if self.numbers.made_up else _RELEASE

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        numbers = self.numbers
        parts = self._made_up() if numbers.made_up else self._released()
        if numbers.protocol == "paper":
            parts["validation"] = parts["test"]
        self.learn_vocabulary((text for text, _ in parts["train"]), numbers.min_freq)
        if len(self.vocabulary) > 256:
            raise UserError(
                f"{len(self.vocabulary) - 3} characters occur {numbers.min_freq} times, and one "
                "byte tells 253 apart: choose a larger min_freq"
            )
        return {split: self._examples(reviews) for split, reviews in parts.items()}

    def _examples(self, reviews: list[Review]) -> Iterator[dict[str, Any]]:
        for text, label in reviews:
            tokens = self.vocabulary.encode(text, self.max_length)
            yield {"inputs": tokens.astype(np.uint8), "label": label}

    def _released(self) -> dict[str, list[Review]]:
        train, test = (
            read_reviews(self.found[f"{part}/neg/"], self.found[f"{part}/pos/"])
            for part in ("train", "test")
        )
        if self.numbers.protocol == "paper":
            return {"train": train, "test": test}
        held = set(held_out([label for _, label in train], self.numbers))
        return {
            "train": [review for i, review in enumerate(train) if i not in held],
            "validation": [review for i, review in enumerate(train) if i in held],
            "test": test,
        }

    def _made_up(self) -> dict[str, list[Review]]:
        numbers, rng, parts = self.numbers, np.random.default_rng(self.numbers.seed), {}
        sizes = numbers.made_up_sizes
        if numbers.protocol == "paper":  # nothing is drawn that the directory's name leaves out
            del sizes["validation"]
        for split, size in sizes.items():
            labels = rng.integers(2, size=size).tolist()
            parts[split] = list(zip(made_up.texts(rng, labels, numbers.pad_to), labels))
        return parts


def held_out(labels: list[int], numbers: TextNumbers) -> list[int]:
    """Returns which examples are the validation split: as many of each class, drawn with the seed.

    Example:
      >>> held_out([0, 0, 0, 1, 1, 1], TextNumbers(num_validation=2))
      [2, 4]
    """
    rng = np.random.default_rng(numbers.seed)
    drawn = [
        rng.choice(np.flatnonzero(np.equal(labels, label)), numbers.num_validation // 2, False)
        for label in range(2)
    ]
    return sorted(np.concatenate(drawn).tolist())


def read_reviews(negative: Path, positive: Path) -> list[Review]:
    """Reads the bad reviews, then the good ones, each by the names of their files.

    Other files than `ID_RATING.txt` in the two directories are passed over.

    Raises:
      UserError: if their number is not that of the release, or one is not UTF-8 or is damaged.
    """
    reviews = []
    for label, directory in enumerate((negative, positive)):
        paths = sorted(path for path in directory.iterdir() if _REVIEW.fullmatch(path.name))
        if len(paths) != _PER_CLASS:
            raise UserError(
                f"{directory} has {len(paths):,} reviews, expected {_PER_CLASS:,}: "
                f"download {_RELEASE.url} again"
            )
        reviews += [(_read(path), label) for path in paths]
    return reviews


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): download {_RELEASE.url} again") from error
    if not text or "\0" in text:  # as a crash of the system may leave them
        fault = "has bytes of 0" if text else "is empty"
        raise UserError(f"{path} {fault}: download {_RELEASE.url} again")
    return text
