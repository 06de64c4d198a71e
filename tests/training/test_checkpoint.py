"""Checkpoints: the latest two and the best, and what happens when one is damaged."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints

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
    """Checkpoints saved with these steps, each naming the best step so far."""
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


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    checkpoints = filled(tmp_path, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2})
    assert checkpoints.steps() == [2, 4, 5]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]


def test_a_restored_state_is_the_saved_one_bit_by_bit(tmp_path):
    filled(tmp_path, {3: None}).close()
    jax.tree.map(np.testing.assert_array_equal, opened(tmp_path).restore_latest(TARGET), state(3))


def test_there_may_be_none(tmp_path):
    assert opened(tmp_path).restore_latest(TARGET) is None
    assert opened(tmp_path).steps() == []


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(how, tmp_path):
    filled(tmp_path, {1: 1, 2: 1, 3: 1}).close()
    damage(tmp_path, 3, how)
    said = []
    checkpoints = opened(tmp_path, say=said.append)
    assert checkpoints.restore_latest(TARGET)["step"] == 2
    assert len(said) == 1 and "checkpoints/3 cannot be read" in said[0]
    assert said[0].endswith("going on from step 2")
    assert (tmp_path / "damaged" / "3").is_dir()  # nothing is lost
    assert checkpoints.steps() == [1, 2]
    checkpoints.save(3, state(3), 1)
    checkpoints.wait()
    assert opened(tmp_path).restore_latest(TARGET)["step"] == 3


def test_several_damaged_checkpoints_fall_back_too(tmp_path):
    filled(tmp_path, {1: 1, 2: 1, 3: 1}).close()
    damage(tmp_path, 3, "removed")
    damage(tmp_path, 2, "truncated")
    assert opened(tmp_path).restore_latest(TARGET)["step"] == 1


@pytest.mark.parametrize("how", HOW)
def test_where_none_can_be_read_nothing_is_moved_and_that_is_said(how, tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    damage(tmp_path, 1, how)
    damage(tmp_path, 2, how)
    with pytest.raises(UserError, match="checkpoints/2 cannot be read .*, nor any before it"):
        opened(tmp_path).restore_latest(TARGET)
    assert not (tmp_path / "damaged").exists()


def test_a_state_of_another_shape_is_no_reason_to_move_anything(tmp_path):
    filled(tmp_path, {1: 1, 2: 1}).close()
    other = TARGET | {"a": jax.ShapeDtypeStruct((7,), jnp.float32, sharding=SHARDING)}
    with pytest.raises(UserError, match="nor any before it"):
        opened(tmp_path).restore_latest(other)
    assert opened(tmp_path).steps() == [1, 2]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        opened(tmp_path)


def test_a_state_of_another_version_is_said_to_be_one(tmp_path):
    filled(tmp_path, {1: 1}).close()
    newer = TARGET | {"carry": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=SHARDING)}
    with pytest.raises(UserError, match="made by another version, or for another model"):
        opened(tmp_path).restore_latest(newer)
