"""Texts as sequences of characters: the vocabulary, and what data sets of texts share."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Self

import numpy as np

from lru.data.builder import SequenceDataset

PAD, UNKNOWN, END = range(3)


class _Numbering:
    """A number for each of some characters, after those that stand for something else."""

    _special: ClassVar[tuple[str, ...]]  # how each is shown; "?" is any other character

    def __init__(self, characters: str):
        self.characters = characters
        codes = _codes(characters)
        unknown = self._special.index("?")
        self._table = np.full(codes.max(initial=0) + 2, unknown, np.uint16)
        self._table[codes] = np.arange(len(self._special), len(self))

    @classmethod
    def of(cls, texts: Iterable[str], min_freq: int = 1) -> Self:
        """Returns that of all characters that occur so often in all texts, the commonest first.

        Example:
          >>> Vocabulary.of(["brav", "bravo", "brr"], min_freq=2).characters
          'rbav'
        """
        counts = np.zeros(0, np.int64)
        for text in texts:
            more = np.bincount(_codes(text))
            longer, shorter = (counts, more) if len(counts) > len(more) else (more, counts)
            longer[: len(shorter)] += shorter
            counts = longer
        (often,) = np.nonzero(counts >= max(min_freq, 1))
        order = np.argsort(-counts[often], kind="stable")  # of equals the first in Unicode
        return cls("".join(map(chr, often[order].tolist())))

    def __len__(self) -> int:
        return len(self.characters) + len(self._special)

    def decode(self, tokens: Iterable[int]) -> str:
        """Returns the text, `?` where a character has no number; what ends or pads it is left out.

        Example:
          >>> Vocabulary("ab").decode([3, 4, 1, 2, 0])
          'ab?'
        """
        names = self.names
        return "".join(names[token] for token in tokens)

    @property
    def names(self) -> list[str]:
        """What each number stands for."""
        return [*self._special, *self.characters]

    def _look_up(self, text: str) -> np.ndarray:
        return self._table[np.minimum(_codes(text), len(self._table) - 1)]


class Vocabulary(_Numbering):
    """Numbers for characters: 0 is padding, 1 any other character, 2 the end of sequence.

    Args:
      characters: those that have numbers of their own, 3 and up.

    Example:
      >>> vocabulary = Vocabulary("ab")
      >>> vocabulary.encode("abba, baba", pad_to=8).tolist()
      [3, 4, 4, 3, 1, 1, 4, 2]
      >>> len(vocabulary)
      5
    """

    _special = ("", "?", "")

    def encode(self, text: str, pad_to: int) -> np.ndarray:
        """Returns the first `pad_to - 1` characters' numbers and the end of sequence, uint16."""
        return np.append(self._look_up(text[: pad_to - 1]), np.uint16(END))


class Alphabet(_Numbering):
    """Numbers for characters of a text without end or padding: 0 is any other character.

    Args:
      characters: those that have numbers of their own, 1 and up.

    Example:
      >>> alphabet = Alphabet("ab")
      >>> alphabet.encode("abc").tolist(), alphabet.decode([1, 2, 0]), len(alphabet)
      ([1, 2, 0], 'ab?', 3)
    """

    _special = ("?",)

    def encode(self, text: str) -> np.ndarray:
        """Returns the number of every character, uint16."""
        return self._look_up(text)


def bytes_as_text(pieces: Iterable[str]) -> Iterator[str]:
    """Yields the text whose UTF-8 is given, a byte as one character, each as soon as it is whole.

    Example:
      >>> list(bytes_as_text("g\\u00c3\\u00b6"))
      ['g', '', 'ö']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece.encode("latin-1"))


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class CharacterDataset(SequenceDataset):
    """A data set of texts, with the vocabulary of their characters kept beside the examples."""

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The characters of the training part."""
        return Vocabulary(self.info.metadata["characters"])

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def token_names(self) -> Sequence[str]:
        return self.vocabulary.names

    @property
    def max_length(self) -> int:
        return self.numbers.pad_to

    def learn_vocabulary(self, texts: Iterable[str], min_freq: int = 1) -> None:
        """Makes `vocabulary` from what a model will see of the texts; part of a preparation."""
        seen = (text[: self.max_length - 1] for text in texts)
        self.info.metadata["characters"] = Vocabulary.of(seen, min_freq).characters
