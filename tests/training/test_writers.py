"""Laws of the writers: JSON lines, TensorBoard, progress."""

import io
import json
import sys
import types

import pytest

from lru.errors import UserError
from lru.training.config import load_config
from lru.training.loop import train_and_evaluate
from lru.training.writers import JsonLines, Progress, TensorBoard, WeightsAndBiases


def test_a_line_cut_short_is_ignored(tmp_path):
    file = JsonLines(tmp_path / "m.jsonl")
    file.write({"step": 1})
    with (tmp_path / "m.jsonl").open("a") as raw:
        raw.write('{"step": 2, "lo')
    assert file.read() == [{"step": 1}]
    file.rewrite(file.read())
    file.write({"step": 2})
    assert file.read() == [{"step": 1}, {"step": 2}]


def test_rewrite_removes_all_other_lines(tmp_path):
    file = JsonLines(tmp_path / "m.jsonl")
    for step in range(5):
        file.write({"step": step})
    file.rewrite([row for row in file.read() if row["step"] <= 2])
    assert file.read() == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_damaged_line_raises_its_number(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\nabc\n{"step": 2}\n')
    with pytest.raises(UserError, match="m.jsonl, line 2 is damaged"):
        JsonLines(tmp_path / "m.jsonl").read()


def test_nan_raises_and_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        JsonLines(tmp_path / "m.jsonl").write({"loss": float("nan")})
    assert JsonLines(tmp_path / "m.jsonl").read() == []


def test_a_missing_file_has_no_lines(tmp_path):
    assert JsonLines(tmp_path / "m.jsonl").read() == []


def test_rewinding_drops_the_lines_of_later_steps(tmp_path):
    file = JsonLines(tmp_path / "m.jsonl")
    for step in (1, 2, 3):
        file.write({"step": step})
    again = JsonLines(tmp_path / "m.jsonl")
    again.rewind(2)
    assert again.rows == again.read() == [{"step": 1}, {"step": 2}]


def test_tensorboard_writes_event_files(tmp_path):
    writer = TensorBoard(tmp_path / "tensorboard")
    writer.rewind(2)
    writer.write({"step": 3, "split": "train", "loss": 0.5})
    writer.close()
    assert any((tmp_path / "tensorboard").iterdir())


def test_missing_tensorboardx_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        TensorBoard(tmp_path)


class FakeWandb(types.ModuleType):
    """Records the calls that a run makes of the module `wandb`."""

    class Error(Exception):
        pass

    def __init__(self, fails=False):
        super().__init__("wandb")
        self.started, self.logged, self.finished, self.fails = [], [], 0, fails

    def init(self, **options):
        if self.fails:
            raise self.Error("no login")
        self.started.append(options)
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, row):
        self.logged.append(row)

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    return sys.modules["wandb"]


def test_weights_and_biases_logs_every_number_by_step(wandb, tmp_path):
    writer = WeightsAndBiases(tmp_path, {"seed": 3})
    writer.rewind(0)
    writer.write({"step": 3, "split": "train", "loss": 0.5, "accuracy": 0.25})
    writer.close()
    assert wandb.logged == [{"step": 3, "train/loss": 0.5, "train/accuracy": 0.25}]
    (started,) = wandb.started
    assert (started["project"], started["config"]) == ("lru", {"seed": 3})
    assert started["name"] == tmp_path.name and wandb.finished == 1


def test_a_resumed_run_keeps_its_identifier_and_another_run_has_its_own(wandb, tmp_path):
    for name in ("one", "one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        WeightsAndBiases(tmp_path / name, {}).rewind(0)
    first, again, other = (started["id"] for started in wandb.started)
    assert first == again != other
    assert all(started["resume"] == "allow" for started in wandb.started)


def test_a_run_of_weights_and_biases_that_cannot_start_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails=True))
    with pytest.raises(UserError, match="no login; set WANDB_MODE=offline"):
        WeightsAndBiases(tmp_path, {}).rewind(0)


def test_missing_wandb_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        WeightsAndBiases(tmp_path, {})


def test_training_logs_to_weights_and_biases_if_asked_and_may_go_on_without(wandb, tmp_path):
    def train(*overrides):
        config = load_config("listops:smoke", [f"--config.train.{each}" for each in overrides])
        return train_and_evaluate(config, tmp_path / "run", data_dir=tmp_path / "data")

    train("steps=2", "eval_every=2", "log_every=1", "wandb=True")
    rows = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in wandb.logged] == [row["step"] for row in rows]
    assert wandb.logged[-1]["test/loss"] == rows[-1]["loss"]
    assert wandb.started[0]["config"]["train"]["wandb"] is True and wandb.finished == 1
    assert train("steps=2", "eval_every=2", "log_every=1")["steps"] == 2  # already finished
    assert len(wandb.started) == 1


def test_plain_lines_are_printed_without_a_terminal(capsys):
    progress = Progress(steps=1000, start=0, items=("examples", 8))
    progress.advance(1)
    progress.show(100, {"loss": 1.5, "accuracy": 0.25}, 10.0)
    progress.show(200, {"loss": 1.5, "accuracy": 0.25}, None)
    progress.show(300, {"loss": 1.5, "accuracy": 0.25}, 10.0, 0.009)
    progress.show(400, {"loss": 1.5, "accuracy": 0.25}, 10.0, 0.25)
    progress.close()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "step 100/1,000  loss 1.5000  accuracy 25.0 %  80 examples/s  ETA 01:30",
        "step 200/1,000  loss 1.5000  accuracy 25.0 %  ETA ?",
        "step 300/1,000  loss 1.5000  accuracy 25.0 %  80 examples/s  ETA 01:10",
        "step 400/1,000  loss 1.5000  accuracy 25.0 %  80 examples/s  25 % waiting for input"
        "  ETA 01:00",
    ]
    assert not err


def test_rmse_is_printed_in_place_of_accuracy(capsys):
    progress = Progress(steps=1000, start=0, items=("examples", 8))
    progress.show(100, {"loss": 0.5, "rmse": 12.3456, "r2": 0.9}, 10.0)
    progress.close()
    want = "step 100/1,000  loss 0.5000  RMSE 12.35  80 examples/s  ETA 01:30"
    assert capsys.readouterr().out.splitlines() == [want]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_live_line_is_shown_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    progress = Progress(steps=10, start=0, items=("examples", 8))
    for step in range(1, 11):
        progress.advance(1)
        progress.show(step, {"loss": 1.5, "accuracy": 0.25}, 10.0)
    progress.close()
    text = sys.stdout.getvalue()
    assert text.count("\n") == 1
    for words in ("10/10", "loss 1.5000", "accuracy 25.0 %", "80 examples/s", "ETA 00:00"):
        assert words in text.split("\r")[-1]


@pytest.mark.parametrize(
    ("items", "speed", "waited", "words"),
    [
        (("examples", 32), 1234.5, 0.02, "39,504 examples/s"),
        (("characters", 5_000), 1234.5, 0.02, "6.17M characters/s"),
        (("characters", 5_000), 24.6, 0.02, "123k characters/s"),
        (("characters", 5_000), 24.6, 0.5, "50 % waiting"),
    ],
)
def test_the_live_line_fits_80_columns(items, speed, waited, words, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    progress = Progress(steps=500_000, start=0, items=items)
    progress.advance(100_000)
    progress._bar.start_t -= 40_000  # so that many hours are left
    progress.show(100_000, {"loss": 12.3456, "accuracy": 0.999}, speed, waited)
    progress.close()
    line = sys.stdout.getvalue().split("\r")[-1]
    assert words in line and "ETA 44:2" in line and len(line.rstrip()) < 80
