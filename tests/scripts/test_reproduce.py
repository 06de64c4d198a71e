"""Rows of the tables are run and resumed, and their records saved."""

import json
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from paper.lra import RINGS
from report import rows
from report.lra import ring_of

from lru.command_line import run

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "reproduce.py"))
LANGUAGE = ["--table=charlm", "--size=smoke", "--data=ptb", "--seeds=1"]
ROWS = ["--table=lra", "--task=listops", "--size=smoke", "--seeds=2"]


@pytest.fixture
def paths(tmp_path):
    return [
        f"--workdirs={tmp_path / 'runs'}",
        f"--results={tmp_path / 'results'}",
        f"--data_dir={tmp_path / 'data'}",
    ]


def test_finished_runs_have_records_and_are_not_run_again(paths, tmp_path, capsys):
    assert run(SCRIPT["main"], [*ROWS, *paths, "--jobs=2"]) == 0
    records = sorted((tmp_path / "results").iterdir())
    assert [file.name for file in records] == [
        "listops-lru-smoke-seed0.json", "listops-lru-smoke-seed1.json",
    ]  # fmt: skip
    found = [json.loads(file.read_text()) for file in records]
    assert [record["seed"] for record in found] == [0, 1]
    assert found[0]["test"] != found[1]["test"]
    assert "2 runs, 0 of them already finished" in capsys.readouterr().out
    before = [file.stat().st_mtime_ns for file in records]
    assert run(SCRIPT["main"], [*ROWS, *paths]) == 0
    assert "2 runs, 2 of them already finished" in capsys.readouterr().out
    assert [file.stat().st_mtime_ns for file in records] == before
    found[0]["config"]["model"]["d_model"] = 9  # as if the config had changed since
    records[0].write_text(json.dumps(found[0]))
    row = rows.lra("listops", "lru", "smoke")
    done = [SCRIPT["_finished"](records[i], row._replace(seed=i)) for i in (0, 1)]
    assert done == [False, True]


def test_a_diverged_run_has_a_record_and_is_not_run_again(paths, tmp_path, capsys):
    arguments = [*ROWS, *paths, "--seeds=1", "--config.optimizer.learning_rate=1e30"]
    assert run(SCRIPT["main"], arguments) == 0
    assert "diverged at step 2, " in capsys.readouterr().out
    (file,) = (tmp_path / "results").iterdir()
    assert json.loads(file.read_text())["diverged_at"] == 2
    assert run(SCRIPT["main"], arguments) == 0
    assert "1 runs, 1 of them already finished" in capsys.readouterr().out


def test_records_of_language_models_have_bits_per_character(paths, tmp_path, capsys):
    arguments = [*LANGUAGE, *paths, "--model=gru", "--percent=50", "--config.train.epochs=1"]
    assert run(SCRIPT["main"], arguments) == 0
    name = "ptb-gru-smoke-l2-percent=50-epochs=1-seed0"
    found = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    bits = found["test"]["bits_per_character"]
    assert f"{name}: test {bits:.3f} bits per character, " in capsys.readouterr().out
    assert found["config"]["data"]["percent"] == 50 and found["config"]["train"]["epochs"] == 1


def parse(*arguments):
    known, found = SCRIPT["_parse"](arguments)
    return known, [row.name for row in found]


def test_seed_is_the_outermost_axis_and_model_the_innermost():
    axes = ["--data=ptb,text8", "--percent=20,40", "--model=gru,lru", "--seeds=2"]
    _, names = parse("--table=charlm", *axes)
    assert names == [
        f"{data}-{model}-10m-l2-percent={percent}-seed{seed}"
        for seed in (0, 1)
        for data in ("ptb", "text8")
        for percent in (20, 40)
        for model in ("gru", "lru")
    ]


def test_names_have_the_options_that_differ_from_the_config():
    _, names = parse("--table=charlm", "--data=ptb", "--model=lru", "--seeds=1", "--percent=80,100",
                     "--depth=4", "--config.data.split=fraction")  # fmt: skip
    assert names == [
        "ptb-lru-10m-l4-percent=80-split=fraction-seed0", "ptb-lru-10m-l4-split=fraction-seed0",
    ]  # fmt: skip
    _, names = parse("--table=lra", "--task=text", "--seeds=1", "--config.model.dropout=0.002")
    assert names == ["text-lru-paper-dropout=0.002-seed0"]
    _, names = parse("--table=lra", "--task=text", "--ablation=lru,s5", "--seeds=1")
    assert names == ["text-lru-paper-seed0", "text-s5-paper-seed0"]


def test_each_table_has_its_own_directories():
    for table in ("lra", "charlm"):
        known, _ = parse(f"--table={table}", "--seeds=0")
        assert known.workdirs == Path("runs", table) and known.results == ROOT / "results" / table


