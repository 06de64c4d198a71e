"""Laws of a run: deterministic, resumable at any moment, the same on any number of devices."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.errors import UserError
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import Diverged, evaluate_best, train_and_evaluate

ROOT = Path(__file__).resolve().parents[2]
SMOKE = "configs/lra_listops.py:smoke"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(data_dir):
    """Trains the smoke config, with some keys changed, in a work directory."""

    def train(workdir, *overrides):
        config = load_config(SMOKE, [f"--config.{override}" for override in overrides])
        return train_and_evaluate(config, workdir, data_dir=data_dir)

    return train


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The work directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return workdir


def rows(workdir, split=None):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if split in (None, row["split"])]


def start(workdir, data_dir, *arguments):
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "lru.train", f"--config={SMOKE}", f"--workdir={workdir}"]
    command += [f"--data_dir={data_dir}", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was not printed:\n{''.join(lines)}")


def test_a_run_leaves_its_files_and_a_record(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "config.json", "checkpoints", "metrics.jsonl", "timing.jsonl", "record.json", "lock",
        "curves.png", "spectrum.png",
    }  # fmt: skip
    record = json.loads((whole / "record.json").read_text())
    assert record["config"] == json.loads((whole / "config.json").read_text())
    assert (record["steps"], record["steps_planned"], record["data"]) == (12, 12, "generated")
    assert record["test"] == {k: v for k, v in rows(whole, "test")[0].items() if k != "split"}
    assert record["seconds"] > 0 and record["hardware"]["platform"] == "cpu"


def test_the_metrics_are_of_the_steps_they_say(whole):
    assert [row["step"] for row in rows(whole, "train")] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows(whole, "validation")] == [4, 8, 12]
    schedule = Experiment(load_config(SMOKE), whole.parent / "unused").schedule
    for row in rows(whole, "train"):  # the rate that the last of these steps was made with
        assert row["learning_rate"] == pytest.approx(float(schedule(row["step"] - 1)))


def test_the_model_is_selected_on_validation_alone(whole):
    best = max(rows(whole, "validation"), key=lambda row: (row["accuracy"], -row["loss"]))
    assert [row["step"] for row in rows(whole, "test")] == [best["step"]]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole, run, tmp_path):
    run(tmp_path / "again")
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    run(tmp_path / "other", "seed=1")
    assert rows(tmp_path / "other") != rows(whole)


def test_a_finished_run_can_be_run_again_and_changes_nothing(whole, run, capsys):
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert run(whole)["test"]["step"] == rows(whole, "test")[0]["step"]
    assert capsys.readouterr().out.startswith("finished before; test accuracy")
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_run_killed_at_its_very_end_ends_the_same(whole, run, tmp_path):
    """Whether before the test, or between the test's row and the record."""
    for lines in (-1, None):
        work = shutil.copytree(whole, tmp_path / str(lines))
        text = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
        (work / "metrics.jsonl").write_text("".join(text[:lines]))
        (work / "record.json").unlink()
        run(work)
        assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert (work / "record.json").exists()


