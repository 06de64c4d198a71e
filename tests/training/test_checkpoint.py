"""Laws of checkpoints: which are kept, and what a damaged one does."""

import errno
import os
import random
import shutil
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.digests import SUMS, Damaged
from lru.training.handler import SealedHandler
from lru.training.history import FILE, latest_history

SHARDING = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def state(step):
    values = jax.random.normal(jax.random.key(step), 1000)
    return {"a": values, "step": jnp.int32(step), "empty": {}}


TARGET = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=SHARDING), state(0)
)


def opened(directory, **options):
    return Checkpoints(directory / "checkpoints", **options)


def filled(directory, best):
    """Returns checkpoints saved at these steps, each with the best step so far."""
    checkpoints = opened(directory)
    for step, best_step in best.items():
        checkpoints.save(step, state(step), best_step)
        checkpoints.wait()
    return checkpoints


def damage(directory, step, how):
    checkpoint = directory / "checkpoints" / str(step)
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    if how == "truncated":
        largest = max(files, key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
    elif how == "empty":
        for path in files:
            os.truncate(path, 0)
    else:
        shutil.rmtree(checkpoint / "state")


HOW = ["truncated", "empty", "removed"]


def test_the_latest_two_checkpoints_and_the_best_are_kept(tmp_path):
    checkpoints = filled(tmp_path, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2})
    assert checkpoints.steps() == [2, 4, 5]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]


def test_a_restored_state_equals_the_saved_one_bit_by_bit(tmp_path):
    filled(tmp_path, {3: None}).close()
    jax.tree.map(np.testing.assert_array_equal, opened(tmp_path).restore_latest(TARGET), state(3))


def test_without_checkpoints_nothing_is_restored(tmp_path):
    assert opened(tmp_path).restore_latest(TARGET) is None
    assert opened(tmp_path).steps() == []


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_and_is_logged(how, tmp_path):
    filled(tmp_path, {1: 1, 2: 1, 3: 1}).close()
    damage(tmp_path, 3, how)
    logged = []
    checkpoints = opened(tmp_path, log=logged.append)
    assert checkpoints.restore_latest(TARGET)["step"] == 2
    assert len(logged) == 1 and "checkpoints/3 cannot be read" in logged[0]
    assert logged[0].endswith("resuming from step 2")
    assert (tmp_path / "damaged" / "3").is_dir()
    assert checkpoints.steps() == [1, 2]
    checkpoints.save(3, state(3), 1)
    checkpoints.wait()
    assert opened(tmp_path).restore_latest(TARGET)["step"] == 3


def test_several_damaged_checkpoints_are_skipped(tmp_path):
    filled(tmp_path, {1: 1, 2: 1, 3: 1}).close()
    damage(tmp_path, 3, "removed")
    damage(tmp_path, 2, "truncated")
    assert opened(tmp_path).restore_latest(TARGET)["step"] == 1


@pytest.mark.parametrize("how", HOW)
def test_damage_of_all_checkpoints_raises_and_moves_nothing(how, tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    damage(tmp_path, 1, how)
    damage(tmp_path, 2, how)
    with pytest.raises(
        UserError, match="checkpoints/2 cannot be read .*, and no earlier checkpoint can be read"
    ):
        opened(tmp_path).restore_latest(TARGET)
    assert not (tmp_path / "damaged").exists()


# Reads of TensorStore that are under way when one fails may end after Orbax closes its loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_target_of_another_shape_raises_and_moves_nothing(tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    other = TARGET | {"a": jax.ShapeDtypeStruct((7,), jnp.float32, sharding=SHARDING)}
    with pytest.raises(UserError, match="and no earlier checkpoint can be read"):
        opened(tmp_path).restore_latest(other)
    assert opened(tmp_path).steps() == [1, 2]


def test_an_unwritable_directory_raises(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        opened(tmp_path)


def test_a_state_of_another_version_raises(tmp_path):
    filled(tmp_path, {1: 1}).close()
    newer = TARGET | {"carry": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=SHARDING)}
    with pytest.raises(UserError, match="made by another version, or for another model"):
        opened(tmp_path).restore_latest(newer)


def files_of(directory, step):
    return sorted(p for p in (directory / "checkpoints" / str(step) / "state").rglob("*")
                  if p.is_file() and p.name != "commit_success.txt")  # fmt: skip


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_a_flipped_bit_in_any_file_raises(tmp_path):
    filled(tmp_path, {1: 1}).close()
    checkpoints, draw = opened(tmp_path), random.Random(0)
    for file in 2 * files_of(tmp_path, 1):
        bit = draw.randrange(8 * file.stat().st_size)
        flip(file, bit)
        with pytest.raises(UserError, match="checkpoints/1 cannot be read .*(since|missing)"):
            checkpoints.restore(1, TARGET)
        flip(file, bit)
    jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(1, TARGET), state(1))


