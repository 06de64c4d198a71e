import zipfile

import numpy as np

from lru.data.enwik8 import Enwik8

SPLITS = ("train", "validation", "test")
EVERY_BYTE_BUT_ONE = bytes(range(255))


def test_every_byte_is_a_token(tmp_path):
    content = EVERY_BYTE_BUT_ONE * 20 + "é".encode() * 300
    (tmp_path / "enwik8").write_bytes(content)
    dataset = Enwik8.create(tmp_path / "data", tmp_path)
    tokens = np.concatenate([dataset.tokens(split) for split in SPLITS])
    assert dataset.vocabulary.decode(tokens).encode("latin-1") == content
    assert dataset.vocab_size == 256  # 255 known bytes, and one token for any other


def test_a_folder_with_the_name_of_the_file_is_not_read_as_the_file(tmp_path):
    (tmp_path / "enwik8").mkdir()
    (tmp_path / "enwik8" / "enwik8").write_bytes(b"<page>" * 10)
    dataset = Enwik8.create(tmp_path / "data", tmp_path)
    assert dataset.vocabulary.decode(dataset.tokens("test")) == "ge>"


def test_an_archive_of_the_released_size_is_read(tmp_path, monkeypatch):
    release = Enwik8.release
    assert (release.url, release.size) == ("http://mattmahoney.net/dc/enwik8.zip", 36_445_475)
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
        archive.writestr("enwik8", b"<page>" * 10)
    size = (tmp_path / "enwik8.zip").stat().st_size
    monkeypatch.setattr(Enwik8, "release", release.__class__(**vars(release) | {"size": size}))
    dataset = Enwik8.create(tmp_path / "data", tmp_path)
    assert dataset.note == "the first 60 of the 100,000,000 bytes of enwik8"


def test_the_first_four_million_bytes_are_a_prefix(shared_data, tmp_path):
    directory = shared_data("enwik8")
    dataset = Enwik8.create(tmp_path, directory)
    assert dataset.kind == "prefix"
    assert dataset.note == "the first 4,000,000 of the 100,000,000 bytes of enwik8"
    content = np.frombuffer((directory / "enwik8").read_bytes(), np.uint8)
    for split, part in zip(
        SPLITS, (slice(3_600_000), slice(3_600_000, 3_800_000), slice(-200_000, None))
    ):
        counts = np.bincount(content[:3_600_000], minlength=256)
        names = np.zeros(256, np.uint8)
        order = sorted(np.flatnonzero(counts), key=lambda byte: (-counts[byte], byte))
        names[order] = np.arange(1, len(order) + 1)
        assert np.array_equal(dataset.tokens(split), names[content[part]])
