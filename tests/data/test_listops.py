import itertools
import re
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

from lru.data.listops import ListOps, ListOpsOptions
from lru.data.listops.trees import EOS, evaluate
from lru.errors import UserError

TINY = {
    "max_depth": 4,
    "min_length": 3,
    "max_length": 30,
    "pad_to": 32,
    "num_train": 40,
    "num_validation": 7,
    "num_test": 5,
}
FILES = ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv")
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return ListOps.create(tmp_path_factory.mktemp("data"), **TINY)


@pytest.fixture
def released_dir(generated, tmp_path):
    generated.write_tsv(tmp_path / "raw")
    return tmp_path / "raw"


def examples(dataset, split):
    return [
        (example["inputs"].tolist(), int(example["length"]), int(example["label"]))
        for example in dataset.source(split)
    ]


def test_an_input_is_an_expression_then_the_end_of_sequence_then_padding(generated):
    for split in SPLITS:
        for inputs, length, label in examples(generated, split):
            assert evaluate(inputs[: length - 1]) == label
            assert inputs[length - 1 :] == [EOS] + [0] * (32 - length)


def test_splits_have_their_sizes_and_share_no_expression(generated):
    inputs = [tuple(row[0]) for split in SPLITS for row in examples(generated, split)]
    assert [len(generated.source(split)) for split in SPLITS] == [40, 7, 5]
    assert len(set(inputs)) == 52


def test_sizes_for_the_model_are_correct(generated):
    assert (generated.num_classes, generated.vocab_size, generated.max_length) == (10, 18, 32)
    assert generated.kind == "generated"


def test_the_defaults_are_lras():
    options = ListOps.options_class()
    assert (options.max_depth, options.max_args) == (10, 10)
    assert (options.min_length, options.max_length, options.pad_to) == (500, 2000, 2048)
    assert (options.num_train, options.num_validation, options.num_test) == (96_000, 2_000, 2_000)


def test_more_training_examples_change_no_other_example(generated, tmp_path):
    larger = ListOps.create(tmp_path, **TINY | {"num_train": 60})
    assert examples(larger, "train")[:40] == examples(generated, "train")
    for split in ("validation", "test"):
        assert examples(larger, split) == examples(generated, split)


def test_the_seed_determines_the_data(generated, tmp_path):
    assert examples(ListOps.create(tmp_path / "a", **TINY), "test") == examples(generated, "test")
    other = ListOps.create(tmp_path / "b", **TINY, seed=1)
    assert examples(other, "test") != examples(generated, "test")


def test_the_longest_expression_fits_if_pad_to_is_max_length(tmp_path):
    dataset = ListOps.create(tmp_path, **TINY | {"min_length": 18, "max_length": 20, "pad_to": 20})
    assert {int(example["length"]) for example in dataset.source("train")} == {20}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad_to": 29}, "pad_to=29 cannot hold 29 tokens and the end-of-sequence token"),
        ({"min_length": 29}, "no length is above min_length=29 and below max_length=30"),
        ({"max_depth": 0}, "max_depth is 0; expected at least 1"),
        ({"max_args": 1}, "max_args is 1; expected at least 2"),
        ({"max_args": 256}, "max_args is 256; expected at most 255"),
        ({"num_test": 0}, "num_test is 0; expected at least 1"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"source": "generate"}, "source is 'generate'; did you mean 'generated'"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        ListOps.create(tmp_path, **TINY | options)


def test_lengths_with_too_few_expressions_raise(tmp_path, monkeypatch):
    monkeypatch.setattr("lru.data.listops.trees._PATIENCE", 1 << 15)
    with pytest.raises(UserError, match="only 10 different ListOps expressions"):
        ListOps.create(tmp_path, **TINY | {"min_length": 0, "max_length": 4})


@pytest.mark.parametrize(
    "folder",
    ["", "listops-1000", "lra_release/listops-1000", "lra_release/lra_release/listops-1000"],
)
def test_written_files_are_read_from_folders_of_the_archive(generated, tmp_path, folder):
    generated.write_tsv(tmp_path / "raw" / folder)
    released = ListOps.create(tmp_path, tmp_path / "raw", source="released", **TINY)
    assert released.kind == "stand-in"  # there are fewer rows than in LRA's files
    for split in SPLITS:
        assert examples(released, split) == examples(generated, split)


def test_released_files_with_lras_sizes_are_the_full_data():
    def kind(**options):
        return ListOps.kind.fget(SimpleNamespace(options=ListOpsOptions(**options)))

    assert kind(source="released") == kind(source="released", pad_to=2_049) == "full"
    assert kind(source="released", num_test=1_999) == "stand-in"
    assert kind() == kind(num_test=1_999) == "generated"


