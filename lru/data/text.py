"""The Text task of the Long Range Arena: is a movie review, read as characters, positive?

The reviews are from IMDb: Maas et al. (2011), "Learning Word Vectors for Sentiment Analysis".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lru.data import synthetic
from lru.data.characters import CharacterDataset
from lru.data.options import ReleasedOptions
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
class TextOptions(ReleasedOptions):
    """The options of Text, in addition to those of `ReleasedOptions`.

    Attributes:
      protocol: "held_out": the validation split consists of `num_validation` training reviews, half
        of them from each class, drawn with `seed`, and excluded from training. "paper", as in LRA
        and in papers that compare with it: all 25,000 training reviews are trained on, and the
        validation split is the test split, so the test split selects the model that it tests.
      pad_to: T, the length of every input: characters, end of sequence, padding. Longer reviews
        are cut to their first T - 1 characters.
      min_freq: the minimum number of times that a character of the vocabulary occurs in the
        training split, after reviews are cut.
      num_validation: the number of validation reviews, an even number; see `protocol`.
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
                f"num_validation is {self.num_validation}; expected an even number below "
                f"{2 * _PER_CLASS:,}: half of it is held out of each class"
            )

    def unused(self) -> Collection[str]:
        unused = set(super().unused())
        if self.protocol == "paper":
            unused |= {"num_validation", "made_up_validation" if self.synthetic else "seed"}
        return unused | ({"num_validation"} if self.synthetic else set())


class Text(CharacterDataset):
    """Reviews as characters, labeled 0 if negative and 1 if positive."""

    name = "text"
    options_class = TextOptions
    num_classes = 2

    @property
    def kind(self) -> str:
        return "made-up" if self.options.synthetic else "full"

    @property
    def note(self) -> str:
        if self.options.protocol == "held_out":
            return ""
        return (
            "the validation split is the test split, as in LRA, so the model is selected by its "
            "test score"
        )

    def release_needed(self) -> Release | None:
        return None if self.options.synthetic else _RELEASE

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        options = self.options
        splits = self._synthetic() if options.synthetic else self._released()
        if options.protocol == "paper":
            splits["validation"] = splits["test"]
        self.learn_vocabulary((text for text, _ in splits["train"]), options.min_freq)
        if len(self.vocabulary) > 256:
            raise UserError(
                f"{len(self.vocabulary) - 3} characters occur at least {options.min_freq} times; "
                "expected at most 253, to fit into one byte: choose a larger min_freq"
            )
        return {split: self._examples(reviews) for split, reviews in splits.items()}

    def _examples(self, reviews: list[Review]) -> Iterator[dict[str, Any]]:
        for text, label in reviews:
            tokens = self.vocabulary.encode(text, self.max_length)
            yield {"inputs": tokens.astype(np.uint8), "label": label}

    def _released(self) -> dict[str, list[Review]]:
        train, test = (
            read_reviews(self.found[f"{part}/neg/"], self.found[f"{part}/pos/"])
            for part in ("train", "test")
        )
        if self.options.protocol == "paper":
            return {"train": train, "test": test}
        held = set(held_out([label for _, label in train], self.options))
        return {
            "train": [review for i, review in enumerate(train) if i not in held],
            "validation": [review for i, review in enumerate(train) if i in held],
            "test": test,
        }

    def _synthetic(self) -> dict[str, list[Review]]:
        options, rng, splits = self.options, np.random.default_rng(self.options.seed), {}
        sizes = options.synthetic_sizes
        if options.protocol == "paper":  # `made_up_validation` must have no effect; see `unused`
            del sizes["validation"]
        for split, size in sizes.items():
            labels = rng.integers(2, size=size).tolist()
            splits[split] = list(zip(synthetic.texts(rng, labels, options.pad_to), labels))
        return splits


def held_out(labels: list[int], options: TextOptions) -> list[int]:
    """Draws the indices of validation reviews at random, the same number from each class.

    Example:
      >>> held_out([0, 0, 0, 1, 1, 1], TextOptions(num_validation=2))
      [2, 4]
    """
    rng = np.random.default_rng(options.seed)
    drawn = [
        rng.choice(np.flatnonzero(np.equal(labels, label)), options.num_validation // 2, False)
        for label in range(2)
    ]
    return sorted(np.concatenate(drawn).tolist())


def read_reviews(negative: Path, positive: Path) -> list[Review]:
    """Reads the negative, then the positive reviews, each class in the order of its file names.

    Files with names other than `ID_RATING.txt` are ignored.

    Raises:
      UserError: if the number of reviews is wrong, or a review is damaged or not UTF-8.
    """
    reviews = []
    for label, directory in enumerate((negative, positive)):
        paths = sorted(path for path in directory.iterdir() if _REVIEW.fullmatch(path.name))
        if len(paths) != _PER_CLASS:
            raise UserError(
                f"{directory} has {len(paths):,} reviews; expected {_PER_CLASS:,}: "
                f"download {_RELEASE.url} again"
            )
        reviews += [(_read(path), label) for path in paths]
    return reviews


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): download {_RELEASE.url} again") from error
    if not text or "\0" in text:  # system crashes may leave such files
        fault = "has zero bytes" if text else "is empty"
        raise UserError(f"{path} {fault}: download {_RELEASE.url} again")
    return text
