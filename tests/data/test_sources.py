"""Prepared data are prepared again if their source changed, and used if it is gone."""

import json
import os
import shutil

import pytest

from lru.data.corpora import TextStream
from lru.data.released import Release
from lru.data.sources import SourceFile, Sources, unchanged
from lru.errors import UserError

LOGGER = "lru.data.builder"
SPLITS = ("train", "validation", "test")


class Little(TextStream):
    name = "little"
    size = 10_000
    prefix = True
    release = Release("http://127.0.0.1:9/little.txt", ("little.txt",), ("little",))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "little.txt").write_text("abcd" * 100)
    return tmp_path / "manual" / "little.txt"


@pytest.fixture
def create(tmp_path, source, caplog):
    """Creates the data set; returns its text and the log."""

    def create(manual=source.parent):
        caplog.clear()
        with caplog.at_level("INFO", logger=LOGGER):
            dataset = Little.create(tmp_path / "data", manual)
        return "".join(dataset.as_text(dataset.tokens("train"))), caplog.text

    return create


AGAIN = "differs from the source that little was prepared from: preparing little in"


@pytest.mark.parametrize("text", ["dcba" * 100, "abcd" * 200, "abcd" * 2_500])
def test_a_changed_source_is_read_again(create, source, text):
    create()
    source.write_text(text)
    found, log = create()
    assert found == text[: len(found)] and len(found) == len(text) * 9 // 10
    assert f"{source} {AGAIN}" in log
    assert "prepar" not in create()[1]


def test_a_change_with_equal_size_and_time_is_detected(create, source):
    create()
    stat = source.stat()
    source.write_text("abdc" * 100)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert create()[0].startswith("abdc")


def test_another_directory_with_other_content_is_read(create, tmp_path):
    create()
    (tmp_path / "other" / "little").mkdir(parents=True)
    (tmp_path / "other" / "little" / "little.txt").write_text("dcba" * 100)
    found, log = create(tmp_path / "other")
    assert found.startswith("dcba") and AGAIN in log


def test_equal_content_at_another_path_or_time_is_not_prepared_again(create, source, tmp_path):
    create()
    shutil.copytree(source.parent, tmp_path / "copy")
    assert create(tmp_path / "copy")[1] == ""
    noted = Sources.read(next((tmp_path / "data").rglob("sources.json")).parent)
    assert noted.manual_dir == str(tmp_path / "copy")
    assert noted.files[0].path == str(tmp_path / "copy" / "little.txt")
    os.utime(tmp_path / "copy" / "little.txt")
    assert create(tmp_path / "copy")[1] == ""


def test_without_manual_dir_the_source_is_compared_at_its_recorded_path(create, source):
    create()
    source.write_text("dcba" * 100)
    found, log = create(None)
    assert found.startswith("dcba") and log.count(AGAIN) == 1


@pytest.mark.parametrize("manual", [True, False])
def test_prepared_data_are_used_if_the_source_is_gone(create, source, manual):
    create()
    source.unlink()
    found, log = create(source.parent if manual else None)
    assert (found, log) == ("abcd" * 90, "")


@pytest.mark.parametrize("note", [None, "", "5", "[5]", "{}", "[" * 100_000])
def test_data_without_a_record_are_prepared_again_if_the_source_exists(
    create, source, tmp_path, note
):
    create()
    file = next((tmp_path / "data").rglob("sources.json"))
    file.unlink() if note is None else file.write_text(note)
    assert create(None) == ("abcd" * 90, "")
    log = create()[1]
    assert (
        "prepared by an older version, which did not record its source: preparing little in " in log
    )
    assert create()[1] == ""


def test_a_damaged_new_source_raises_and_keeps_the_prepared_data(create, source, tmp_path):
    create()
    before = sorted(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    source.write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="is not utf-8"):
        create()
    after = sorted(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert after == before
    source.unlink()
    assert create()[0] == "abcd" * 90


def test_a_source_that_changes_while_it_is_read_raises(create, source, monkeypatch):
    released = Little.released

    def late(self):
        parts = released(self)
        source.write_text("dcba" * 100)
        return parts

    monkeypatch.setattr(Little, "released", late)
    with pytest.raises(
        UserError, match=r"little\.txt changed while it was read: run the command again"
    ):
        create()
    monkeypatch.undo()
    assert create()[0].startswith("dcba")


def test_the_source_is_recorded_with_its_digest(create, source, tmp_path):
    log = create()[1]
    assert f"reading {source}" in log
    noted = json.loads(next((tmp_path / "data").rglob("sources.json")).read_text())
    (row,) = noted["files"]
    assert (row["path"], row["size"], len(row["sha256"])) == (str(source), 400, 64)


def test_any_change_in_a_directory_is_detected_except_in_junk(tmp_path):
    folder, kept = tmp_path / "folder", tmp_path / "kept"
    (folder / "below").mkdir(parents=True)
    kept.mkdir()
    (folder / "below" / "a").write_text("a")
    Sources(None, [SourceFile.of(folder)]).write(kept)
    for name in (".DS_Store", "below/._a", "Thumbs.db"):
        (folder / name).write_text("junk")
        assert unchanged(kept, None, [folder])
    for change in ("a", "b"):
        (folder / "below" / change).write_text("c")
        assert not unchanged(kept, None, [folder])
        Sources(None, [SourceFile.of(folder)]).write(kept)
    (folder / "below" / "a").rename(folder / "below" / "d")
    assert not unchanged(kept, None, [folder])


def test_a_record_that_cannot_be_updated_does_not_raise(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    Sources(None, [SourceFile.of(tmp_path / "a")]).write(tmp_path)
    os.utime(tmp_path / "a", ns=(0, 0))

    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert unchanged(tmp_path, None, [tmp_path / "a"])
