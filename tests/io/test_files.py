import errno
import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lru.errors import UserError
from lru.io import files
from lru.io.files import lock, open_to_append, wait_for_lock, write_atomically


def test_a_failed_write_leaves_the_file_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_atomically(file, "before")

    def full(*args):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            write_atomically(file, b"after")
    assert file.read_text() == "before" and os.listdir(tmp_path) == ["file"]
    write_atomically(file, b"after")
    assert file.read_text() == "after" and os.listdir(tmp_path) == ["file"]


def test_a_lock_is_exclusive_and_released(tmp_path):
    with lock(tmp_path / "lock") as ours, lock(tmp_path / "lock") as again:
        assert ours and not again
    with lock(tmp_path / "lock") as later, lock(tmp_path / "other") as other:
        assert later and other


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    code = "import sys; from lru.io.files import lock; from pathlib import Path\n"
    code += "with lock(Path(sys.argv[1])) as ours: print(ours, flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "lock"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"True\n"
        with lock(tmp_path / "lock") as ours:
            assert not ours
        process.kill()
        process.wait()
        with lock(tmp_path / "lock") as ours:
            assert ours


def test_a_lock_on_a_removed_file_is_not_acquired(tmp_path, monkeypatch):
    """The next process creates a new file, and may hold the lock on that one."""
    flock = fcntl.flock

    def late(file, operation):
        (tmp_path / "lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock(tmp_path / "lock") as ours:
        assert not ours


def test_an_unwritable_directory_raises_its_name(tmp_path):
    (tmp_path / "file").touch()
    message = f"cannot write {tmp_path}/file/lock: .*; choose another directory"
    with pytest.raises(UserError, match=message), lock(tmp_path / "file" / "lock"):
        pass


def test_a_file_system_without_locks_raises(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"cannot lock {tmp_path}/lock: Function not implemented"
    with pytest.raises(UserError, match=message), lock(tmp_path / "lock"):
        pass


@pytest.fixture(params=["symlink_to", "hardlink_to"])
def mine(request, tmp_path):
    """Returns `mine(name)`, which makes that name a link to a file that must not change."""
    target = tmp_path / "mine"
    target.write_text("precious")
    yield lambda name: getattr(tmp_path / name, request.param)(target)
    assert target.read_text() == "precious"


def test_a_link_at_the_partial_file_is_replaced_and_its_target_unchanged(mine, tmp_path):
    mine("file.part")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink() and not (tmp_path / "file.part").exists()


def test_a_link_at_the_file_is_replaced_and_its_target_unchanged(mine, tmp_path):
    mine("file")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new" and not (tmp_path / "file").is_symlink()


def test_a_link_at_the_lock_raises_and_its_target_is_unchanged(mine, tmp_path):
    mine("lock")
    message = f"{tmp_path}/lock is (a symbolic link|not an empty file), so it is not a lock"
    with pytest.raises(UserError, match=message), lock(tmp_path / "lock"):
        pass


def test_a_dangling_link_at_the_lock_raises_and_creates_no_file(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a symbolic link"), lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_lock_replaced_by_a_link_meanwhile_raises(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(files, "_check_lock_file", lambda file: None)
    with pytest.raises(UserError, match="cannot lock .*symbolic link"), lock(tmp_path / "lock"):
        pass


def test_a_file_or_directory_at_the_lock_raises_and_is_unchanged(tmp_path):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("notes", "folder"):
        message = f"{tmp_path}/{name} is not an empty file, so it is not a lock"
        with pytest.raises(UserError, match=message), lock(tmp_path / name):
            pass
    assert (tmp_path / "notes").read_text() == "mine"


def test_append_continues_a_file_and_follows_no_link(tmp_path):
    for _ in range(2):
        with open_to_append(tmp_path / "file") as file:
            file.write(b"ab")
    assert (tmp_path / "file").read_bytes() == b"abab"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_to_append(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"abab"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_waiting_ends_when_the_lock_is_released_and_removes_its_file(tmp_path):
    notified, file = [], tmp_path / "lock"
    with ThreadPoolExecutor() as threads:
        with lock(file) as ours:
            assert ours

            def wait():
                with wait_for_lock(file, lambda: notified.append(1)):
                    return file.exists()

            waiting = threads.submit(wait)
            while not notified:
                time.sleep(0.01)
            assert not waiting.done()
        assert waiting.result() and notified == [1]
    assert not file.exists()


def test_the_module_needs_no_fcntl(tmp_path):
    """Windows has none; there `filelock` uses another type of lock."""
    code = "import sys; sys.modules['fcntl'] = None\n"
    code += "from lru.io.files import lock; from pathlib import Path; file = Path(sys.argv[1])\n"
    code += "with lock(file) as ours, lock(file) as again: assert (ours, again) == (True, False)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore", "-c", code, tmp_path / "lock"]
    subprocess.run(command, env=environment, check=True)
