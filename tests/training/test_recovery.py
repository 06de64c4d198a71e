"""A run's files agree with its checkpoints: lost files are rewritten, or a line is logged."""

import json
import shutil
from pathlib import Path

import pytest

import lru.spectrum
from lru.analysis import pages
from lru.command_line import run
from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.checkpoint import Checkpoints
from lru.training.config import load_config
from lru.training.digests import SUMS
from lru.training.experiment import Experiment
from lru.training.history import FILE
from lru.training.loop import _Run, train_and_evaluate

FILES = ("metrics.jsonl", "timing.jsonl", "config.json")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    overrides = ["--config.train.eval_every=3", "--config.train.checkpoint_every=6"]
    config = load_config("configs/lra_listops.py:smoke", overrides)
    with config.unlocked():
        config.train.select = "loss"
    return config, Experiment(config, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """The work directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    data_dir = next(tmp_path_factory.getbasetemp().glob("data*"))
    train_and_evaluate(experiment[0], workdir, data_dir=data_dir)
    return workdir


@pytest.fixture
def work(whole, tmp_path):
    """A copy of that run, as it was before its test."""
    shutil.copytree(whole, tmp_path / "work")
    (tmp_path / "work" / "record.json").unlink()
    return tmp_path / "work"


@pytest.fixture
def resume(experiment, monkeypatch):
    """Returns a function that resumes a run without training, and returns it closed."""
    monkeypatch.setattr("lru.training.loop.Experiment", lambda *_: experiment[1])
    monkeypatch.setattr(_Run, "log_start", lambda run: None)
    monkeypatch.setattr(_Run, "train", lambda run: None)
    monkeypatch.setattr(_Run, "finish", lambda run: run)
    return lambda work: train_and_evaluate(experiment[0], work, data_dir=Path("unused"))


def as_an_older_version_left_it(work):
    for checkpoint in (work / "checkpoints").iterdir():
        for name in (SUMS, FILE):
            (checkpoint / "state" / name).unlink()
        metadata = (checkpoint / "_CHECKPOINT_METADATA").read_text()
        (checkpoint / "_CHECKPOINT_METADATA").write_text(metadata.replace("lru.training", "ocp"))


def lines_of(file):
    return file.read_text().splitlines(keepends=True)


def lose(file):
    file.unlink()


def cut(file):
    file.write_text("".join(lines_of(file)[:2]))


def drop_a_row(file):
    file.write_text("".join(lines_of(file)[:1] + lines_of(file)[2:]))


def change_a_number(file):
    file.write_text(file.read_text().replace("0.", "1.", 1))


def garble(file):
    file.write_text("5\n" * 9)


def without_test(file):
    return "".join(line for line in lines_of(file) if '"test"' not in line)


@pytest.mark.parametrize("damage", [lose, cut, drop_a_row, change_a_number, garble])
def test_lost_rows_are_rewritten_from_the_checkpoint(damage, work, whole, resume, capsys):
    for name in ("metrics.jsonl", "timing.jsonl"):
        damage(work / name)
    run = resume(work)
    assert (work / "metrics.jsonl").read_text() == without_test(whole / "metrics.jsonl")
    timing = (work / "timing.jsonl").read_text()
    assert timing and (whole / "timing.jsonl").read_text().startswith(timing)
    best = min((row for row in run.files.metrics.rows if row["split"] == "validation"),
               key=lambda row: row["loss"])  # fmt: skip
    assert run.best == best
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" was missing, cut or changed; ")[0] for line in out] == [
        str(work / name) for name in ("metrics.jsonl", "timing.jsonl")
    ]


def test_intact_files_are_not_logged(work, whole, resume, capsys):
    resume(work)
    assert capsys.readouterr().out == ""
    assert (work / "metrics.jsonl").read_text() == without_test(whole / "metrics.jsonl")


@pytest.mark.parametrize("damage", [lose, garble])
def test_a_lost_config_is_rewritten(damage, work, whole, resume, capsys):
    damage(work / "config.json")
    resume(work)
    assert (work / "config.json").read_bytes() == (whole / "config.json").read_bytes()
    assert "config.json was missing or damaged; it was written again from checkpoint 12" in (
        capsys.readouterr().out
    )


def test_another_config_raises_even_if_config_json_is_lost(work, tmp_path):
    (work / "config.json").unlink()
    other = load_config("configs/lra_listops.py:smoke", ["--config.optimizer.b1=0.8"])
    with pytest.raises(UserError, match="config.optimizer.b1 is 0.9 there, 0.8 here"):
        train_and_evaluate(other, work, data_dir=tmp_path)


def test_a_config_that_differs_from_the_checkpoints_raises(work, resume):
    text = (work / "config.json").read_text()
    (work / "config.json").write_text(text.replace('"b1": 0.9', '"b1": 0.8'))
    with pytest.raises(UserError, match="config.json has changed since .*delete config.json"):
        resume(work)


def test_lost_spectra_are_rewritten_or_logged(work, whole, resume, capsys):
    for step in (0, 3, 12):
        (work / f"spectra/{step}.npz").unlink()
    (work / "spectra/6.npz").write_bytes(b"PK")
    resume(work)
    for step in (0, 9, 12):
        name = f"spectra/{step}.npz"
        assert (work / name).read_bytes() == (whole / name).read_bytes()
    (line,) = capsys.readouterr().out.splitlines()
    assert "spectra are missing or damaged, of step 3, 6: restore" in line


def test_an_animation_logs_missing_spectra(work, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(pages, "save_animation", lambda *given: drawn.append(given))
    (work / "spectra/3.npz").unlink()
    arguments = [f"--workdir={work}", f"--animation={tmp_path / 'path.gif'}"]
    assert run(lru.spectrum.main, arguments) == 0
    assert "spectra are missing or damaged, of step 3: restore" in capsys.readouterr().out
    assert drawn[0][0] == [0, 6, 9, 12]


@pytest.mark.parametrize("older", [False, True])
def test_a_finished_run_without_metrics_can_still_be_evaluated(older, whole, experiment, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    (work / "metrics.jsonl").unlink()
    if older:  # the row in the record remains
        as_an_older_version_left_it(work)
    data_dir = next(whole.parent.glob("data*"))
    step = json.loads((whole / "record.json").read_text())["test"]["step"]
    assert restore_best(work, data_dir=data_dir)[2] == step


def test_a_finished_run_with_lost_checkpoints_raises_without_advice_to_train(whole, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    shutil.rmtree(work / "checkpoints")
    with pytest.raises(UserError, match="has ended, but its best checkpoint, of step .*, is gone"):
        restore_best(work, data_dir=tmp_path)


def test_lost_files_of_a_finished_run_are_rewritten(whole, experiment, tmp_path, capsys):
    work = shutil.copytree(whole, tmp_path / "work")
    for name in FILES:
        (work / name).unlink()
    data_dir = next(whole.parent.glob("data*"))
    train_and_evaluate(experiment[0], work, data_dir=data_dir)
    assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (work / "config.json").read_bytes() == (whole / "config.json").read_bytes()
    assert "already finished; " in capsys.readouterr().out


def test_a_run_of_an_older_version_resumes_silently(work, whole, resume, capsys):
    as_an_older_version_left_it(work)
    resume(work)
    assert capsys.readouterr().out == ""
    assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_an_older_run_without_a_checkpoints_row_raises_and_deletes_nothing(work, resume):
    as_an_older_version_left_it(work)
    before = sorted(path.name for path in (work / "checkpoints").iterdir())
    rows = [line for line in lines_of(work / "metrics.jsonl") if '"step": 12' not in line]
    (work / "metrics.jsonl").write_text("".join(rows))
    with pytest.raises(UserError, match="lacks the validation row of step 12, which has"):
        resume(work)
    assert sorted(path.name for path in (work / "checkpoints").iterdir()) == before
    (work / "config.json").unlink()
    with pytest.raises(UserError, match="has checkpoints, but no config.json"):
        resume(work)


@pytest.mark.parametrize("left", ["metrics.jsonl", "spectra", "record.json"])
def test_a_run_with_lost_checkpoints_raises_whichever_file_is_left(left, whole, resume, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    for name in ("config.json", left):
        copy = shutil.copytree if (whole / name).is_dir() else shutil.copy
        copy(whole / name, work / name)
    if left == "record.json":  # as of a stopped run
        record = json.loads((work / left).read_text())
        del record["test"]
        (work / left).write_text(json.dumps(record))
    with pytest.raises(UserError, match="its checkpoints are gone; restore them"):
        resume(work)


def test_a_missing_best_checkpoint_is_logged(work, resume, monkeypatch, capsys):
    read = Checkpoints.history

    def best_at_9(self, step):
        history = read(self, step)
        for row in history["metrics"]:
            row["loss"] -= 9 * (row["step"] == 9)
        return history

    monkeypatch.setattr(Checkpoints, "history", best_at_9)
    shutil.rmtree(work / "checkpoints" / "9")
    assert resume(work).best["step"] == 12
    out = capsys.readouterr().out
    assert "checkpoints/9, the best so far, is missing; that of step 12 replaces it" in out
