import tarfile

import numpy as np
import pytest

from lru.data import retrieval
from lru.data.characters import END, PAD
from lru.data.pipeline import evaluation_batches, read_all, training_batches
from lru.data.retrieval import Pair, Retrieval, read_pairs
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
MADE_UP = {"source": "made_up", "pad_to": 50, "made_up_train": 90, "made_up_validation": 5}
MADE_UP |= {"made_up_test": 4}
ROWS = {
    "train": [
        "1.0\tA\tB\tb'one'\tb\"it's \\xc3\\xa9\\\\n\"",
        "0.0\tA\tC\tb'one'\tplain\rb'c\x85'",
        "1\tB\tC\tb'\\n\\t'\tb'" + "x" * 30 + "'",
    ],
    "eval": ["0\tD\tB\tb'one'\tb'two'", "1\tD\tE\tb''\tb'e'"],
    "test": ["0.0\tF\tB\tb'o\\xc3'\t"],
}
KEPT = {
    "train": [
        ("b'one'", 'b"it\'s \\xc3\\xa9\\\\n"', 1),
        ("b'one'", "plain\rb'c\x85'", 0),
        ("b'\\n\\t'", "b'" + "x" * 17, 1),
    ],
    "validation": [("b'one'", "b't?o'", 0), ("b''", "b'e'", 1)],
    "test": [("b'o\\xc3'", "", 0)],
}
DECODED = {
    "train": [
        ("one", "it's é\\n", 1),
        ("one", "plain\rb'c\x85'", 0),
        ("\n\t", "x" * 19, 1),
    ],
    "validation": [("one", "t?o", 0), ("", "e", 1)],
    "test": [("o?", "", 0)],
}
FOLDERS = ["", "tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data"]


def write(directory, end="\n"):
    directory.mkdir(parents=True, exist_ok=True)
    for part, rows in ROWS.items():
        text = "".join(row + end for row in rows)
        (directory / f"new_aan_pairs.{part}.tsv").write_text(text, encoding="utf-8", newline="")
    return directory


def create(tmp_path, **options):
    options = {"release": "stand_in", "pad_to": 20} | options
    return Retrieval.create(tmp_path, tmp_path / "manual", **options)


def pairs(dataset, split):
    return [
        (*map(dataset.vocabulary.decode, example["inputs"]), int(example["label"]))
        for example in dataset.source(split)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_kept_literals_are_read_character_by_character_as_in_lra(tmp_path, folder, end):
    write(tmp_path / "manual" / folder, end)
    dataset = create(tmp_path)
    assert {split: pairs(dataset, split) for split in SPLITS} == KEPT
    assert (dataset.kind, dataset.num_classes, dataset.max_length) == ("stand-in", 2, 20)


def test_decoded_literals_are_their_text(tmp_path):
    write(tmp_path / "manual")
    dataset = create(tmp_path, literals="decoded")
    assert {split: pairs(dataset, split) for split in SPLITS} == DECODED


def test_the_vocabulary_has_every_character_of_the_training_split(tmp_path):
    write(tmp_path / "manual")
    dataset = create(tmp_path)
    seen = {character for *texts, _ in KEPT["train"] for text in texts for character in text}
    assert set(dataset.vocabulary.characters) == seen
    assert dataset.vocab_size == 3 + len(seen)


def test_files_are_read_from_the_archive_itself(tmp_path):
    folder = write(tmp_path / "files")
    (tmp_path / "manual").mkdir()
    with tarfile.open(tmp_path / "manual" / "lra_release.gz", "w:gz") as archive:
        archive.add(folder, "lra_release/lra_release/tsv_data")
    assert pairs(create(tmp_path), "train") == KEPT["train"]


def test_an_example_is_two_padded_sequences_their_lengths_and_one_label(tmp_path):
    write(tmp_path / "manual")
    dataset = create(tmp_path)
    example = dataset.source("validation")[1]
    assert {key: (value.dtype, value.shape) for key, value in example.items()} == {
        "inputs": (np.int32, (2, 20)),
        "length": (np.int32, (2,)),
        "label": (np.int32, ()),
    }
    assert example["length"].tolist() == [4, 5]
    for tokens, length in zip(example["inputs"], example["length"]):
        assert tokens[length - 1] == END and (tokens[length:] == PAD).all()
    assert dataset.source("train")[2]["length"].tolist() == [8, 20]


def test_batches_hold_pairs_unchanged(tmp_path):
    source = Retrieval.create(tmp_path, **MADE_UP).source("validation")
    whole = read_all(source)
    *_, last = evaluation_batches(source, batch_size=4)
    assert (last["inputs"].shape, last["length"].tolist()[1:]) == ((4, 2, 50), [[1, 1]] * 3)
    batch = training_batches(source, batch_size=5, seed=0)[0]
    for key in ("inputs", "length", "label"):
        want = np.stack([example[key] for example in source])
        np.testing.assert_array_equal(whole[key], want)
        np.testing.assert_array_equal(np.sort(batch[key], axis=0), np.sort(want, axis=0))


def test_lras_release_is_read_with_its_numbers_of_rows(tmp_path, monkeypatch):
    write(tmp_path / "manual")
    assert retrieval._ROWS == {"train": 147_086, "validation": 18_090, "test": 17_437}
    monkeypatch.setattr(retrieval, "_ROWS", {"train": 3, "validation": 2, "test": 1})
    dataset = create(tmp_path, release="lra")
    assert dataset.kind == "full"
    assert {split: pairs(dataset, split) for split in SPLITS} == KEPT


@pytest.mark.parametrize(("split", "part"), list(zip(SPLITS, ROWS)))
def test_a_truncated_file_of_lra_raises(tmp_path, monkeypatch, split, part):
    path = write(tmp_path / "manual") / f"new_aan_pairs.{part}.tsv"
    rows = {"train": 3, "validation": 2, "test": 1}
    monkeypatch.setattr(retrieval, "_ROWS", rows | {split: 9})
    message = f"{path}, line {rows[split]}: the file ends after {rows[split]} rows; expected 9"
    with pytest.raises(UserError, match=message):
        create(tmp_path, release="lra")


@pytest.mark.parametrize("part", ROWS)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "1 columns; expected a label, two names and two texts"),
        ("0\tA\tB\tb'x'", "4 columns"),
        ("0\tA\tB\tx\ty\tz", "6 columns"),
        ("2\tA\tB\tx\ty", "the label is '2'; expected 0.0 or 1.0"),
        ("0\tA\tB\tb'x\tb'y'", "a text begins with b' and does not end with '"),
        ("0\tA\tB\tx\tb'", "a text begins with b' and does not end with '"),
        ("0\tA\tB\tx\tb'y\"", "a text begins with b' and does not end with '"),
        ("0\tA\tB\tb'x'y'\tz", "the text b'x'y'... is not a bytes literal"),
        ("0\tA\tB\tb'x', b'y'\tz", "the text b'x', b'y'... is not a bytes literal"),
        ("0\tA\tB\tb'x' + f('y')\tz", "does not end"),
        ("0\tA\tB\tb'x' if f() else b'y'\tz", "is not a bytes literal"),
        ("0\tA\tB\tb'\\xZZ'\tz", "is not a bytes literal"),
    ],
)
def test_a_damaged_row_raises_with_its_number(tmp_path, part, row, message):
    path = write(tmp_path / "manual") / f"new_aan_pairs.{part}.tsv"
    with path.open("a") as file:
        file.write(row + "\n")
    with pytest.raises(UserError, match=message.replace("+", r"\+")) as error:
        create(tmp_path, literals="decoded")
    assert str(error.value).startswith(f"{path}, line {len(ROWS[part]) + 1}: ")
    assert not (tmp_path / "retrieval").exists()


