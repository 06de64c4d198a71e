import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lru.data import dataset_class
from lru.data.builder import SequenceDataset
from lru.data.options import Options
from lru.errors import UserError
from lru.io.files import lock


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingOptions(Options):
    pad_to: int = 8
    num_train: int = 5
    title: str = "x"


class Counting(SequenceDataset):
    """Example i of a split of n is n, n + 1, ..., n + i."""

    name = "counting"
    options_class = CountingOptions
    num_classes = 5
    vocab_size = 20

    @property
    def max_length(self):
        return self.options.pad_to

    def splits(self):
        sizes = {"train": self.options.num_train, "validation": 2, "test": 3}
        return {
            split: [
                {"inputs": np.arange(n, n + i + 1, dtype=np.uint8), "label": i} for i in range(n)
            ]
            for split, n in sizes.items()
        }


def prepared_files(data_dir):
    return sorted(path for path in data_dir.rglob("*") if path.is_file())


def test_an_example_is_its_sequence_padded_its_length_and_its_label(tmp_path):
    source = Counting.create(tmp_path).source("train")
    assert len(source) == 5
    example = source[2]
    assert example["inputs"].tolist() == [5, 6, 7, 0, 0, 0, 0, 0]
    assert (example["length"], example["label"]) == (3, 2)
    assert {key: (value.dtype, value.shape) for key, value in example.items()} == {
        "inputs": (np.int32, (8,)),
        "length": (np.int32, ()),
        "label": (np.int32, ()),
    }


def test_tokens_are_decoded_unchanged_and_there_is_no_note(tmp_path):
    dataset = Counting.create(tmp_path)
    tokens = dataset.source("train")[1]["inputs"]
    assert dataset.decode(tokens) is tokens
    assert (dataset.note, dataset.kind) == ("", "full")


def test_random_bulk_and_ordered_reads_agree(tmp_path):
    source = Counting.create(tmp_path, num_train=9, pad_to=9).source("train")
    expected = [source[i]["inputs"].tolist() for i in range(9)]
    assert [example["inputs"].tolist() for example in source] == expected
    bulk = source.__getitems__([3, 8, 3])
    assert [example["inputs"].tolist() for example in bulk] == [expected[i] for i in (3, 8, 3)]
    assert source[-1]["label"] == 8
    with pytest.raises(IndexError):
        source[9]


def test_a_prepared_data_set_is_reused_unchanged(tmp_path):
    Counting.create(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in prepared_files(tmp_path)}
    Counting.create(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in prepared_files(tmp_path)} == before


def test_configurations_never_share_a_directory(tmp_path):
    options = [{}, {"num_train": 4}, {"pad_to": 9}, {"title": "y"}]
    directories = {Counting.create(tmp_path, **some).data_dir for some in options}
    assert len(directories) == 4
    assert f"{tmp_path}/counting/pad_to=8,num_train=4,title=x/1.0.0" in directories


def test_preparing_needs_neither_network_nor_tensorflow_and_logs_two_lines(
    tmp_path, monkeypatch, caplog, capfd
):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with caplog.at_level("INFO", logger="lru.data.builder"):
        Counting.create(tmp_path)
    assert "tensorflow" not in sys.modules
    assert [record.name for record in caplog.records] == ["lru.data.builder"] * 2
    assert f"preparing counting in {tmp_path}" in caplog.messages[0]
    assert capfd.readouterr() == ("", "")


def test_preparing_on_a_terminal_shows_one_line_a_split(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    Counting.create(tmp_path)
    text = sys.stderr.getvalue()
    assert "\n" not in text and "Generating" not in text
    for split in ("train", "validation", "test"):
        assert f"\r{split}: " in text


def test_a_changed_file_raises_with_its_name_and_the_remedy(tmp_path):
    directory = Path(Counting.create(tmp_path).data_dir)
    (record,) = directory.glob("counting-train.array_record*")
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 1
    record.write_bytes(content)
    with pytest.raises(UserError) as error:
        Counting.create(tmp_path)
    assert str(error.value).startswith(f"{record} is missing or has changed since")
    assert str(error.value).endswith(f"delete the directory {directory}, and run the command again")
    shutil.rmtree(directory)
    assert len(Counting.create(tmp_path).source("train")) == 5


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "checksums.json"])
def test_a_missing_file_raises(tmp_path, name):
    directory = Path(Counting.create(tmp_path).data_dir)
    (directory / name).unlink()
    with pytest.raises(
        UserError,
        match=f"{name} is missing or has changed since the data were prepared: delete the",
    ):
        Counting.create(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}}", "\udcff"])
def test_damaged_checksums_raise(tmp_path, content):
    sums = Path(Counting.create(tmp_path).data_dir) / "checksums.json"
    sums.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"checksums\.json is missing or has changed since"):
        Counting.create(tmp_path)


