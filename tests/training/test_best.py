"""Errors of `restore_best`; the tests of the loop check what it restores."""

import pytest

from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.config import load_config
from lru.training.run_config import save_config


def test_a_run_without_an_evaluated_checkpoint_raises_before_data_are_prepared(tmp_path):
    save_config(load_config("configs/lra_listops.py:smoke"), tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
    with pytest.raises(UserError, match="has no evaluated checkpoint yet"):
        restore_best(tmp_path, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_partly_written_checkpoint_is_ignored(tmp_path):
    save_config(load_config("configs/lra_listops.py:smoke"), tmp_path)
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "split": "validation"}\n')
    with pytest.raises(UserError, match="has no evaluated checkpoint yet"):
        restore_best(tmp_path, data_dir=tmp_path / "data")


def test_a_directory_without_a_run_raises(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        restore_best(tmp_path, data_dir=tmp_path / "data")
