"""The record of a reduction holds the sweep and the scores of the halves."""

import importlib
import json

import reduction

from lru.command_line import run

SMOKE = "configs/lra_listops.py:smoke"


def test_the_record_has_the_scores_before_and_after_fine_tuning(tmp_path, monkeypatch):
    def call(module, known, arguments):
        arguments = [f"--data_dir={known.data_dir}", *arguments]
        assert run(importlib.import_module(module).main, arguments) == 0

    monkeypatch.setattr(reduction, "_run", call)  # in this process, which has compiled programs
    monkeypatch.setattr(reduction, "WAYS", {"balanced": ("balanced", "white")})
    data = [f"--data_dir={tmp_path / 'data'}", f"--config={SMOKE}"]
    trained = f"--workdir={tmp_path / 'run'}"
    assert run(importlib.import_module("lru.train").main, [*data, trained]) == 0
    out = tmp_path / "results" / "listops"
    rate = "--config.optimizer.learning_rate=1e-9"
    more = ["--steps=2", "--split=validation", f"--out={out}"]
    reduction.main([*data, trained, *more, rate, "--config.optimizer.end_learning_rate=1e-9"])
    found = json.loads(out.with_suffix(".json").read_text())
    half = found["half"]["balanced"]
    assert half["modes"] == 3 and found["fine_tuning"]["steps"] == 2
    assert abs(half["fine_tuned"] - half["reduced"]) < 0.2  # statistics of the batch norm change
    assert found["split"] == "validation" and "hardware" in found
    assert out.with_suffix(".png").stat().st_size > 10_000
