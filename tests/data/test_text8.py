import string

import pytest

from lru.data.text8 import Text8
from lru.errors import UserError

SPLITS = ("train", "validation", "test")


def test_the_first_characters_are_a_prefix_of_letters_and_spaces(shared_data, tmp_path):
    directory = shared_data("text8")
    with pytest.raises(UserError, match="^text8 not found: .*\ndownload http://mattmahoney"):
        Text8.create(tmp_path)
    dataset = Text8.create(tmp_path, directory, percent=20, fraction_test="moving")
    text = (directory / "text8").read_text()
    assert (dataset.kind, len(text)) == ("prefix", 12_549_840)
    assert dataset.note.startswith("the first 12,549,840 of the 100,000,000 bytes of text8; tra")
    tokens = [dataset.tokens(split) for split in SPLITS]
    assert [len(part) for part in tokens] == [2_258_972, 125_498, 125_498]
    assert "".join(map(dataset.vocabulary.decode, tokens)) == text[:2_509_968]
    assert sorted(dataset.vocabulary.characters) == sorted(" " + string.ascii_lowercase)


def test_the_size_of_the_archive_is_pinned():
    release = Text8.release
    assert (release.url, release.size) == ("http://mattmahoney.net/dc/text8.zip", 31_344_016)
