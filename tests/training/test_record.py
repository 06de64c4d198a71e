"""Laws of a run's record."""

import json
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.training import record


def test_lru_commit_names_the_commit_of_a_copied_tree(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "__file__", str(tmp_path / "lru" / "training" / "record.py"))
    monkeypatch.setenv("LRU_COMMIT", "0123abc")
    assert record.environment()["commit"] == "0123abc"
    monkeypatch.delenv("LRU_COMMIT")
    assert record.environment()["commit"] is None


def experiment(**task):
    return SimpleNamespace(
        dataset=SimpleNamespace(kind="full", note=""),
        task=SimpleNamespace(steps_per_epoch=None, **task),
        origin=None,
        groups=[SimpleNamespace(arrays=2, parameters=30), SimpleNamespace(arrays=1, parameters=4)],
        settings=SimpleNamespace(steps=50, test_curve=True),
    )


ROWS = [
    {"step": 10, "split": "train", "loss": 9.0},
    {"step": 20, "split": "validation", "loss": 3.0, "accuracy": 0.5},
    {"step": 20, "split": "test", "loss": 4.0},
    {"step": 40, "split": "validation", "loss": 1.0, "accuracy": 0.7},
    {"step": 40, "split": "test", "loss": 2.0},
]
TIMING = [
    {"seconds": 10.0 * (i + 1), "steps_per_second": speed, "input_wait_seconds": i + 1.0}
    for i, speed in enumerate((None, 2.0, 90.0, 3.0))
]


def test_a_record_has_parameters_total_seconds_and_median_speed():
    best, test = ROWS[3], ROWS[4]
    config = ConfigDict({"seed": 7})
    found = record.make_record(config, experiment(), ROWS, 40, best, test, TIMING)
    want = {
        "seed": 7, "data": "full", "parameters": 34, "steps": 40, "steps_planned": 50,
        "seconds": 40.0, "steps_per_second": 3.0, "input_wait_share": 0.1,
        "validation": {"step": 40, "loss": 1.0, "accuracy": 0.7}, "test": {"step": 40, "loss": 2.0},
        "validation_curve": [(20, 3.0, 0.5), (40, 1.0, 0.7)],
        "curves": {"validation": [(20, 3.0), (40, 1.0)], "test": [(20, 4.0), (40, 2.0)]},
    }  # fmt: skip
    assert {name: found[name] for name in want} == want
    assert not {"remark", "steps_per_epoch"} & found.keys()


def test_a_record_of_numbers_has_their_rmse_in_its_curve():
    row = {"step": 20, "split": "validation", "loss": 3.0, "rmse": 0.5, "r2": 0.9}
    found = record.make_record(ConfigDict({"seed": 7}), experiment(), [row], 20, row, row, TIMING)
    assert found["validation_curve"] == [(20, 3.0, 0.5)] and found["test"]["r2"] == 0.9


def test_a_record_without_a_score_is_damaged(tmp_path):
    content = {"config": {}, "steps": 2, "steps_planned": 2}
    for row in ({"step": 2, "loss": 1.0}, {"step": 2, "loss": 1.0, "rmse": "low"}):
        (tmp_path / "record.json").write_text(json.dumps(content | {"test": row}))
        with pytest.raises(UserError, match="record.json is damaged"):
            record.read_record(tmp_path / "record.json")
    content["test"] = {"step": 2, "loss": 1.0, "rmse": 3.0}
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert record.read_record(tmp_path / "record.json")["test"]["rmse"] == 3.0


def test_a_score_is_in_per_cent_or_bits():
    assert record.format_score({"accuracy": 0.4321, "loss": 1.0}) == "accuracy 43.21 %"
    row = {
        "accuracy": 0.4,
        "loss": 1.0,
        "bits_per_character": 1.4427,
        "split": "test",
        "step": 1200,
    }
    want = "test 1.443 bits per character  loss 1.000000  (checkpoint of step 1,200)"
    assert record.format_result(row) == want
