import errno
import fcntl
import os
import subprocess
import sys

import pytest

from lru.errors import UserError
from lru.files import lock, write_whole


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_whole(file, "before")

    def full(*args):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            write_whole(file, b"after")
    assert file.read_text() == "before"
    write_whole(file, b"after")
    assert file.read_text() == "after" and os.listdir(tmp_path) == ["file"]


def test_a_lock_is_for_one_at_a_time_and_given_back(tmp_path):
    with lock(tmp_path / "lock") as ours, lock(tmp_path / "lock") as again:
        assert ours and not again
    with lock(tmp_path / "lock") as later, lock(tmp_path / "other") as other:
        assert later and other


def test_a_killed_process_gives_its_lock_back(tmp_path):
    code = "import sys; from lru.files import lock; from pathlib import Path\n"
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


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Whoever comes next makes the file anew, and may hold the lock of that one."""
    flock = fcntl.flock

    def late(file, operation):
        (tmp_path / "lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock(tmp_path / "lock") as ours:
        assert not ours


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    message = f"cannot write {tmp_path}/file/lock: .*; choose another directory"
    with pytest.raises(UserError, match=message), lock(tmp_path / "file" / "lock"):
        pass


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"cannot lock {tmp_path}/lock: Function not implemented"
    with pytest.raises(UserError, match=message), lock(tmp_path / "lock"):
        pass
