import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lru.data.pathfinder import shards as pathfinder_shards
from lru.data.pathfinder.images import draw
from lru.data.pathfinder.rules import Rules
from lru.data.pathfinder.shards import Shards
from lru.errors import UserError

OPTIONS = (32, "easy", 3, 10)
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(pathfinder_shards, "_SHARD_SIZE", 4)


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_images_do_not_depend_on_the_number_of_processes(tmp_path):
    one, three = (Shards(tmp_path / name, *OPTIONS) for name in ("one", "three"))
    one.draw(processes=1)
    three.draw(processes=3)
    assert [name[:19] for name in files(one.directory)] == [
        "000000000-000000004", "000000004-000000008", "000000008-000000010",
    ]  # fmt: skip
    assert files(one.directory) == files(three.directory)
    indices, images, labels = zip(*one)
    assert [index for shard in indices for index in shard] == list(range(10))
    expected, expected_labels = draw(3, range(10), Rules.of(32, "easy"))
    np.testing.assert_array_equal(np.concatenate(images), expected)
    np.testing.assert_array_equal(np.concatenate(labels), expected_labels)


def test_only_missing_or_damaged_shards_are_drawn_again(tmp_path):
    shards = Shards(tmp_path, *OPTIONS)
    shards.draw()
    whole = files(tmp_path)
    first, second, third = sorted(tmp_path.iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-30])
    before = third.stat().st_mtime_ns
    shards.draw()
    assert files(tmp_path) == whole
    assert third.stat().st_mtime_ns == before
    content = second.read_bytes()  # damages the middle of a compressed stream
    second.write_bytes(content[:200] + bytes(200) + content[400:])
    shards.draw()
    assert files(tmp_path) == whole


def test_a_failing_process_raises_with_its_reason(tmp_path):
    with pytest.raises(
        UserError, match="images 0 to 3 cannot be drawn: ValueError: resolution=32 and difficulty"
    ):
        Shards(tmp_path, 32, "esay", 3, 10).draw(processes=1)


def test_drawing_needs_neither_jax_nor_tensorflow():
    code = "import sys, lru.data.pathfinder.shards; print({'jax', 'tensorflow'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True)
    assert (result.stdout, result.stderr) == (b"set()\n", b"")


def test_a_process_exits_when_its_parent_is_gone(tmp_path):
    arguments = [tmp_path / "shard.npz", "128", "hard", "0", "0", "100000"]
    command = [sys.executable, "-m", "lru.data.pathfinder.shards", *arguments]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(timeout=30) == 1
    assert not list(tmp_path.iterdir())


DRAW = """
import sys
from pathlib import Path
from lru.command_line import run
from lru.data.pathfinder import shards as pathfinder_shards

pathfinder_shards._SHARD_SIZE = 4
shards = pathfinder_shards.Shards(Path(sys.argv[1]), 32, "easy", 3, 400)
sys.exit(run(lambda argv: shards.draw(processes=2)))
"""


def drawing(directory):
    """Returns the ids of the processes that draw into a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode().split("\0")
        except OSError:  # the process has ended
            continue
        if any(argument.startswith(f"{directory}{os.sep}") for argument in arguments):
            found.append(int(path.parent.name))
    return found


def wait_until(happened, seconds=30):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("number", "code", "stderr"),
    [
        (signal.SIGINT, 130, b"error: stopped by SIGINT\n"),
        (signal.SIGTERM, 143, b"error: stopped by SIGTERM\n"),
        (signal.SIGKILL, -signal.SIGKILL, b""),
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_an_interruption_ends_all_processes_and_leaves_complete_shards(
    tmp_path, number, code, stderr
):
    command = [sys.executable, "-c", DRAW, tmp_path]
    parent = subprocess.Popen(
        command, env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: len(list(tmp_path.glob("*.npz"))) >= 2 and drawing(tmp_path))
    if number == signal.SIGINT:  # a terminal signals all of its processes
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    _, errors = parent.communicate()
    assert (parent.returncode, errors) == (code, stderr)
    wait_until(lambda: not drawing(tmp_path), seconds=5)
    done = sorted(tmp_path.glob("*.npz"))
    assert 2 <= len(done) < 100
    for path in done[:2]:
        first, stop = map(int, path.stem.split("-"))
        images, _ = draw(3, range(first, stop), Rules.of(32, "easy"))
        with np.load(path) as arrays:
            np.testing.assert_array_equal(arrays["images"], images)
