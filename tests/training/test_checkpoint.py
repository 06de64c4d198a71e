"""Checkpoints: the latest two and the best, and what happens when one is damaged."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints

TARGET = {"a": jnp.zeros(1000), "step": jnp.int32(0), "empty": {}}


def state(step):
    return {
        "a": jax.random.normal(jax.random.key(step), 1000),
        "step": jnp.int32(step),
        "empty": {},
    }


def filled(directory, accuracies):
    checkpoints = Checkpoints(directory / "checkpoints")
    for step, accuracy in accuracies.items():
        metrics = None if accuracy is None else {"accuracy": accuracy, "loss": 1.0}
        checkpoints.save(step, state(step), metrics)
        checkpoints.wait()
    return checkpoints


def steps(directory):
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir())


def truncate_largest(directory, step):
    files = [path for path in (directory / "checkpoints" / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    checkpoints = filled(tmp_path, {1: 0.2, 2: 0.9, 3: 0.5, 4: 0.4, 5: None})
    assert steps(tmp_path) == [2, 4, 5]
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)


def test_of_equal_accuracies_the_lower_loss_is_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4)):
        checkpoints.save(step, state(step), {"accuracy": 0.5, "loss": loss})
        checkpoints.wait()
    assert checkpoints.best_step() == 2


def test_a_restored_state_is_the_saved_one_bit_by_bit(tmp_path):
    filled(tmp_path, {3: None}).close()
    got = Checkpoints(tmp_path / "checkpoints").restore_latest(TARGET)
    jax.tree.map(np.testing.assert_array_equal, got, state(3))


def test_there_may_be_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.restore_latest(TARGET) is None
    assert checkpoints.best_step() is None


def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path):
    filled(tmp_path, {1: 0.1, 2: 0.2}).close()
    truncate_largest(tmp_path, 2)
    said = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", say=said.append)
    assert checkpoints.restore_latest(TARGET)["step"] == 1
    assert len(said) == 1
    assert "checkpoints/2 cannot be read" in said[0]
    assert said[0].endswith("going on from step 1")
    assert (tmp_path / "damaged" / "2").is_dir()  # nothing is lost
    checkpoints.save(2, state(2), {"accuracy": 0.2, "loss": 1.0})
    checkpoints.wait()
    assert checkpoints.restore_latest(TARGET)["step"] == 2


def test_with_none_left_the_run_begins_again_and_says_so(tmp_path):
    filled(tmp_path, {2: 0.2}).close()
    truncate_largest(tmp_path, 2)
    said = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", say=said.append)
    assert checkpoints.restore_latest(TARGET) is None
    assert said[0].endswith("going on from the beginning")


def test_a_damaged_best_checkpoint_is_named(tmp_path):
    filled(tmp_path, {2: 0.2}).close()
    truncate_largest(tmp_path, 2)
    with pytest.raises(UserError, match="checkpoints/2 cannot be read"):
        Checkpoints(tmp_path / "checkpoints").restore(2, TARGET)
