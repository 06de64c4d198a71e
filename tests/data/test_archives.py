"""Damaged archives raise and leave no files; undamaged ones are unpacked unchanged."""

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import tarfile
import zipfile

import pytest

from lru.data import archives
from lru.data.archives import unpack
from lru.errors import UserError

RNG = random.Random(0)
TEXT = "".join(RNG.choices(["one ", "two ", "three ", "four\n"], k=3000)).encode()
FILES = {"sub/a.tsv": TEXT, "sub/b.tsv": TEXT[::-1], "sub/c.tsv": b"c"}


def packed(mode, files=FILES):
    buffer = io.BytesIO()
    if mode == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(tmp_path, content, name="archive", single=None):
    (tmp_path / name).write_bytes(content)
    directory = tmp_path / "out"
    shutil.rmtree(directory, ignore_errors=True)
    unpack(tmp_path / name, directory, lambda path: path in FILES, single)
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


MODES = ["w", "w:gz", "w:bz2", "w:xz", "zip"]


@pytest.mark.parametrize("mode", MODES)
def test_every_format_is_unpacked_whatever_its_name(tmp_path, mode):
    more = FILES | {"other/d.tsv": b"d"}
    assert unpacked(tmp_path, packed(mode, more)) == FILES


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_flipped_bit_never_gives_wrong_files(tmp_path, mode):
    whole = packed(mode)
    for _ in range(40):
        damaged = bytearray(whole)
        bit = RNG.randrange(8 * len(whole))
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = unpacked(tmp_path, bytes(damaged))
        except UserError as error:
            assert "archive is damaged (" in str(error)
            assert not (tmp_path / "out").exists()
        else:  # in a zip, a bit of a date changes nothing, and a bit of a name loses a file
            assert mode == "zip" and found.items() <= FILES.items()


@pytest.mark.parametrize("mode", MODES)
def test_a_truncated_archive_raises(tmp_path, mode):
    whole = packed(mode)
    end = (
        len(whole.rstrip(b"\0")) if mode == "w" else len(whole)
    )  # the end of a tar file is all zeros
    for _ in range(20):
        with pytest.raises(UserError, match="archive is damaged"):
            unpacked(tmp_path, whole[: RNG.randrange(end)])
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "after",
    [b"garbage", b"\x1f\x8b", gzip.compress(b"more", mtime=0)[:-1]],
    ids=["text", "magic", "member"],
)
def test_trailing_bytes_after_a_gzip_archive_raise(tmp_path, after):
    with pytest.raises(UserError, match="archive is damaged"):
        unpacked(tmp_path, packed("w:gz") + after)
    assert not (tmp_path / "out").exists()
    assert unpacked(tmp_path, packed("w:gz") + bytes(512)) == FILES  # padding, as on tapes


def test_a_damaged_header_of_a_plain_archive_raises(tmp_path):
    content = bytearray(packed("w"))
    second = content.index(b"sub/b.tsv")
    content[second] ^= 1
    with pytest.raises(UserError, match="damaged .bad checksum at byte"):
        unpacked(tmp_path, bytes(content))


def test_a_plain_archive_logs_that_it_has_no_checksum(tmp_path, caplog):
    with caplog.at_level("INFO", logger="lru.data.archives"):
        unpacked(tmp_path, packed("w"))
    assert "is not compressed, so it has no checksum to verify" in caplog.text


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_is_decompressed_or_raises(tmp_path, compress):
    content = compress(TEXT)
    assert unpacked(tmp_path, content, single="a.tsv") == {"a.tsv": TEXT}
    for damaged in (content[:-1], content[:40], content[: len(content) // 2] + b"x" * 9):
        with pytest.raises(UserError, match="archive is damaged"):
            unpacked(tmp_path, damaged, single="a.tsv")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("magic", "name"), [(b"7z\xbc\xaf", "7z"), (b"Rar!", "rar")])
def test_an_unsupported_format_raises(tmp_path, magic, name):
    with pytest.raises(UserError, match=f"is a {name} archive, which is not supported: unpack it"):
        unpacked(tmp_path, magic + bytes(99))


def test_a_full_disk_is_not_reported_as_a_damaged_archive(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_extract_tar", full)
    with pytest.raises(OSError, match="No space left"):
        unpacked(tmp_path, packed("w:gz"))
    assert not (tmp_path / "out").exists()


def test_members_are_not_kept_in_memory(tmp_path, monkeypatch):
    kept = []
    following = tarfile.TarFile.next

    def watched(archive):
        kept.append(len(archive.members))
        return following(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    unpacked(tmp_path, packed("w:gz", {f"{os.urandom(4).hex()}": b"" for _ in range(50)}))
    assert max(kept) <= 1
