"""Laws of the settings of speed, which the platform chooses and which change no run's identity."""

import json

import pytest

from lru.ops import platform
from lru.training.config import load_config
from lru.training.loop import train_and_evaluate
from lru.training.speed import BY_PLATFORM, format_change, speed_settings

SMOKE = "configs/lra_listops.py:smoke"


@pytest.fixture
def gpu(monkeypatch):
    """Makes the platform a GPU with ample memory whose kernel compiles."""
    caches = platform.kernel_compiles, platform.has_ample_memory
    for choice in caches:
        choice.cache_clear()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("jax.device_count", lambda: 1)
    yield
    for choice in caches:
        choice.cache_clear()


def of_platform(name):
    settings = speed_settings(load_config(name))
    return tuple(
        settings[key] for key in ("model.mixer.method", "model.remat", "train.matmul_precision")
    )


def test_a_cpu_computes_the_scan_rematerialised_and_exactly():
    assert of_platform("configs/lra_text.py") == ("sequential", True, "float32")


@pytest.mark.usefixtures("gpu")
def test_a_large_gpu_computes_the_kernel_with_saved_values_and_tensorfloat32():
    assert of_platform("configs/lra_text.py") == ("pallas", False, "tensorfloat32")


@pytest.mark.usefixtures("gpu")
def test_what_a_config_chooses_wins_over_the_platform():
    chosen = [
        "--config.model.mixer.method=associative",
        "--config.model.remat=True",
        "--config.model.chunk_size=7",
        "--config.train.matmul_precision=bfloat16",
    ]
    assert speed_settings(load_config(SMOKE, chosen)) == {
        "model.mixer.method": "associative",
        "model.remat": True,
        "model.chunk_size": 7,
        "train.matmul_precision": "bfloat16",
    }


def test_several_gpus_share_the_kernel(gpu, monkeypatch):
    monkeypatch.setattr("jax.device_count", lambda: 2)
    assert of_platform("configs/lra_text.py")[0] == "pallas"


def test_a_change_is_formatted_only_from_known_settings():
    now = {"train.matmul_precision": "float32"}
    assert format_change({}, now) == format_change(now, now) == ""
    assert "is 'float32' now, and was None before" in format_change({"model.remat": True}, now)


def test_a_run_continued_with_other_settings_logs_and_records_both(tmp_path, capsys):
    stop = ["--config.optimizer.end_learning_rate=4e-3", "--config.optimizer.warmup_fraction=0.0"]
    short = load_config(SMOKE, [*stop, "--config.train.steps=4"])
    first = train_and_evaluate(short, tmp_path / "run", data_dir=tmp_path)
    capsys.readouterr()
    other = ["--config.model.remat=True", "--config.train.matmul_precision=bfloat16"]
    longer = load_config(SMOKE, [*stop, *other, "--config.train.steps=8"])
    record = train_and_evaluate(longer, tmp_path / "run", data_dir=tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "config.model.remat is True now, and was False before" in out
    assert "config.train.matmul_precision is 'bfloat16' now, and was 'float32' before" in out
    (_, before), (_, after) = record["speed_settings"]
    assert [[step, now] for step, now in first["speed_settings"]] == [[2, before]]
    assert before == speed_settings(short) and after == speed_settings(longer)
    written = json.loads((tmp_path / "run" / "record.json").read_text())
    assert len(written["speed_settings"]) == 2 and set(before) <= set(BY_PLATFORM)