def test_a_flipped_bit_in_an_array_falls_back_to_the_previous_checkpoint(tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    flip(max(files_of(tmp_path, 2), key=lambda file: file.stat().st_size), 9999)
    logged = []
    assert opened(tmp_path, log=logged.append).restore_latest(TARGET)["step"] == 1
    assert len(logged) == 1 and "has changed since it was saved" in logged[0]
    assert (tmp_path / "damaged" / "2").is_dir()


@pytest.mark.parametrize("names", [[SUMS], [FILE], [SUMS, FILE], []])
def test_missing_digests_and_added_files_make_a_checkpoint_damaged(names, tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    for name in names:
        (tmp_path / "checkpoints/2/state" / name).unlink()
    if not names:
        (tmp_path / "checkpoints/2/state/d/added").write_text("")
    assert opened(tmp_path).restore_latest(TARGET)["step"] == 1


def save_as_older_versions_did(directory, steps):
    options = dict(item_names=("state",), item_handlers={"state": ocp.StandardCheckpointHandler()})
    with ocp.CheckpointManager(directory.absolute() / "checkpoints", **options) as manager:
        for step in steps:
            args = ocp.args.Composite(state=ocp.args.StandardSave(state(step)))
            manager.save(step, args=args)


def test_checkpoints_of_older_versions_are_restored_silently(tmp_path):
    save_as_older_versions_did(tmp_path, [1, 2])
    logged = []
    checkpoints = opened(tmp_path, log=logged.append)
    assert checkpoints.restore_latest(TARGET)["step"] == 2
    assert not logged and checkpoints.history(2) is None
    assert latest_history(tmp_path / "checkpoints") is None


HISTORY = {"config": {"a": 1}, "metrics": [{"step": 1}], "timing": [], "spectra": {"0": "1f"}}


def test_the_newest_readable_history_equals_the_saved_one(tmp_path):
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step), None, HISTORY | {"timing": [step]})
    checkpoints.close()
    assert checkpoints.history(2) == HISTORY | {"timing": [2]}
    logged, file = [], tmp_path / "checkpoints/2/state" / FILE
    assert latest_history(tmp_path / "checkpoints", logged.append) == (2, HISTORY | {"timing": [2]})
    for bit in random.Random(0).sample(range(8 * file.stat().st_size), 50):
        flip(file, bit)
        with pytest.raises(Damaged):
            checkpoints.history(2)
        flip(file, bit)
    file.unlink()
    assert latest_history(tmp_path / "checkpoints", logged.append) == (1, HISTORY | {"timing": [1]})
    assert len(logged) == 1 and "checkpoints/2 cannot be read" in logged[0]


def test_a_history_is_fixed_when_saving_starts(tmp_path, monkeypatch):
    """A run appends to its rows while Orbax still writes the checkpoint in the background."""
    rows, finalize, appended = [1], SealedHandler.finalize, threading.Event()

    def late(self, directory):
        assert appended.wait(60)
        finalize(self, directory)

    monkeypatch.setattr(SealedHandler, "finalize", late)
    checkpoints = opened(tmp_path)
    checkpoints.save(1, state(1), None, HISTORY | {"timing": rows})
    rows.append(2)
    appended.set()
    checkpoints.close()
    assert checkpoints.history(1) == HISTORY | {"timing": [1]}


def test_a_damaged_checkpoint_causes_no_python_warnings(tmp_path, capsys):
    save_as_older_versions_did(tmp_path, [1, 2])  # digests would reject the checkpoint unopened
    damage(tmp_path, 2, "truncated")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert opened(tmp_path).restore_latest(TARGET)["step"] == 1
    assert not [w for w in warned if "coroutine" in str(w.message)]
    assert capsys.readouterr().err == ""


def test_a_full_disk_raises_at_the_next_call_and_close_does_not_raise_again(tmp_path, monkeypatch):
    def full(self, directory):
        raise OSError(errno.ENOSPC, "No space left on device")

    for last in ("wait", "close"):
        checkpoints = filled(tmp_path / last, {1: 1})
        with monkeypatch.context() as patch:
            patch.setattr(SealedHandler, "finalize", full)
            checkpoints.save(2, state(2), 1)
            with pytest.raises(UserError, match="cannot be written .*No space left on device"):
                getattr(checkpoints, last)()
        checkpoints.close()
        assert opened(tmp_path / last).restore_latest(TARGET)["step"] == 1
