"""A run continues on the data that it started with, or raises."""

import json
from types import SimpleNamespace

import pytest

from lru.data.enwik8 import Enwik8
from lru.errors import UserError
from lru.training.data_digests import check_data

DIGESTS = {"train": "a", "validation": "b", "test": "c"}


def dataset(**changed):
    return SimpleNamespace(name="some", digests=DIGESTS | changed)


def test_the_same_data_pass_and_other_data_raise(tmp_path):
    check_data(dataset(), tmp_path, write=True)
    check_data(dataset(), tmp_path, write=True)
    with pytest.raises(UserError, match="trained on other data: .* of some .*: validation, test\n"):
        check_data(dataset(validation="x", test="y"), tmp_path)
    assert json.loads((tmp_path / "data.json").read_text())["digests"] == DIGESTS


def test_an_evaluation_writes_nothing(tmp_path):
    check_data(dataset(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_without_digests_are_not_compared(tmp_path):
    check_data(dataset(), tmp_path, write=True)
    check_data(SimpleNamespace(name="some", digests={}), tmp_path, write=True)


@pytest.mark.parametrize("content", ["", "5", "{}", "null", '{"digests": 5}', "[" * 100_000])
def test_a_damaged_file_raises(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json is damaged; delete it if"):
        check_data(dataset(), tmp_path)


def test_an_edited_text_raises(tmp_path):
    source, work = tmp_path / "enwik8", tmp_path / "work"
    work.mkdir()
    source.write_bytes(b"<page> one" * 20)
    check_data(Enwik8.create(tmp_path / "data", tmp_path), work, write=True)
    check_data(Enwik8.create(tmp_path / "again", tmp_path), work)
    source.write_bytes(b"<page> two" * 20)
    with pytest.raises(UserError, match="was trained on other data"):
        check_data(Enwik8.create(tmp_path / "data", tmp_path), work)
