"""Rows of the tables are run, gone on with, and kept."""

import json
import runpy
from pathlib import Path

import pytest

from lru.command_line import run

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "reproduce.py"))
ROWS = ["--table=lra", "--task=listops", "--size=smoke", "--seeds=2"]


@pytest.fixture
def places(tmp_path):
    return [
        f"--workdirs={tmp_path / 'runs'}",
        f"--results={tmp_path / 'results'}",
        f"--data_dir={tmp_path / 'data'}",
    ]


def test_runs_leave_records_and_are_not_run_again(places, tmp_path, capsys):
    assert run(SCRIPT["main"], [*ROWS, *places, "--jobs=2"]) == 0
    records = sorted((tmp_path / "results").iterdir())
    assert [file.name for file in records] == [
        "listops-lru-smoke-seed0.json", "listops-lru-smoke-seed1.json",
    ]  # fmt: skip
    found = [json.loads(file.read_text()) for file in records]
    assert [record["seed"] for record in found] == [0, 1]
    assert found[0]["test"] != found[1]["test"]
    assert "2 runs, 0 of them finished before" in capsys.readouterr().out
    before = [file.stat().st_mtime_ns for file in records]
    assert run(SCRIPT["main"], [*ROWS, *places]) == 0
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    assert [file.stat().st_mtime_ns for file in records] == before
    found[0]["config"]["model"]["d_model"] = 9  # as if the config had been another one then
    records[0].write_text(json.dumps(found[0]))
    done = [
        SCRIPT["_finished"](records[i], SCRIPT["Row"]("listops", "lru", "smoke", i)) for i in (0, 1)
    ]
    assert done == [False, True]


def test_a_spent_budget_stops_a_run_which_then_goes_on(places, tmp_path, capsys):
    long = ["--table=lra", "--task=listops", "--size=smoke", "--seeds=1"]
    long += ["--config.train.steps=100000", "--config.train.log_every=50000"]
    long += ["--config.train.eval_every=50000", "--config.train.checkpoint_every=50000"]
    assert run(SCRIPT["main"], [*long, *places, "--budget-seconds=45"]) == 0
    (file,) = (tmp_path / "results").iterdir()
    record = json.loads(file.read_text())
    assert 0 < record["steps"] < record["steps_planned"] == 100_000
    assert "test" not in record and "step " in capsys.readouterr().out
    assert run(SCRIPT["main"], [*long, *places, "--budget-seconds=45"]) == 0
    assert json.loads(file.read_text())["steps"] > record["steps"]
    assert run(SCRIPT["main"], [*ROWS, *places, "--budget-seconds=0"]) == 0
    assert "stopped before its first step" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task=lisptops"], "there is no 'lisptops'; expected some of listops, text"),
        (["--rung=gamma"], "there is no 'gamma'; expected some of lru"),
        (["--config.model.d_modle=3"], "did you mean 'd_model'?"),
        (["--size=tiny"], "invalid choice: 'tiny'"),
    ],
)
def test_mistakes_are_said_before_anything_is_run(arguments, words, places, tmp_path, capsys):
    assert run(SCRIPT["main"], [*ROWS, *places, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
