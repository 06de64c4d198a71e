import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lru.data.characters import END, PAD, UNKNOWN, Alphabet, CharacterDataset, Vocabulary
from lru.data.options import Options
from lru.errors import UserError

# Characters of one to four bytes in UTF-8, control characters, and half a surrogate pair.
TEXTS = st.text("ab\t\n\x00\x85é–\U0001f642\ud83d", max_size=12)


def plain(vocabulary, text, pad_to):
    """A plain implementation of `Vocabulary.encode`."""
    ids = {character: 3 + i for i, character in enumerate(vocabulary.characters)}
    return [ids.get(character, UNKNOWN) for character in text[: pad_to - 1]] + [END]


@given(st.lists(TEXTS, max_size=5), st.integers(1, 4))
def test_a_vocabulary_has_the_frequent_characters_commonest_first(texts, min_freq):
    counts = Counter("".join(texts))
    often = [character for character in counts if counts[character] >= min_freq]
    expected = sorted(often, key=lambda character: (-counts[character], character))
    assert Vocabulary.of(iter(texts), min_freq).characters == "".join(expected)


@given(TEXTS, TEXTS, st.integers(1, 14))
def test_encoding_gives_the_ids_of_characters_and_the_end(known, text, pad_to):
    vocabulary = Vocabulary.of([known])
    tokens = vocabulary.encode(text, pad_to)
    assert tokens.tolist() == plain(vocabulary, text, pad_to)
    assert len(tokens) <= pad_to and tokens.max() < len(vocabulary)


@given(TEXTS)
def test_decoding_inverts_encoding_and_ignores_padding(text):
    vocabulary = Vocabulary.of([text])
    tokens = np.append(vocabulary.encode(text, pad_to=20), [PAD] * 3)
    assert vocabulary.decode(tokens) == text


@given(TEXTS, TEXTS)
def test_an_alphabet_has_0_for_unknown_characters_only(known, text):
    alphabet = Alphabet.of([known])
    ids = {character: 1 + i for i, character in enumerate(alphabet.characters)}
    assert alphabet.encode(text).tolist() == [ids.get(character, 0) for character in text]
    assert alphabet.decode(alphabet.encode(known)) == known
    assert len(alphabet) == 1 + len(set(known))


def test_many_characters_have_distinct_ids():
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    tokens = Vocabulary(characters).encode(characters, pad_to=2000)
    assert tokens.tolist() == [*range(3, 1003), END]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LettersOptions(Options):
    pad_to: int = 5


class Letters(CharacterDataset):
    name = "letters"
    options_class = LettersOptions
    num_classes = 2

    def splits(self):
        texts = {"train": ["éab", "abbac"], "validation": ["c"], "test": ["bé"]}
        self.learn_vocabulary(texts["train"])
        return {
            split: [
                {"inputs": self.vocabulary.encode(text, 5).astype(np.uint8), "label": 0}
                for text in some
            ]
            for split, some in texts.items()
        }


def test_the_vocabulary_covers_what_a_model_sees_and_is_saved_and_verified(tmp_path):
    for _ in range(2):  # prepared, then read again
        dataset = Letters.create(tmp_path)
        assert dataset.vocabulary.characters == "abé"  # the c is cut off
        assert dataset.vocab_size == 6
    tokens = [example["inputs"].tolist() for example in dataset.source("validation")]
    assert tokens == [[UNKNOWN, END, PAD, PAD, PAD]]
    kept = next(tmp_path.rglob("metadata.json"))
    kept.write_text(kept.read_text().replace("ab", "ba"))
    with pytest.raises(UserError, match=r"metadata\.json is missing or has changed since"):
        Letters.create(tmp_path)
