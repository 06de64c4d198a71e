import hashlib

import numpy as np
import pytest

from lru.data import text
from lru.data.characters import END, UNKNOWN, Vocabulary
from lru.data.text import Text, TextOptions, held_out, read_reviews
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
MADE_UP = {"source": "made_up", "pad_to": 60, "made_up_train": 80, "made_up_validation": 12}
MADE_UP |= {"made_up_test": 10}
SMALL = {"pad_to": 24, "min_freq": 1, "num_validation": 4}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return Text.create(tmp_path_factory.mktemp("data"), **MADE_UP)


@pytest.fixture
def released(tmp_path, monkeypatch):
    """A directory with five reviews of each class and split, instead of 12,500."""
    monkeypatch.setattr(text, "_PER_CLASS", 5)
    for part in ("train", "test"):
        for kind in ("neg", "pos"):
            folder = tmp_path / "manual" / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            for i in range(5):
                (folder / f"{i}_{i}.txt").write_text(content(part, kind, i))
    return tmp_path / "manual"


def read_both(directory):
    return read_reviews(directory / "neg", directory / "pos")


def examples(dataset, split):
    return [
        (dataset.vocabulary.decode(example["inputs"]), int(example["label"]))
        for example in dataset.source(split)
    ]


def content(part, kind, i):
    return f"{i} {part} {kind} 01234" + " as in" * 2 * (i == 4)


def reviews(part):
    rows = [(label, kind, i) for label, kind in enumerate(("neg", "pos")) for i in range(5)]
    return [(content(part, kind, i)[:23], label) for label, kind, i in rows]


def test_every_review_is_read_with_its_label_and_cut_to_the_length(released, tmp_path):
    dataset = Text.create(tmp_path, released, **SMALL)
    assert examples(dataset, "test") == reviews("test")
    both = examples(dataset, "train") + examples(dataset, "validation")
    assert sorted(both) == sorted(reviews("train"))
    assert (dataset.kind, dataset.note, dataset.max_length) == ("full", "", 24)
    longest = [example for example in dataset.source("test") if example["length"] == 24]
    assert len(longest) == 2 and all(example["inputs"][-1] == END for example in longest)


def test_validation_reviews_are_balanced_and_not_trained_on(released, tmp_path):
    dataset = Text.create(tmp_path, released, **SMALL)
    assert sorted(label for _, label in examples(dataset, "validation")) == [0, 0, 1, 1]
    assert not set(examples(dataset, "train")) & set(examples(dataset, "validation"))
    other = Text.create(tmp_path, released, **SMALL, seed=1)
    assert examples(other, "validation") != examples(dataset, "validation")
    lengths = [[row["length"] for row in each.source("test")] for each in (dataset, other)]
    assert lengths[0] == lengths[1]


def test_the_vocabulary_depends_on_the_training_split_alone(released, tmp_path):
    for part in (
        "train",
        "test",
    ):  # one letter per review; letters of validation reviews are unknown
        for i, path in enumerate(sorted((released / "aclImdb" / part).rglob("*.txt"))):
            path.write_text("ABCDEFGHIJ"[i])
    dataset = Text.create(tmp_path, released, **SMALL)
    trained = "".join(some for some, _ in examples(dataset, "train"))
    assert sorted(dataset.vocabulary.characters) == sorted(trained)
    assert dataset.vocab_size == 3 + 6
    assert [example["inputs"][0] for example in dataset.source("validation")] == [UNKNOWN] * 4


def test_a_rare_character_is_unknown(released, tmp_path):
    path = released / "aclImdb" / "train" / "neg" / "0_0.txt"
    path.write_text("train ~")
    options = SMALL | {"protocol": "paper"}
    assert "~" in Text.create(tmp_path, released, **options).vocabulary.characters
    often = Text.create(tmp_path, released, **options | {"min_freq": 2})
    assert "~" not in often.vocabulary.characters
    assert examples(often, "train")[0][0] == "train ?"


def test_the_papers_protocol_trains_on_all_reviews_and_notes_that_the_test_split_selects(
    released, tmp_path
):
    dataset = Text.create(tmp_path, released, protocol="paper", **SMALL)
    assert examples(dataset, "train") == reviews("train")
    assert examples(dataset, "validation") == examples(dataset, "test") == reviews("test")
    assert dataset.note.startswith("the validation split is the test split")
    again = Text.create(tmp_path, protocol="paper", **SMALL | {"num_validation": 2}, seed=7)
    assert again.data_dir == dataset.data_dir


