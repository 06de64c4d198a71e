"""Texts made up from a seed, in which there is something to learn: for tests and trials."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_WORDS = ("a", "bad", "cab", "dab", "deed", "face", "fed", "bead")
_LETTERS = np.array(list("abcdefgh "))


def texts(rng: np.random.Generator, topics: list[int], most: int) -> Iterator[str]:
    """Yields a text of each topic, 0 or 1: letters of `abcd` are commoner in 0, of `efgh` in 1.

    Args:
      rng: what decides everything else.
      topics: of the texts.
      most: how many characters a text has at most.

    Example:
      >>> first, second = texts(np.random.default_rng(0), [0, 1], most=400)
      >>> first.count("a") > 2 * first.count("e"), second.count("a") > 2 * second.count("e")
      (True, False)
    """
    weights = np.array([[4, 4, 4, 4, 1, 1, 1, 1, 4], [1, 1, 1, 1, 4, 4, 4, 4, 4]]) / 24
    for topic in topics:
        length = rng.integers(1, most, endpoint=True)
        yield "".join(rng.choice(_LETTERS, length, p=weights[topic]))


def words(rng: np.random.Generator, length: int) -> str:
    """Returns a text of so many characters, words of a small language: a letter tells the next.

    Example:
      >>> words(np.random.default_rng(0), length=17)
      'fed face deed cab'
    """
    chosen = rng.choice(_WORDS, length)  # more than enough: a word has a letter and a space
    return " ".join(chosen.tolist())[:length]