def test_every_model_text_and_ablation_has_a_config():
    for model in rows.MODELS:
        config = rows.charlm("ptb", model, "smoke")._replace(seed=3).load()
        assert config["seed"] == 3 and config["data"]["source"] == "made_up"
    texts = {rows.charlm(data, "gru", "smoke").load()["data"]["type"] for data in rows.DATA}
    assert len(texts) == 4
    assert (
        len(
            {
                str(rows.lra("text", ablation, "smoke").load()["model"])
                for ablation in rows.ABLATIONS
            }
        )
        == 10
    )


def test_rows_with_equal_configs_are_run_once(capsys):
    ablations = ("stable_exp", "ring", "lru")
    chosen = [rows.lra(task, ablation) for task in ("listops", "text") for ablation in ablations]
    assert [row.name for row in SCRIPT["_distinct"](chosen)] == [
        "listops-stable_exp-paper-seed0", "listops-lru-paper-seed0",
        "text-stable_exp-paper-seed0", "text-ring-paper-seed0", "text-lru-paper-seed0",
    ]  # fmt: skip
    message = "listops-ring-paper-seed0 has the config of listops-stable_exp-paper-seed0\n"
    assert capsys.readouterr().out == message


def test_rings_are_the_rows_of_table_5():
    chosen = {"task": ["cifar"], "ablation": ["exp", "stable_exp", "lru"], "ring": rows.RINGS}
    found = list(rows.TABLES["lra"].rows(chosen, "paper", 1, []))
    rings = [ring_of({"config": row.load(), "data": "full"}) for row in found]
    assert set(rings) == set(RINGS) and len(rings) == len(RINGS) == 27
    assert rows.lra("cifar", ring="0.9/0.999") == rows.lra("cifar")  # the config's ring


def test_all_selects_every_choice():
    _, names = parse("--table=charlm", "--data=ptb", "--model=all", "--seeds=1", "--depth=2")
    assert len(names) == 8


def test_spent_budget_stops_a_run_which_is_then_resumed(paths, tmp_path, monkeypatch, capsys):
    arguments = ["--table=lra", "--task=listops", "--size=smoke", "--seeds=1", *paths]
    arguments += ["--config.train.steps=100000", "--config.train.eval_every=100000"]
    rows_before = 0

    def has_stepped():
        files = (tmp_path / "runs").glob("*/metrics.jsonl")
        return sum(len(file.read_text().splitlines()) for file in files) > rows_before

    # A fake clock spends the budget with the first new row, however long the first step takes.
    clock = SimpleNamespace(monotonic=lambda: 100.0 * has_stepped(), sleep=time.sleep)
    monkeypatch.setitem(SCRIPT["main"].__globals__, "time", clock)
    steps = []
    for _ in range(2):
        assert run(SCRIPT["main"], [*arguments, "--budget-seconds=50"]) == 0
        (file,) = (tmp_path / "results").iterdir()
        record = json.loads(file.read_text())
        assert record["steps"] < record["steps_planned"] == 100_000 and "test" not in record
        assert f"step {record['steps']:,} of 100,000" in capsys.readouterr().out
        steps.append(record["steps"])
        (metrics,) = (tmp_path / "runs").glob("*/metrics.jsonl")
        rows_before = len(metrics.read_text().splitlines())
    assert 0 < steps[0] < steps[1]
    monkeypatch.undo()
    assert run(SCRIPT["main"], [*ROWS, *paths, "--budget-seconds=0"]) == 0
    assert "stopped before its first step" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task=lisptops"], "there is no 'lisptops'; expected some of listops, text"),
        (["--ablation=gamma"], "there is no 'gamma'; expected some of relu"),
        (["--config.model.d_modle=3"], "did you mean 'd_model'?"),
        (["--size=tiny"], "invalid choice: 'tiny'"),
        (["--ring=0.1/0.2"], "there is no '0.1/0.2'; expected some of 0.0/0.9, 0.5/0.9"),
        (["--ablation=tanh", "--ring=0.5/0.9"], "config.model.mixer has no key 'r_min'"),
        (["--jobs=0"], "--jobs is 0; expected at least 1"),
        (["--config.seed=7"], "would set the seed of all rows; give --seeds=NUMBER"),
        (["--model=gru"], "unknown argument --model=gru for --table=lra"),
        (["--table=charlm", "--config.data.split=x"], "unknown argument --task=listops"),
        (["--table=recall", "--length=512"], "no '512'; expected some of 256, 1024, 4096, all"),
    ],
)
def test_mistakes_raise_before_any_run(arguments, words, paths, tmp_path, capsys):
    assert run(SCRIPT["main"], [*ROWS, *paths, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
