"""Vocabularies of characters, and the base class of data sets of labeled texts."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Self

import numpy as np

from lru.data.builder import SequenceDataset

PAD, UNKNOWN, END = range(3)


class _CharacterIds:
    """Token ids of characters; the first ids are those of special tokens."""

    _special: ClassVar[tuple[str, ...]]  # texts of special tokens; "?" for unknown characters

    def __init__(self, characters: str):
        self.characters = characters
        codes = _codes(characters)
        unknown = self._special.index("?")
        self._table = np.full(codes.max(initial=0) + 2, unknown, np.uint16)
        self._table[codes] = np.arange(len(self._special), len(self))

    @classmethod
    def of(cls, texts: Iterable[str], min_freq: int = 1) -> Self:
        """Returns ids for the characters that occur at least `min_freq` times, most common first.

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
        order = np.argsort(-counts[often], kind="stable")  # ties are in Unicode order
        return cls("".join(map(chr, often[order].tolist())))

    def __len__(self) -> int:
        return len(self.characters) + len(self._special)

    def decode(self, tokens: Iterable[int]) -> str:
        """Returns the text of tokens, without end and padding; unknown characters become `?`.

        Example:
          >>> Vocabulary("ab").decode([3, 4, 1, 2, 0])
          'ab?'
        """
        names = self.names
        return "".join(names[token] for token in tokens)

    @property
    def names(self) -> list[str]:
        """The text of each token, in the order of the ids."""
        return [*self._special, *self.characters]

    def _look_up(self, text: str) -> np.ndarray:
        return self._table[np.minimum(_codes(text), len(self._table) - 1)]


class Vocabulary(_CharacterIds):
    """Token ids of characters: 0 is padding, 1 an unknown character, 2 the end of sequence.

    Args:
      characters: the known characters, with ids from 3.

    Example:
      >>> vocabulary = Vocabulary("ab")
      >>> vocabulary.encode("abba, baba", pad_to=8).tolist()
      [3, 4, 4, 3, 1, 1, 4, 2]
      >>> len(vocabulary)
      5
    """

    _special = ("", "?", "")

    def encode(self, text: str, pad_to: int) -> np.ndarray:
        """Returns the ids of the first `pad_to - 1` characters, then `END`: uint16, not padded."""
        return np.append(self._look_up(text[: pad_to - 1]), np.uint16(END))


class Alphabet(_CharacterIds):
    """Token ids of characters, without end or padding tokens: 0 is an unknown character.

    Args:
      characters: the known characters, with ids from 1.

    Example:
      >>> alphabet = Alphabet("ab")
      >>> alphabet.encode("abc").tolist(), alphabet.decode([1, 2, 0]), len(alphabet)
      ([1, 2, 0], 'ab?', 3)
    """

    _special = ("?",)

    def encode(self, text: str) -> np.ndarray:
        """Returns the id of each character of a text, uint16."""
        return self._look_up(text)


def bytes_as_text(chunks: Iterable[str]) -> Iterator[str]:
    """Decodes UTF-8 from chunks of text in which each character stands for one byte.

    Yields one string for each chunk: the characters that the chunk completes, or "" if none.
    Invalid bytes become U+FFFD.

    Example:
      >>> list(bytes_as_text("g\\u00c3\\u00b6"))
      ['g', '', 'ö']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        yield decoder.decode(chunk.encode("latin-1"))


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class CharacterDataset(SequenceDataset):
    """Base class of data sets of labeled texts; the vocabulary is saved with the examples."""

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary, learned from the training split."""
        return Vocabulary(self.info.metadata["characters"])

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def token_names(self) -> Sequence[str]:
        return self.vocabulary.names

    @property
    def max_length(self) -> int:
        return self.options.pad_to

    def learn_vocabulary(self, texts: Iterable[str], min_freq: int = 1) -> None:
        """Builds `vocabulary` from the first T - 1 characters of each text.

        Leaves out characters that occur there fewer than `min_freq` times in all texts together. A
        subclass calls this method in `splits`, before it uses `vocabulary`.
        """
        seen = (text[: self.max_length - 1] for text in texts)
        self.info.metadata["characters"] = Vocabulary.of(seen, min_freq).characters