def test_line_ends_of_a_review_are_unchanged(released, tmp_path):
    (released / "aclImdb" / "test" / "neg" / "0_0.txt").write_bytes("a\x85b\tc\r\nd".encode())
    assert read_both(released / "aclImdb" / "test")[0] == ("a\x85b\tc\r\nd", 0)


def test_a_missing_or_damaged_review_raises(released, tmp_path):
    path = released / "aclImdb" / "train" / "pos" / "3_3.txt"
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=rf"{path} is not UTF-8 .*download https://ai\.stanford"):
        Text.create(tmp_path, released, **SMALL)
    path.unlink()
    with pytest.raises(UserError, match=f"{path.parent} has 4 reviews; expected 5"):
        Text.create(tmp_path, released, **SMALL)


def test_the_checksum_and_size_of_the_release_are_pinned():
    wanted = text._RELEASE
    assert (wanted.name, wanted.size) == ("aclImdb_v1.tar.gz", 84_125_825)
    assert wanted.sha256 == "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"


def test_synthetic_reviews_have_the_same_form_and_reveal_their_class(synthetic, tmp_path):
    assert (synthetic.kind, synthetic.num_classes, synthetic.vocab_size) == ("made-up", 2, 3 + 9)
    assert [len(synthetic.source(split)) for split in SPLITS] == [80, 12, 10]
    right = [
        (sum(map(some.count, "efgh")) > sum(map(some.count, "abcd"))) == label
        for some, label in examples(synthetic, "train")
    ]
    assert np.mean(right) > 0.9
    example = synthetic.source("train")[0]
    assert (example["inputs"].dtype, example["inputs"].shape) == (np.int32, (60,))
    again = Text.create(tmp_path, **MADE_UP)
    assert examples(again, "test") == examples(synthetic, "test")
    assert examples(Text.create(tmp_path, **MADE_UP, seed=1), "test") != examples(synthetic, "test")


def test_synthetic_reviews_follow_the_protocol(tmp_path):
    dataset = Text.create(tmp_path, **MADE_UP, protocol="paper")
    assert examples(dataset, "validation") == examples(dataset, "test")
    assert dataset.note
    other = {"made_up_validation": MADE_UP["made_up_validation"] + 1, "protocol": "paper"}
    assert examples(Text.create(tmp_path / "b", **MADE_UP | other), "test") == examples(
        dataset, "test"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "papre"}, "protocol is 'papre'; did you mean 'paper'"),
        ({"pad_to": 1}, "pad_to is 1; expected at least 2"),
        ({"min_freq": 0}, "min_freq is 0; expected at least 1"),
        ({"num_validation": 0}, "num_validation is 0; expected at least 2"),
        ({"num_validation": 2_501}, "num_validation is 2501; expected an even number below 25,000"),
        ({"num_validation": 25_000}, "num_validation is 25000; expected an even number"),
        ({"source": "made-up"}, "source is 'made-up'; did you mean 'made_up'"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Text.create(tmp_path, **options)


def test_more_characters_than_fit_into_a_byte_raise(released, tmp_path):
    path = released / "aclImdb" / "train" / "neg" / "0_0.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 300))))
    with pytest.raises(UserError, match="characters occur at least 1 times; expected"):
        Text.create(tmp_path, released, **SMALL | {"pad_to": 400, "protocol": "paper"})


def test_seed_0_selects_the_same_reviews_as_before():
    # If a new NumPy draws other random numbers, increase Text.VERSION.
    drawn = held_out([0] * 12_500 + [1] * 12_500, TextOptions())
    assert hashlib.sha256(str(drawn).encode()).hexdigest()[:16] == "5fe530bc7493164c"


def test_all_of_imdb_is_read(shared_data):
    train, test = (read_both(shared_data("imdb") / "aclImdb" / part) for part in SPLITS[::2])
    for some in (train, test):
        assert [label for _, label in some] == [0] * 12_500 + [1] * 12_500
    assert len(Vocabulary.of((review[:4095] for review, _ in train), min_freq=15)) == 134
    assert sum(len(review) > 4095 for review, _ in train) == 727
    assert max(len(review) for review, _ in train) == 13_704