def test_a_run_whose_checkpoints_are_gone_is_left_alone(whole, run, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    shutil.rmtree(work / "checkpoints")
    (work / "record.json").unlink()
    with pytest.raises(UserError, match="its checkpoints are gone"):
        run(work)
    assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_two_processes_never_train_in_one_work_directory(run, tmp_path):
    tmp_path.joinpath("lock").touch()
    with (tmp_path / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training in"):
            run(tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_evaluation_gives_exactly_the_logged_numbers(whole, data_dir):
    test = evaluate_best(whole, "test", data_dir=data_dir)
    assert test == rows(whole, "test")[0]
    validation = evaluate_best(whole, "validation", data_dir=data_dir)
    assert validation in rows(whole, "validation")


def test_evaluation_weights_a_ragged_last_batch_by_its_examples(whole, data_dir):
    """21 test examples: batches of 8, 8 and 5 give what batches of 6, 6, 6 and 3 give."""
    config = load_config(SMOKE, ["--config.train.eval_batch_size=6"])
    experiment, eights = Experiment(config, data_dir), Experiment(load_config(SMOKE), data_dir)
    state = experiment.init_state()
    sixes, eights = experiment.evaluate(state, "test"), eights.evaluate(state, "test")
    assert sixes["accuracy"] == eights["accuracy"]
    assert sixes["loss"] == pytest.approx(eights["loss"], rel=1e-6)


def test_after_kill_9_at_any_moment_the_files_are_those_of_an_uninterrupted_run(
    whole, data_dir, run, tmp_path
):
    for moment in ("step 4/12", "validation accuracy", "step 10/12"):
        process = start(tmp_path, data_dir)
        read_until(process, moment)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    got, want = (json.loads((path / "record.json").read_text()) for path in (tmp_path, whole))
    assert (got["test"], got["validation"]) == (want["test"], want["validation"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been(
    number, whole, run, tmp_path, capsys
):
    """The signal comes at a step that is neither logged nor evaluated nor saved otherwise."""
    step = Experiment._train_step
    seen = []

    def signalling(self, state, batch):
        jax.debug.callback(lambda done: seen.append(int(done)), state.step)
        return step(self, state, batch)

    def send():
        while not seen or seen[-1] < 4:
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "_train_step", signalling)
        threading.Thread(target=send).start()
        assert run(tmp_path) is None
    assert "stopped by a signal; saved at step" in capsys.readouterr().out
    assert run(tmp_path)["steps"] == 12
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_sigterm_ends_the_command_with_exit_code_0(data_dir, tmp_path):
    process = start(tmp_path, data_dir, "--config.train.steps=5000")
    read_until(process, "validation accuracy")
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the same command goes on from it" in out.splitlines()[-1]


def test_a_nan_stops_the_run_and_names_the_step_and_the_last_good_checkpoint(run, tmp_path):
    step = Experiment._train_step

    def nan_at_step_5(self, state, batch):
        state = step(self, state, batch)
        finite = state.step != 5
        return state.replace(diverged_at=jnp.where(finite, state.diverged_at, state.step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "_train_step", nan_at_step_5)
        with pytest.raises(Diverged) as error:
            run(tmp_path)
    assert "not finite at step 5" in str(error.value)
    assert str(tmp_path / "checkpoints" / "4") in str(error.value)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "4"}


def test_parameters_that_a_step_makes_infinite_are_never_saved(run, tmp_path):
    """The loss of the step itself is still finite, and so is its gradient."""
    with pytest.raises(Diverged, match="not finite at step 1; .* there is none yet"):
        run(tmp_path, "optimizer.learning_rate=1e30", "train.steps=1")
    assert not rows(tmp_path) and not list((tmp_path / "checkpoints").iterdir())


def test_rematerialisation_saves_memory(data_dir):
    temporaries = []
    for remat in (False, True):
        overrides = [f"--config.model.remat={remat}", "--config.model.num_layers=4"]
        overrides += ["--config.data.pad_to=256"]
        experiment = Experiment(load_config(SMOKE, overrides), data_dir)
        batch = next(experiment.training_batches(0))
        compiled = experiment.train_step.lower(experiment.init_state(), batch).compile()
        temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporaries[1] < 0.6 * temporaries[0]


@pytest.fixture
def damaged_latest(run, tmp_path):
    """A run that a fault of the program stopped after step 10, its checkpoint then truncated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "training_batches", _ten_batches)
        with pytest.raises(AssertionError):
            run(tmp_path)
    files = [path for path in (tmp_path / "checkpoints" / "10").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    return tmp_path


def test_one_and_two_devices_give_the_same_losses(data_dir):
    devices = jax.local_devices()
    assert len(devices) == 2
    losses = []
    for used in (devices[:1], devices):
        experiment = Experiment(load_config(SMOKE), data_dir, devices=used)
        state, batches = experiment.init_state(), experiment.training_batches(0)
        for _ in range(4):
            state = experiment.train_step(state, next(batches))
        losses.append([float(state.metrics.loss), experiment.evaluate(state, "test")["loss"]])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_ends_the_same(
    whole, run, damaged_latest, capsys
):
    run(damaged_latest)
    assert "checkpoints/10 cannot be read" in capsys.readouterr().out
    assert (damaged_latest / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


_training_batches = Experiment.training_batches


def _ten_batches(self, first_step):
    for _, batch in zip(range(10 - first_step), _training_batches(self, first_step)):
        yield batch


def test_tensorboard_is_written_only_when_asked_for(whole, run, tmp_path):
    run(tmp_path, "train.tensorboard=true")
    assert any((tmp_path / "tensorboard").iterdir())
    assert not (whole / "tensorboard").exists()
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps=0", "config.train.steps is 0; expected at least 1"),
        ("train.batch_size=7", "config.train.batch_size is 7; expected a multiple of 2"),
        ("seed=-1", "config.seed is -1"),
        ("model.dropout=1.5", "dropout=1.5; expected at least 0 and less than 1"),
        ("model.mixer.d_state=0", "d_state=0; expected at least 1"),
        ("model.norm=group", "config.model does not work: norm='group'"),
        ("model.mixer.r_min=2.0", "config.model does not work: ring r_min=2.0"),
        ("data.max_depth=0", "max_depth is 0"),
        ("data.pad_to=3", "pad_to=3"),
    ],
)
def test_numbers_that_do_not_work_are_said(override, words, run, tmp_path):
    with pytest.raises(UserError) as error:
        run(tmp_path / "run", override)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
    assert not (tmp_path / "run").exists()
