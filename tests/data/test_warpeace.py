import pytest

from lru.data.warpeace import WarAndPeace
from lru.errors import UserError

SPLITS = ("train", "validation", "test")


def test_another_edition_raises(tmp_path):
    (tmp_path / "warpeace_input.txt").write_bytes(b"x" * 3_196_211)
    with pytest.raises(UserError, match="has 3,196,211 bytes; expected 3,258,246: download https"):
        WarAndPeace.create(tmp_path / "data", tmp_path)


def test_all_of_war_and_peace_is_read_with_byte_order_mark_and_line_ends(shared_data, tmp_path):
    directory = shared_data("warpeace")
    dataset = WarAndPeace.create(tmp_path, directory)
    text = (directory / "warpeace_input.txt").read_bytes().decode("utf-8")
    assert text[0] == "\ufeff" and text.count("\r\n") == 62_014
    tokens = [dataset.tokens(split) for split in SPLITS]
    assert [len(part) for part in tokens] == [2_932_405, 162_911, 162_911]
    assert "".join(map(dataset.vocabulary.decode, tokens)) == text
    assert (dataset.vocab_size, dataset.kind, dataset.note) == (84 + 1, "full", "")
