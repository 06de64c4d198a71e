"""Random synthetic texts that a model can learn from, for tests and trials."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_WORDS = ("a", "bad", "cab", "dab", "deed", "face", "fed", "bead")
_LETTERS = np.array(list("abcdefgh "))


def texts(rng: np.random.Generator, topics: list[int], most: int) -> Iterator[str]:
    """Yields a text for each of `topics`: topic 0 prefers letters `abcd`, and topic 1 `efgh`.

    Args:
      rng: the random number generator.
      topics: the topic of each text, 0 or 1.
      most: the maximum number of characters in a text.

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
    """Returns a random text of words from a list of eight, so that letters are partly predictable.

    Args:
      rng: the random number generator.
      length: the number of characters; the last word may be cut.

    Example:
      >>> words(np.random.default_rng(0), length=17)
      'fed face deed cab'
    """
    chosen = rng.choice(_WORDS, length)  # more than enough: a word adds at least two characters
    return " ".join(chosen.tolist())[:length]
