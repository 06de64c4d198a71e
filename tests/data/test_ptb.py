import hashlib

import pytest

from lru.data import ptb
from lru.data.ptb import PTB
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
TEXTS = (" a <unk> deed \n N bad \n" * 3, " a cab \n", " fed \n in N \n")


@pytest.fixture
def manual(tmp_path, monkeypatch):
    """A directory with three short files, whose checksums are patched as the released ones."""
    folder = tmp_path / "manual" / "simple-examples" / "data"
    folder.mkdir(parents=True)
    for file, text in zip(FILES, TEXTS):
        (folder / file).write_text(text)
        monkeypatch.setitem(ptb._MD5, file, hashlib.md5(text.encode()).hexdigest())
    return tmp_path / "manual"


def texts(dataset):
    return tuple(dataset.vocabulary.decode(dataset.tokens(split)) for split in SPLITS)


def shown(text, trained):
    return "".join(character if character in trained else "?" for character in text)


def test_files_are_the_splits_or_are_joined_and_divided(tmp_path, manual):
    dataset = PTB.create(tmp_path, manual)
    assert texts(dataset) == tuple(shown(text, TEXTS[0]) for text in TEXTS)
    joined = "".join(TEXTS)
    held = len(joined) // 20
    train, rest = joined[: -2 * held], joined[-2 * held :]
    parts = (train, shown(rest[:held], train), shown(rest[held:], train))
    assert texts(PTB.create(tmp_path, manual, split="fraction")) == parts


def test_a_percentage_shortens_the_training_file_only(tmp_path, manual):
    train = TEXTS[0][: len(TEXTS[0]) // 2]
    expected = (train, *(shown(text, train) for text in TEXTS[1:]))
    assert texts(PTB.create(tmp_path, manual, percent=50)) == expected


def test_a_file_that_is_not_the_released_one_raises(tmp_path, manual):
    path = manual / "simple-examples" / "data" / FILES[1]
    path.write_text(TEXTS[1].replace("a", "b"))
    with pytest.raises(UserError, match=f"{path} is not the released file: md5 .*; expected"):
        PTB.create(tmp_path, manual)


def test_the_checksums_are_those_of_mikolovs_files():
    assert ptb._MD5 == {
        "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
        "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
        "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
    }


def test_contradictory_options_raise(tmp_path):
    with pytest.raises(UserError, match="fraction_test is 'moving', but split is 'mikolov'"):
        PTB.create(tmp_path, percent=20, fraction_test="moving")
    with pytest.raises(UserError, match="split is 'fractoin'; did you mean 'fraction'"):
        PTB.create(tmp_path, split="fractoin")


def test_split_has_no_effect_on_synthetic_text(tmp_path):
    first, second = (
        PTB.create(tmp_path, source="made_up", split=split) for split in ("mikolov", "fraction")
    )
    assert first.data_dir == second.data_dir


def test_all_of_the_penn_treebank_is_read(shared_data, tmp_path):
    directory = shared_data("ptb")
    dataset = PTB.create(tmp_path, directory)
    assert [len(dataset.tokens(split)) for split in SPLITS] == [5_101_618, 399_782, 449_945]
    assert dataset.vocab_size == 50 + 1
    contents = [(directory / file).read_text() for file in FILES]
    assert texts(dataset) == tuple(contents)  # no character is unknown
    divided = PTB.create(tmp_path, directory, split="fraction")
    assert [len(divided.tokens(split)) for split in SPLITS] == [5_356_211, 297_567, 297_567]
    assert "".join(texts(divided)) == "".join(contents)
