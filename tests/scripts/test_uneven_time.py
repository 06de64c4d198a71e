"""The records of the comparison on uneven time, and its table in the docs."""

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
import uneven_time

from lru.command_line import run

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "results" / "uneven_time").glob("*.json"))


def test_the_record_has_the_accuracy_of_each_way(tmp_path, monkeypatch):
    monkeypatch.setattr(uneven_time, "SETTINGS", {"batch": 2, "length": 5, "test": 40})
    assert run(uneven_time.main, [f"--out={tmp_path / 'out'}", "--seeds=1", "--steps=2"]) == 0
    (file,) = (tmp_path / "out").iterdir()
    record = json.loads(file.read_text())
    assert file.name == "seed0.json"
    assert record["settings"] == {"seed": 0, "steps": 2, "batch": 2, "length": 5, "test": 40}
    assert list(record["accuracy"]) == list(uneven_time.WAYS)
    assert all(round(40 * a) / 40 == a for a in record["accuracy"].values())
    assert record["hardware"] and record["date"]


def test_the_class_of_a_series_is_its_strongest_frequency():
    values, gaps, labels = uneven_time.sine_mixtures(np.random.default_rng(0), 400)
    assert gaps[:, 0].tolist() == [1.0] * 400 and gaps.mean() == pytest.approx(1, abs=0.03)
    waves = np.exp(-2j * np.pi * uneven_time.FREQUENCIES * np.cumsum(gaps, axis=1)[..., None])
    strongest = abs((values[..., None] * waves).sum(1)).argmax(1)
    assert (strongest == labels).mean() > 0.85


def test_only_one_way_passes_the_gaps_to_the_layers():
    series = uneven_time.sine_mixtures(np.random.default_rng(0), 3)
    calls = [uneven_time.call(way, series) for way in uneven_time.WAYS]
    assert [c["inputs"].shape[-1] for c in calls] == [1, 2, 1]
    assert ["timesteps" in c for c in calls] == [False, False, True]
    np.testing.assert_array_equal(calls[1]["inputs"][..., 1], series.gaps)


def test_the_page_has_the_numbers_of_the_records():
    page = (ROOT / "docs" / "uneven_time.md").read_text()
    found = [json.loads(file.read_text())["accuracy"] for file in RECORDS]
    assert len(found) == 3
    for way, accuracies in ((way, [100 * f[way] for f in found]) for way in uneven_time.WAYS):
        cells = [f"{value:.1f}" for value in (*accuracies, statistics.mean(accuracies))]
        assert re.search(rf"\| .*{way}.* \| " + r" \| ".join(map(re.escape, cells)) + r" \|", page)
