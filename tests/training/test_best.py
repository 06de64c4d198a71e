"""Where there is nothing to restore; what is restored is in the tests of the loop."""

import pytest

from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.config import load_config, save_config


def test_without_an_evaluated_checkpoint_no_data_are_prepared_to_say_so(tmp_path):
    save_config(load_config("configs/lra_listops.py:smoke"), tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
    with pytest.raises(UserError, match="has no evaluated checkpoint yet"):
        restore_best(tmp_path, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_checkpoint_that_a_kill_left_half_written_is_none(tmp_path):
    save_config(load_config("configs/lra_listops.py:smoke"), tmp_path)
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "split": "validation"}\n')
    with pytest.raises(UserError, match="has no evaluated checkpoint yet"):
        restore_best(tmp_path, data_dir=tmp_path / "data")


def test_where_there_was_no_run_that_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        restore_best(tmp_path, data_dir=tmp_path / "data")