def test_checksums_cover_every_file(tmp_path):
    directory = Path(Counting.create(tmp_path).data_dir)
    sums = json.loads((directory / "checksums.json").read_text())
    assert {*sums, "checksums.json"} == {path.name for path in prepared_files(directory)}
    assert all(sums[name]["size"] == (directory / name).stat().st_size for name in sums)


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    class Interrupted(Counting):
        name = "counting"

        def splits(self):
            train = super().splits()["train"]

            def interrupt():
                yield from train
                raise KeyboardInterrupt

            return {"train": interrupt()}

    with pytest.raises(KeyboardInterrupt):
        Interrupted.create(tmp_path)
    assert prepared_files(tmp_path) == []
    assert len(Counting.create(tmp_path).source("train")) == 5


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_builder import Counting

class Killed(Counting):
    name = "counting"

    def splits(self):
        def kill():
            yield from super(Killed, self).splits()["train"]
            os.kill(os.getpid(), signal.SIGKILL)
        return {"train": kill()}

Killed.create(sys.argv[2])
"""


def test_leftovers_of_a_killed_preparation_are_never_read_and_the_next_one_removes_them(tmp_path):
    arguments = [sys.executable, "-c", KILLED, Path(__file__).parent, tmp_path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(arguments, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert prepared_files(tmp_path) and not (tmp_path / "counting").exists()
    assert len(Counting.create(tmp_path).source("train")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["counting"]


@pytest.mark.parametrize("lock_file", [True, False])
def test_any_preparation_removes_leftovers_of_killed_ones(tmp_path, caplog, lock_file):
    Counting.create(tmp_path)
    left = tmp_path / "incomplete.0123456789abcdef"
    left.mkdir()
    (left / "large").write_bytes(bytes(99))
    if lock_file:
        Path(f"{left}.lock").touch()
    with caplog.at_level("INFO", logger="lru.data.builder"):
        Counting.create(tmp_path)
    assert caplog.messages == [f"removing {left}, which a killed preparation left behind"]
    assert [path.name for path in tmp_path.iterdir()] == ["counting"]


def test_files_of_a_running_preparation_are_not_removed(tmp_path):
    left = tmp_path / "incomplete.0123456789abcdef"
    left.mkdir()
    with lock(Path(f"{left}.lock")) as ours:
        assert ours
        Counting.create(tmp_path)
        assert left.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "incomplete.link").symlink_to(tmp_path / "mine")
    Counting.create(tmp_path)
    assert not left.exists() and (tmp_path / "mine").exists()


def test_digests_depend_on_the_examples_alone(tmp_path):
    first, second = (Counting.create(tmp_path / name).digests for name in "ab")
    assert first == second and first.keys() == {"train", "validation", "test"}
    other = Counting.create(tmp_path / "a", num_train=4).digests
    assert other["train"] != first["train"] and other["test"] == first["test"]


def test_an_unknown_home_directory_raises(tmp_path):
    with pytest.raises(UserError, match="~nobody-here/data cannot be found"):
        Counting.create("~nobody-here/data")


def test_one_of_concurrent_preparations_prepares_and_the_others_wait(tmp_path, caplog):
    begun = []

    class Slow(Counting):
        name = "counting"

        def splits(self):
            begun.append(self)
            end = time.monotonic() + 60
            while "waiting for another process" not in caplog.text:
                assert time.monotonic() < end, "nobody waits"
                time.sleep(0.01)
            return super().splits()

    with caplog.at_level("INFO", logger="lru.data.builder"), ThreadPoolExecutor() as threads:
        both = list(threads.map(lambda _: Slow.create(tmp_path), range(2)))
    assert len(begun) == 1
    for dataset in both:
        assert dataset.source("test")[0]["inputs"].tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["counting"]


def test_preparations_with_other_options_do_not_wait(tmp_path):
    class Nested(Counting):
        name = "counting"

        def splits(self):
            Counting.create(tmp_path, pad_to=9)
            return super().splits()

    assert Nested.create(tmp_path).max_length == 8
    assert len(list((tmp_path / "counting").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_trian": 5}, "no option 'num_trian'; did you mean 'num_train'"),
        ({"qqqq": 5}, "no option 'qqqq'; there are: pad_to, num_train, title"),
        ({"num_train": "5"}, "num_train is '5'; expected int"),
        ({"num_train": True}, "num_train is True; expected int"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Counting.create(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_raises(tmp_path):
    with pytest.raises(UserError, match="no split 'tran' of counting; did you mean 'train'"):
        Counting.create(tmp_path).source("tran")


def test_an_unwritable_directory_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/file/below.*; choose another"):
        Counting.create(tmp_path / "file" / "below")


def test_a_data_set_is_found_by_name():
    assert dataset_class("listops").name == "listops"
    for unknown in ("listop", "builder", "pipeline"):
        with pytest.raises(UserError, match=f"no data set '{unknown}'.*listops"):
            dataset_class(unknown)
