"""The user's own text: any script, prepared once for each content."""

import json

import numpy as np
import pytest

from lru import generate
from lru.data.text_file import TextFile
from lru.errors import UserError
from lru.training.config import load_config
from lru.training.loop import train_and_evaluate

# 3,000 characters of Chinese, more than a byte can number, and the rest of Unicode's planes.
MANY = "".join(chr(0x4E00 + i) for i in range(3_000)) + "\U0001f600é\n"
SPLITS = ("train", "validation", "test")


def create(tmp_path, text, **options):
    file = tmp_path / "my.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return TextFile.create(tmp_path / "data", path=str(file), **options)


def test_a_text_of_thousands_of_characters_is_read_back(tmp_path):
    text = MANY + MANY[::-1]
    dataset = create(tmp_path, text)
    tokens = [dataset.tokens(split) for split in SPLITS]
    assert tokens[0].dtype == np.uint16 and dataset.vocab_size == len(MANY) + 1
    assert "".join(map(dataset.vocabulary.decode, tokens)) == text
    assert (dataset.kind, dataset.note) == ("own", "the text of my.txt")


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    dataset = create(tmp_path, b"\xef\xbb\xbf" + b"ab " * 20)
    assert dataset.vocabulary.characters == "ab " or set(dataset.vocabulary.characters) == set(
        "ab "
    )


def test_a_changed_file_is_prepared_again(tmp_path):
    first, second = create(tmp_path, "ab" * 30), create(tmp_path, "abc" * 30)
    assert first.data_dir != second.data_dir
    assert (first.vocab_size, second.vocab_size) == (3, 4)
    assert create(tmp_path, "ab" * 30).data_dir == first.data_dir


def test_the_same_text_elsewhere_is_not_prepared_again(tmp_path):
    first = create(tmp_path, "ab" * 30)
    (tmp_path / "other.txt").write_text("ab" * 30)
    second = TextFile.create(tmp_path / "data", path=str(tmp_path / "other.txt"))
    assert first.data_dir == second.data_dir


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab\xff" * 20, r"my\.txt is not a text in UTF-8: invalid start byte at byte 2; save it"),
        (b"", "train of text_file would have 0 characters; expected at least 2"),
        (b"x" * 39, "validation of text_file would have 1 characters"),
        (bytes(600), "zero bytes in a row from byte 0;"),
        (
            "".join(map(chr, [*range(0x100, 0xD800), *range(0xE000, 0x13000)])).encode(),
            "different characters; expected at most 65535",
        ),
    ],
)
def test_a_file_that_is_no_text_raises(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        create(tmp_path, content)
    assert not list((tmp_path / "data").rglob("*.array_record"))


def test_a_missing_path_raises(tmp_path):
    with pytest.raises(UserError, match=r"path is ''; expected .*--config\.data\.path=my\.txt"):
        TextFile.create(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*none\.txt: No such file"):
        TextFile.create(tmp_path, path=str(tmp_path / "none.txt"))


def test_a_model_of_ones_own_text_trains_and_writes_it(tmp_path, capsys):
    (tmp_path / "my.txt").write_text("山高月小，水落石出。" * 40)
    overrides = [
        f"--config.data.path={tmp_path / 'my.txt'}", "--config.data.source=released",
        "--config.train.epochs=1", "--config.train.unroll=5",
    ]  # fmt: skip
    config = load_config("configs/charlm_lru.py:file,smoke", overrides)
    work = tmp_path / "work"
    record = train_and_evaluate(config, work, data_dir=tmp_path / "data")
    assert record["data"] == "own" and record["remark"] == "the text of my.txt"
    assert "山" in json.loads((work / "dataset.json").read_text())["tokens"]
    (tmp_path / "my.txt").unlink()  # what the model reads stands in the work directory
    capsys.readouterr()
    generate.main(["--workdir", str(work), "--prompt", "山高", "--length", "20", "--seed", "0"])
    written = capsys.readouterr().out.strip()
    assert written.startswith("山高") and set(written) <= set("山高月小，水落石出。")
