"""Errors of `restore_best`; the tests of the loop check what it restores."""

import pytest
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.training.best import build_experiment, restore_best
from lru.training.config import load_config
from lru.training.run_config import on_one_device, save_config


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train", None), ("train", 5), ("model", 5), ("model/mixer", 5),
        ("train/time_devices", 0), ("train/time_devices", "2"), ("train/time_devices", -1),
    ],
)  # fmt: skip
def test_a_damaged_config_raises_one_line(path, value, tmp_path):
    """Every section may have any value, for the number of devices is read before it is checked."""
    content = section = load_config("configs/lra_listops.py:smoke").to_dict()
    *folders, name = path.split("/")
    for folder in folders:
        section = section[folder]
    section[name] = value
    config = ConfigDict(content)
    on_one_device(config)
    with pytest.raises(UserError) as error:
        build_experiment(config, tmp_path, tmp_path / "data", None, (), True)
    assert "\n" not in str(error.value)
    del config.train
    with pytest.raises(
        UserError, match="the keys of the config are data, model, optimizer, seed; expected"
    ):
        build_experiment(on_one_device(config), tmp_path, tmp_path / "data", None, (), True)


def test_a_directory_without_a_run_raises(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        restore_best(tmp_path, data_dir=tmp_path / "data")
