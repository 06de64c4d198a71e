"""Digests of a directory: any change of any file raises."""

import shutil
import subprocess

import pytest

from lru.training.digests import SUMS, Damaged, check_digests, write_digests


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"some bytes")
    (tmp_path / "d" / "deep" / "b").write_bytes(b"\0\xff")
    (tmp_path / "empty").write_bytes(b"")
    write_digests(tmp_path)
    return tmp_path


def test_unchanged_files_pass(directory):
    check_digests(directory)


@pytest.mark.parametrize("name", ["a", "d/deep/b", SUMS])
def test_a_flipped_bit_in_any_byte_raises(name, directory):
    file = directory / name
    content = file.read_bytes()
    for number in range(len(content)):
        flipped = bytearray(content)
        flipped[number] ^= 1 << number % 8
        file.write_bytes(flipped)
        with pytest.raises(Damaged):
            check_digests(directory)


def test_missing_truncated_and_added_files_raise(directory, tmp_path_factory):
    def damaged(change, words):
        copy = shutil.copytree(directory, tmp_path_factory.mktemp("copy") / "d")
        change(copy)
        with pytest.raises(Damaged, match=words):
            check_digests(copy)

    damaged(lambda copy: (copy / "empty").unlink(), "empty is missing")
    damaged(lambda copy: (copy / "a").write_bytes(b"some"), "a has changed since it was saved")
    damaged(lambda copy: (copy / "a").rename(copy / "c"), "a is missing")
    damaged(lambda copy: (copy / "d" / "new").write_text(""), "d/new was added later")
    damaged(lambda copy: (copy / SUMS).unlink(), f"{SUMS} is missing")
    damaged(lambda copy: (copy / SUMS).write_text(""), "was added later")


def test_hidden_files_that_a_file_manager_adds_pass(directory):
    (directory / ".DS_Store").write_text("x")
    (directory / "d" / "._a").write_text("x")
    check_digests(directory)


def test_sha256sum_reads_them(directory):
    command = ["sha256sum", "--check", "--strict", SUMS]
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    except FileNotFoundError:  # not on every system
        assert len((directory / SUMS).read_text().splitlines()) == 3
