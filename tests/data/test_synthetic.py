import numpy as np
import pytest

from lru.data import synthetic

FAVOURITES = ["abcd", "efgh"]


def test_letters_have_the_frequencies_of_their_topic():
    for topic, (many, few) in enumerate([FAVOURITES, FAVOURITES[::-1]]):
        text = "".join(synthetic.texts(np.random.default_rng(0), [topic] * 400, most=100))
        for letter in "abcdefgh ":
            share = {True: 4 / 24, False: 1 / 24}[letter in many + " "]
            assert text.count(letter) / len(text) == pytest.approx(share, rel=0.1)
            assert letter in many + few + " "


def test_lengths_range_from_one_to_the_maximum():
    lengths = {len(text) for text in synthetic.texts(np.random.default_rng(0), [0] * 100, most=5)}
    assert lengths == {1, 2, 3, 4, 5}


def test_the_random_number_generator_determines_the_texts():
    first, again, other = (
        list(synthetic.texts(np.random.default_rng(seed), [0, 1], most=50)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_words_have_the_requested_length_and_all_occur():
    for length in (0, 1, 2, 57):
        assert len(synthetic.words(np.random.default_rng(0), length)) == length
    whole = synthetic.words(np.random.default_rng(0), 1000).split(" ")
    assert set(whole[:-1]) == set(synthetic._WORDS)
