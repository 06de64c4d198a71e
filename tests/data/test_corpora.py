"""Laws of every text, tested on one of a few characters."""

import json
from collections import Counter

import numpy as np
import pytest

from lru.data import corpora, synthetic
from lru.data.corpora import TextStream, by_position
from lru.data.released import Release
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
TEXT = "".join("abcdefg hij\n"[i * i // 7 % 12] for i in range(190)) + "é\ufeffZ0123\r\n!"


class Little(TextStream):
    name = "little"
    size = len(TEXT.encode())
    release = Release("http://127.0.0.1:9/little.txt", ("little.txt",))


class Long(Little):
    name = "long"
    size = 1000
    prefix = True


@pytest.fixture
def manual(tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "little.txt").write_bytes(TEXT.encode())
    return tmp_path / "manual"


def texts(dataset):
    return [dataset.vocabulary.decode(dataset.tokens(split)) for split in SPLITS]


def test_the_last_twentieths_are_validation_and_test(tmp_path, manual):
    assert len(TEXT) == 200
    dataset = Little.create(tmp_path, manual)
    train, validation, test = TEXT[:180], TEXT[180:190], TEXT[190:]
    assert texts(dataset) == [train, validation, "?" * 8 + "\n?"] and test.endswith("\r\n!")
    assert (dataset.kind, dataset.note) == ("full", "")
    assert dataset.tokens("test").dtype == np.uint8


@pytest.mark.parametrize("length", [39, 40, 41, 59, 60, 5_951_345])
def test_split_sizes_are_rounded_as_in_the_authors_code(length):
    held = int(0.05 * length)
    parts = by_position("x" * length)
    assert [len(parts[split]) for split in SPLITS] == [length - 2 * held, held, held]


def test_ids_are_ordered_by_frequency_in_the_training_split(tmp_path, manual):
    dataset = Little.create(tmp_path, manual)
    counts = Counter(TEXT[:180])
    order = sorted(counts, key=lambda character: (-counts[character], character))
    assert dataset.vocabulary.characters == "".join(order)
    assert dataset.vocab_size == 1 + len(counts)
    plain = [1 + order.index(c) if c in counts else 0 for c in TEXT]
    assert np.concatenate([dataset.tokens(split) for split in SPLITS]).tolist() == plain


def test_fixed_shortens_the_training_split_only(tmp_path, manual):
    whole, part = (Little.create(tmp_path, manual, percent=percent) for percent in (100, 41))
    assert texts(part)[0] == TEXT[:73]  # 41 % of 180, rounded down
    kept = set(TEXT[:73])
    for split, text in (("validation", TEXT[180:190]), ("test", TEXT[190:])):
        shown = "".join(character if character in kept else "?" for character in text)
        assert part.vocabulary.decode(part.tokens(split)) == shown
        assert len(part.tokens(split)) == len(whole.tokens(split))
    assert part.note == "trained on the first 41 % of the training text"


def test_moving_shortens_the_whole_text_before_dividing_it(tmp_path, manual):
    dataset = Little.create(tmp_path, manual, percent=41, fraction_test="moving")
    assert texts(dataset) == [TEXT[:74], TEXT[74:78], TEXT[78:82]]
    assert "not on the texts used at 100 %" in dataset.note


def test_at_100_percent_fixed_and_moving_are_the_same_data(tmp_path, manual):
    first, second = (
        Little.create(tmp_path, manual, fraction_test=choice) for choice in ("fixed", "moving")
    )
    assert first.data_dir == second.data_dir


def test_a_text_in_chunks_is_the_text(tmp_path, manual, monkeypatch):
    whole = texts(Little.create(tmp_path / "whole", manual))
    monkeypatch.setattr(corpora, "_CHUNK", 7)
    dataset = Little.create(tmp_path, manual)
    assert texts(dataset) == whole
    source = dataset.source("train")
    assert (len(source), dataset.max_length) == (26, 7)
    assert [int(piece["length"]) for piece in source] == [7] * 25 + [5]
    assert source[25]["inputs"].dtype == np.int32
    assert dataset.vocabulary.decode(source[25]["inputs"]) == TEXT[175:180]


def test_a_shorter_file_is_a_prefix_only_where_prefixes_are_allowed(tmp_path, manual):
    for _ in range(2):  # prepared, then read again
        dataset = Long.create(tmp_path, manual, percent=50)
        assert dataset.kind == "prefix"
        first, second = dataset.note.split("; ")
        assert first == f"the first {Little.size} of the 1,000 bytes of long"
        assert second == "trained on the first 50 % of the training text"
    (manual / "little.txt").write_bytes(b"x" * 1000)
    whole = Long.create(tmp_path / "whole", manual)
    assert (whole.kind, whole.note) == ("full", "")
    with pytest.raises(UserError, match=r"little\.txt has 1,000 bytes; expected 203: download"):
        Little.create(tmp_path, manual)
    (manual / "little.txt").write_bytes(b"x" * 1001)
    with pytest.raises(UserError, match=r"little\.txt has 1,001 bytes; expected 1,000"):
        Long.create(tmp_path, manual)
    (manual / "little.txt").write_bytes(b"x" * 202)
    with pytest.raises(UserError, match=r"little\.txt has 202 bytes; expected 203"):
        Little.create(tmp_path, manual)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" + b"x" * 205, r"long is not utf-8 \(.*\): download http"),
        ("".join(map(chr, range(0x3B1, 0x3B1 + 500))).encode()[:1000], "expected at most 255"),
        (b"x" * 39, "validation of long would have 1 characters; expected at least 2"),
    ],
)
def test_a_file_with_another_text_raises(tmp_path, manual, content, message):
    (manual / "little.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        Long.create(tmp_path, manual)


def test_a_missing_file_raises_with_its_url(tmp_path):
    with pytest.raises(UserError) as error:
        Little.create(tmp_path)
    first, second = str(error.value).splitlines()
    assert first == "little.txt not found: no manual_dir was given"
    assert second.startswith("download http://127.0.0.1:9/little.txt into a DIRECTORY and add ")


def test_synthetic_text_has_the_same_form_and_needs_no_file(tmp_path):
    options = {"source": "made_up", "made_up_length": 1_000}
    dataset = Little.create(tmp_path, **options)
    assert (dataset.kind, dataset.note) == ("made-up", "")
    assert [len(text) for text in texts(dataset)] == [900, 50, 50]
    assert set(texts(dataset)[0].split()[:-1]) == set(synthetic._WORDS)
    assert texts(Little.create(tmp_path / "again", **options)) == texts(dataset)
    assert texts(Little.create(tmp_path, **options, seed=1)) != texts(dataset)


def test_the_number_of_bytes_read_is_saved_with_the_text(tmp_path, manual):
    Long.create(tmp_path, manual)
    kept = json.loads(next(tmp_path.rglob("metadata.json")).read_text())
    assert kept["bytes"] == Little.size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percent": 0}, "percent is 0; expected at least 1"),
        ({"percent": 101}, "percent is 101; expected at most 100"),
        ({"fraction_test": "movin"}, "fraction_test is 'movin'; did you mean 'moving'"),
        ({"source": "made-up"}, "source is 'made-up'; did you mean 'made_up'"),
        ({"made_up_length": 39}, "made_up_length is 39; expected at least 40"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Little.create(tmp_path, **options)