def test_files_are_read_from_the_archive_itself(generated, released_dir, tmp_path):
    (tmp_path / "manual").mkdir()
    with tarfile.open(tmp_path / "manual" / "lra_release.gz", "w:gz") as archive:
        archive.add(released_dir, "lra_release/listops-1000")
    released = ListOps.create(tmp_path, tmp_path / "manual", source="released", **TINY)
    assert examples(released, "test") == examples(generated, "test")


def test_released_files_are_read_once(released_dir, tmp_path):
    ListOps.create(tmp_path, released_dir, source="released", **TINY)
    again = ListOps.create(tmp_path, source="released", **TINY | {"seed": 5, "max_depth": 9})
    assert len(again.source("train")) == 40


def test_written_files_have_the_official_form(released_dir):
    rows = (released_dir / "basic_val.tsv").read_bytes().split(b"\r\n")
    assert (rows[0], rows[-1], len(rows)) == (b"Source\tTarget", b"", 9)
    for row in rows[1:-1]:
        assert re.fullmatch(rb"(\( )+\[(MIN|MAX|MED|SM) .* \] \)\t\d", row)


def test_existing_files_are_not_overwritten(generated, released_dir):
    with pytest.raises(UserError, match=r"basic_train\.tsv already exists; give another directory"):
        generated.write_tsv(released_dir)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("( ( ( [MAX 1 ) 2 ) ] )", "1 columns; expected an expression and its label"),
        ("7\t7\t7", "3 columns"),
        ("", "1 columns"),
        ("( ( ( [MAX 1 ) x ) ] )\t2", "unknown symbol 'x'"),
        ("( ( ( [MAX 1 ) 2 ) ] )\t10", "the label is '10'; expected a digit"),
        ("( ( ( [MAX 1 ) 2 ) ] )\t", "the label is ''; expected a digit"),
        ("( ( ( [MAX 1 ) 2 ) ] )\t²", "the label is '²'; expected a digit"),
        ("( ( ( [MAX 1 ) 2 ) ]\t2", "unbalanced"),
        ("( ( [MAX 1 ) 2 )\t2", "1 operators still open"),
        ("[MAX" + " 1" * 30 + " ]\t1", "32 tokens and the end-of-sequence token exceed pad_to=32"),
        ("( ( ( [MAX 1 ) 2 ) ] )\t1", "the label is 1, but the expression's value is 2"),
    ],
)
def test_a_damaged_line_raises_with_its_number(released_dir, tmp_path, line, message):
    path = released_dir / "basic_train.tsv"
    rows = path.read_text().splitlines()
    rows[5] = line
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError, match=message) as error:
        ListOps.create(tmp_path, released_dir, source="released", **TINY)
    assert str(error.value).startswith(f"{path}, line 6: ")


def test_a_truncated_file_raises(released_dir, tmp_path):
    path = released_dir / "basic_test.tsv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]))
    with pytest.raises(UserError, match=rf"{path}, line 5: the file ends after 4 rows; expected 5"):
        ListOps.create(tmp_path, released_dir, source="released", **TINY)
    path.write_text("")
    with pytest.raises(UserError, match=rf"{path} is empty: download https"):
        ListOps.create(tmp_path, released_dir, source="released", **TINY)


@pytest.mark.parametrize(
    "missing", [some for n in (1, 3) for some in itertools.combinations(FILES, n)]
)
def test_missing_files_raise_with_the_remedy(released_dir, tmp_path, missing):
    for name in missing:
        (released_dir / name).unlink()
    with pytest.raises(UserError) as error:
        ListOps.create(tmp_path, released_dir, source="released", **TINY)
    message = str(error.value)
    assert message.startswith(f"{', '.join(missing)} not found: looked in {released_dir}")
    assert "https://storage.googleapis.com/long-range-arena/lra_release.gz" in message
    assert "lru.prepare --task=listops --" in message and "--pad_to=32 " in message
    assert len(message.splitlines()) == 2


def test_released_files_need_a_directory(tmp_path):
    with pytest.raises(UserError, match="no manual_dir was given"):
        ListOps.create(tmp_path, source="released")


def test_stored_sequences_are_bytes_without_padding(generated):
    stored = generated.as_data_source("train")[0]["inputs"]
    assert stored.dtype == np.uint8
    assert len(stored) == generated.source("train")[0]["length"]