def test_an_empty_file_raises(tmp_path):
    path = write(tmp_path / "manual") / "new_aan_pairs.test.tsv"
    path.write_text("")
    with pytest.raises(UserError, match=f"{path} is empty: download https"):
        create(tmp_path)


def test_missing_files_raise_with_the_remedy(tmp_path):
    path = write(tmp_path / "manual") / "new_aan_pairs.eval.tsv"
    path.unlink()
    with pytest.raises(UserError) as error:
        create(tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"new_aan_pairs.eval.tsv not found: looked in {path.parent}, in")
    assert "long-range-arena/lra_release.gz" in second and "--task=retrieval" in second


def test_synthetic_pairs_share_a_topic_if_the_label_is_1(tmp_path):
    dataset = Retrieval.create(tmp_path, **MADE_UP)
    assert (dataset.kind, dataset.vocab_size) == ("made-up", 3 + 9)
    assert [len(dataset.source(split)) for split in SPLITS] == [90, 5, 4]

    def topic(text):
        return sum(map(text.count, "efgh")) > sum(map(text.count, "abcd"))

    found = pairs(dataset, "train")
    right = [(topic(first) == topic(second)) == label for first, second, label in found]
    assert np.mean(right) > 0.85
    assert {label for *_, label in found} == {0, 1}
    again = Retrieval.create(tmp_path / "again", **MADE_UP)
    assert pairs(again, "train") == found
    assert pairs(Retrieval.create(tmp_path, **MADE_UP, seed=1), "train") != found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"release": "stand-in"}, "release is 'stand-in'; did you mean 'stand_in'"),
        ({"literals": "keep"}, "literals is 'keep'; did you mean 'kept'"),
        ({"pad_to": 1}, "pad_to is 1; expected at least 2"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Retrieval.create(tmp_path, **options)


def test_the_seed_affects_synthetic_data_only(tmp_path):
    write(tmp_path / "manual")
    assert create(tmp_path, seed=3).data_dir == create(tmp_path).data_dir


def test_the_stand_in_is_read_and_has_the_98_symbols_of_the_release(shared_data, tmp_path):
    manual = shared_data("aan")
    folder = manual / "lra_release" / "lra_release" / "tsv_data"
    sizes = {
        name: sum(1 for _ in read_pairs(folder / f"new_aan_pairs.{name}.tsv", None, False))
        for name in ROWS
    }
    assert sizes == {"train": 4_500, "eval": 604, "test": 556}
    # A tenth is enough to contain every printable ASCII character.
    for name in ROWS:
        lines = (folder / f"new_aan_pairs.{name}.tsv").read_bytes().splitlines(keepends=True)
        (tmp_path / f"new_aan_pairs.{name}.tsv").write_bytes(b"".join(lines[: len(lines) // 10]))
    dataset = Retrieval.create(tmp_path / "data", tmp_path, release="stand_in")
    assert sorted(dataset.vocabulary.characters) == list(map(chr, range(32, 127)))
    assert dataset.vocab_size == 98
    assert max(example["length"].max() for example in dataset.source("test")) == 4000
    first = next(read_pairs(folder / "new_aan_pairs.test.tsv", None, True))
    assert isinstance(first, Pair) and not first.first.startswith("b'")
