"""Laws of a run: deterministic, resumable at any moment, the same on any number of devices."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from lru.analysis.modes import model_eigenvalues
from lru.data.listops import ListOps
from lru.errors import Stopped, UserError
from lru.io.files import lock
from lru.training.best import evaluate_best, restore_best
from lru.training.checkpoint import Checkpoints
from lru.training.config import load_config
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.experiment import Experiment
from lru.training.loop import Diverged, train_and_evaluate
from lru.training.settings import Settings
from lru.training.step import Call, Steps

ROOT = Path(__file__).resolve().parents[2]
SMOKE = "configs/lra_listops.py:smoke"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(data_dir):
    """Returns a function that trains the smoke config, with overrides, in a work directory."""

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


def spectra(workdir):
    return {file.name: file.read_bytes() for file in (workdir / "spectra").iterdir()}


def start(workdir, data_dir, *arguments):
    """Starts the command line in a new process."""
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


def test_a_run_writes_its_files_and_a_record(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "config.json", "checkpoints", "metrics.jsonl", "timing.jsonl", "record.json", "lock",
        "curves.png", "data.json", "dataset.json", "spectrum.png", "spectra",
    }  # fmt: skip
    record = json.loads((whole / "record.json").read_text())
    assert record["config"] == json.loads((whole / "config.json").read_text())
    assert (record["steps"], record["steps_planned"], record["data"]) == (12, 12, "generated")
    assert record["test"] == {k: v for k, v in rows(whole, "test")[0].items() if k != "split"}
    assert record["seconds"] > 0 and record["hardware"]["platform"] == "cpu"
    assert record["validation_curve"] == [
        [row["step"], row["loss"], row["accuracy"]] for row in rows(whole, "validation")
    ]
    assert "eigenvalues" not in record


def short_run(variant, workdir, data_dir):
    """Trains a few steps and records the eigenvalues."""
    config = load_config(f"{SMOKE}{variant}")
    with config.unlocked():
        config.train.update(steps=4, record_eigenvalues=True)
    return train_and_evaluate(config, workdir, data_dir=data_dir)


def test_a_record_has_the_eigenvalues_before_training_and_of_the_tested_checkpoint(
    data_dir, tmp_path
):
    found = short_run("", tmp_path, data_dir)["eigenvalues"]
    steps, layers = EigenvalueLog(tmp_path / "spectra").trajectories()
    assert [int(step) for step in found] == steps == [0, 4] and len(layers) == 2
    for place, recorded in enumerate(found.values()):
        assert recorded.keys() == layers.keys()
        for name, lam in layers.items():
            real, imaginary = np.array(recorded[name])
            np.testing.assert_array_equal(real + 1j * imaginary, lam[place])


def test_a_model_without_eigenvalues_records_none(data_dir, tmp_path):
    assert "eigenvalues" not in short_run(",tanh", tmp_path, data_dir)


def test_the_eigenvalues_are_logged_at_the_start_and_at_every_evaluation(whole, data_dir):
    steps, paths = EigenvalueLog(whole / "spectra").trajectories()
    assert steps == [0, 4, 8, 12]
    initial = model_eigenvalues(Experiment(load_config(SMOKE), data_dir).init_state().params)
    best = model_eigenvalues(restore_best(whole, data_dir=data_dir)[1].params)
    (step,) = (row["step"] for row in rows(whole, "test"))
    assert paths.keys() == initial.keys() and len(paths) == 2
    for name, path in paths.items():
        np.testing.assert_allclose(path[0], initial[name], rtol=1e-6)
        np.testing.assert_allclose(path[steps.index(step)], best[name], rtol=1e-6)


def test_metrics_are_logged_at_their_steps_with_the_rate_used(whole):
    assert [row["step"] for row in rows(whole, "train")] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows(whole, "validation")] == [4, 8, 12]
    schedule = Experiment(load_config(SMOKE), whole.parent / "unused").base_schedule
    for row in rows(whole, "train"):  # the rate of the last of these steps
        assert row["learning_rate"] == pytest.approx(float(schedule(row["step"] - 1)))


def test_the_model_is_selected_on_validation_alone(whole):
    best = max(rows(whole, "validation"), key=lambda row: (row["accuracy"], -row["loss"]))
    assert [row["step"] for row in rows(whole, "test")] == [best["step"]]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole, run, tmp_path):
    run(tmp_path / "again")
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    run(tmp_path / "other", "seed=1")
    assert rows(tmp_path / "other") != rows(whole)


def test_runs_that_differ_only_in_seed_share_compiled_programs(data_dir):
    texts = []
    for seed in (0, 1):
        config = load_config(SMOKE, [f"--config.seed={seed}", "--config.model.dropout=0.1"])
        experiment = Experiment(config, data_dir)
        call = next(experiment.training_calls(0))
        texts.append(experiment.train_steps.lower(experiment.init_state(), call).as_text())
    assert texts[0] == texts[1]


@contextlib.contextmanager
def stop_after(calls):
    """Sends a signal after a number of calls."""
    made = iter(range(100))
    yield lambda: signal.SIGTERM if next(made) == calls else None


def test_a_stopped_run_has_a_record_and_resumes(run, tmp_path, monkeypatch, whole):
    """Its record has no test, and the resumed run ends with the same files."""
    with monkeypatch.context() as patch:
        patch.setattr("lru.training.loop.stop_signal", partial(stop_after, 5))
        with pytest.raises(Stopped):
            run(tmp_path, "train.steps_per_call=1")
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["steps"], record["steps_planned"]) == (5, 12)
    assert record["validation"]["step"] == 4 and "test" not in record
    (tmp_path / "spectra/8.npz").write_bytes(b"of a step after the checkpoint")
    (tmp_path / "spectra/9.npz").write_bytes(b"of another one")
    assert run(tmp_path)["steps"] == 12
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert spectra(tmp_path) == spectra(whole)


def test_a_signal_after_the_last_step_stops_the_run_before_its_test(
    run, tmp_path, monkeypatch, whole
):
    with monkeypatch.context() as patch:
        patch.setattr("lru.training.loop.stop_signal", partial(stop_after, 12))
        patch.setattr("lru.training.loop._Run.finish", lambda _: pytest.fail("it was tested"))
        with pytest.raises(Stopped):
            run(tmp_path, "train.steps_per_call=1")
    assert "test" not in json.loads((tmp_path / "record.json").read_text())
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_running_a_finished_run_again_changes_nothing(whole, run, capsys):
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert run(whole)["test"]["step"] == rows(whole, "test")[0]["step"]
    assert capsys.readouterr().out.startswith("already finished; test accuracy")
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_run_killed_before_its_record_ends_the_same(whole, run, tmp_path):
    """It is killed before the test, or between the test's row and the record."""
    for lines in (-1, None):
        work = shutil.copytree(whole, tmp_path / str(lines))
        text = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
        (work / "metrics.jsonl").write_text("".join(text[:lines]))
        (work / "record.json").unlink()
        run(work)
        assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert (work / "record.json").exists()


def test_a_run_with_lost_checkpoints_raises_and_stays_unchanged(whole, run, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    shutil.rmtree(work / "checkpoints")
    (work / "record.json").unlink()
    with pytest.raises(UserError, match="its checkpoints are gone"):
        run(work)
    assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_run_neither_continues_nor_is_evaluated_on_other_data(whole, run, data_dir, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    (work / "record.json").unlink()
    noted = json.loads((work / "data.json").read_text())
    noted["digests"]["train"] = "0" * 64
    (work / "data.json").write_text(json.dumps(noted))
    with pytest.raises(UserError, match="was trained on other data: .* its splits: train"):
        run(work)
    with pytest.raises(UserError, match="was trained on other data"):
        restore_best(work, data_dir=data_dir)
    assert (work / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_two_processes_never_train_in_one_work_directory(run, tmp_path):
    with lock(tmp_path / "lock"), pytest.raises(UserError, match="another process is training in"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_work_directory_that_cannot_be_created_raises(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/file/run/.*; choose another"):
        run(tmp_path / "file" / "run")


def test_a_config_written_by_a_concurrent_run_is_checked(run, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def after_another(file):  # which started first, and has ended
        config = load_config(SMOKE, ["--config.model.d_model=9"])
        file.parent.mkdir()
        (file.parent / "config.json").write_text(json.dumps(config.to_dict()))
        yield True

    monkeypatch.setattr("lru.training.loop.lock", after_another)
    with pytest.raises(UserError, match="config.model.d_model is 9 there, 8 here"):
        run(tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_test_loss_that_is_not_finite_raises_and_is_not_logged(run, tmp_path, monkeypatch):
    evaluate = Experiment.evaluate

    def infinite(self, state, split):
        return evaluate(self, state, split) | ({"loss": math.inf} if split == "test" else {})

    monkeypatch.setattr(Experiment, "evaluate", infinite)
    with pytest.raises(Diverged, match="the test loss of the checkpoint of step .*not finite"):
        run(tmp_path)
    assert rows(tmp_path, "validation") and not rows(tmp_path, "test")


def test_the_best_existing_checkpoint_replaces_a_missing_best(run, data_dir, tmp_path):
    run(tmp_path, "train.checkpoint_every=5", "train.eval_every=5")
    best = restore_best(tmp_path, data_dir=data_dir)[2]
    shutil.rmtree(tmp_path / "checkpoints" / str(best))
    left = [row for row in rows(tmp_path, "validation") if row["step"] != best]
    there = [row for row in left if (tmp_path / "checkpoints" / str(row["step"])).exists()]
    want = max(there, key=lambda row: (row["accuracy"], -row["loss"]))
    assert restore_best(tmp_path, data_dir=data_dir)[2] == want["step"]


def test_a_record_has_validation_and_test_of_the_same_checkpoint(run, tmp_path, monkeypatch):
    """The first evaluation is the best, and its checkpoint is lost before the end."""
    evaluate = Experiment.evaluate

    def best_first(self, state, split):
        found = evaluate(self, state, split)
        return found | ({"accuracy": 1 / int(state.step)} if split == "validation" else {})

    monkeypatch.setattr(Experiment, "evaluate", best_first)
    with monkeypatch.context() as patch:
        patch.setattr("lru.training.loop._Run.finish", lambda self: None)
        run(tmp_path, "train.checkpoint_every=5", "train.eval_every=5")
    first = rows(tmp_path, "validation")[0]
    shutil.rmtree(tmp_path / "checkpoints" / str(first["step"]))
    record = run(tmp_path, "train.checkpoint_every=5", "train.eval_every=5")
    assert first["accuracy"] > record["validation"]["accuracy"]
    assert record["validation"]["step"] == record["test"]["step"] > first["step"]


def test_an_early_best_checkpoint_is_kept_and_tested(run, data_dir, tmp_path, monkeypatch):
    """The second of four evaluations is the best."""
    evaluate = Experiment.evaluate  # as it is

    def best_second(self, state, split):
        accuracy = {"accuracy": 1 - abs(int(state.step) - 6) / 12}
        return evaluate(self, state, split) | (accuracy if split == "validation" else {})

    monkeypatch.setattr(Experiment, "evaluate", best_second)
    record = run(tmp_path, "train.checkpoint_every=3", "train.eval_every=3")
    saved = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert saved >= {6, 12} and 3 not in saved
    monkeypatch.undo()
    found = evaluate_best(tmp_path, "test", data_dir=data_dir)
    assert record["test"] == {key: value for key, value in found.items() if key != "split"}
    assert found["step"] == 6
    experiment, _, _ = restore_best(tmp_path, data_dir=data_dir)
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        last = checkpoints.restore(12, experiment.state_shapes())
    assert experiment.evaluate(last, "test")["loss"] != found["loss"]


def test_a_damaged_best_checkpoint_raises_with_a_remedy(run, data_dir, tmp_path):
    run(work := tmp_path / "work", "train.checkpoint_every=5", "train.eval_every=5")
    best = restore_best(work, data_dir=data_dir)[2]
    for file in (work / "checkpoints" / str(best)).rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read .*; move it elsewhere to"):
        restore_best(work, data_dir=data_dir)
    shutil.move(work / "checkpoints" / str(best), tmp_path / "elsewhere")
    assert restore_best(work, data_dir=data_dir)[2] != best


def test_evaluation_equals_the_logged_metrics_exactly(whole, data_dir):
    test = evaluate_best(whole, "test", data_dir=data_dir)
    assert test == rows(whole, "test")[0]
    validation = evaluate_best(whole, "validation", data_dir=data_dir)
    assert validation in rows(whole, "validation")


def test_evaluation_weights_a_ragged_last_batch_by_its_examples(whole, data_dir):
    """21 test examples give the same in batches of 8, 8 and 5 as in batches of 6, 6, 6 and 3."""
    config = load_config(SMOKE, ["--config.train.eval_batch_size=6"])
    experiment, eights = Experiment(config, data_dir), Experiment(load_config(SMOKE), data_dir)
    state = experiment.init_state()
    sixes, eights = experiment.evaluate(state, "test"), eights.evaluate(state, "test")
    assert sixes["accuracy"] == eights["accuracy"]
    assert sixes["loss"] == pytest.approx(eights["loss"], rel=1e-6)


def test_files_after_kill_9_equal_those_of_an_uninterrupted_run(whole, data_dir, run, tmp_path):
    for moment in ("step 4/12", "validation accuracy", "step 10/12"):
        process = start(tmp_path, data_dir)
        read_until(process, moment)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert spectra(tmp_path) == spectra(whole)
    got, want = (json.loads((path / "record.json").read_text()) for path in (tmp_path, whole))
    assert (got["test"], got["validation"]) == (want["test"], want["validation"])


NO_BORDER = ("train.log_every=12", "train.eval_every=12", "train.checkpoint_every=12")


@pytest.fixture(scope="module")
def one_by_one(run, tmp_path_factory):
    """The metrics of a run with one step per call and batches that the host reads."""
    workdir = tmp_path_factory.mktemp("one_by_one")
    run(workdir, *NO_BORDER, "train.steps_per_call=1", "train.device_data_mb=0")
    return (workdir / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_files(
    number, one_by_one, run, tmp_path, capsys
):
    """The signal arrives at a step that is not logged, evaluated or saved otherwise.

    The run resumes with another number of steps per call.
    """
    step = Steps.train_step
    seen = []

    def signalling(self, state, batch):
        jax.debug.callback(lambda done: seen.append(int(done)), state.step)
        return step(self, state, batch)

    def send():
        while not seen or seen[-1] < 4:
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "train_step", signalling)
        threading.Thread(target=send).start()
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, *NO_BORDER, "train.steps_per_call=1")
    assert stopped.value.exit_code == 128 + number
    assert "stopped by a signal; saved at step" in capsys.readouterr().out
    assert run(tmp_path, *NO_BORDER, "train.steps_per_call=5")["steps"] == 12
    assert (tmp_path / "metrics.jsonl").read_bytes() == one_by_one


@pytest.mark.parametrize(
    ("steps_per_call", "megabytes"), [(1, 1), (5, 0), (12, 0), (12, 1)]
)  # (1, 0) is the reference
def test_steps_per_call_and_the_location_of_the_data_change_no_bit(
    steps_per_call, megabytes, one_by_one, run, tmp_path
):
    settings = f"train.steps_per_call={steps_per_call}", f"train.device_data_mb={megabytes}"
    run(tmp_path, *NO_BORDER, *settings)
    assert (tmp_path / "metrics.jsonl").read_bytes() == one_by_one


def test_a_run_resumed_within_a_call_has_the_same_bits(one_by_one, run, tmp_path):
    """Calls of 5, 5 and 2 steps; stopped after 5, of 5 and 2 more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "training_calls", _signal_after_the_first_call)
        with pytest.raises(Stopped):
            run(tmp_path, *NO_BORDER, "train.steps_per_call=5")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]
    assert run(tmp_path, *NO_BORDER, "train.steps_per_call=5")["steps"] == 12
    assert (tmp_path / "metrics.jsonl").read_bytes() == one_by_one


def test_a_signal_stops_a_call_of_long_steps_between_two_steps(
    one_by_one, run, tmp_path, monkeypatch
):
    """In calls of 5 steps of one second each, the run is stopped after 3 steps."""
    with monkeypatch.context() as patch:
        patch.setattr("lru.training.loop.stop_signal", partial(stop_after, 3))
        patch.setattr("lru.training.loop.Clock.steps_at_once", lambda self: 1)
        with pytest.raises(Stopped):
            run(tmp_path, *NO_BORDER, "train.steps_per_call=5")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    assert run(tmp_path, *NO_BORDER, "train.steps_per_call=5")["steps"] == 12
    assert (tmp_path / "metrics.jsonl").read_bytes() == one_by_one


def _signal_after_the_first_call(self, first_step):
    calls = _training_calls(self, first_step)
    yield next(calls)
    os.kill(os.getpid(), signal.SIGTERM)
    yield from calls


def test_calls_of_all_lengths_share_one_compiled_program(data_dir):
    overrides = ["--config.train.steps_per_call=3", "--config.train.checkpoint_every=4"]
    overrides += [f"--config.train.{key}_every=12" for key in ("log", "eval")]
    experiment = Experiment(load_config(SMOKE, overrides), data_dir)
    state, counts = experiment.init_state(), []
    for call in experiment.training_calls(0):
        state = experiment.train_steps(state, call)
        counts.append(call.count)
    assert (counts, int(state.step)) == ([3, 1, 3, 1, 3, 1], 12)
    for chunk in next(experiment.training_calls(0)).chunks(iter([1, 2]).__next__):
        state = experiment.train_steps(state, chunk)
        counts.append((chunk.start, chunk.stop))
    assert counts[6:] == [(0, 1), (1, 3)] and int(state.step) == 15
    assert experiment.train_steps._cache_size() == 1


@given(*[st.integers(1, 40)] * 5, st.integers(0, 40))
def test_calls_cover_every_step_once_and_cross_no_boundary(steps, log, evaluate, save, most, first):
    settings = Settings(steps, 1, log, evaluate, save, steps_per_call=most)
    spans = list(settings.spans(first))
    assert [step + i for step, count in spans for i in range(count)] == list(range(first, steps))
    for step, count in spans:
        assert 1 <= count <= most
        assert not any((step + i) % n == 0 for n in (log, evaluate, save) for i in range(1, count))


def test_batches_on_the_devices_equal_those_that_the_host_reads(data_dir):
    here, there = (
        Experiment(load_config(SMOKE, [f"--config.train.device_data_mb={mb}"]), data_dir)
        for mb in (0, 1)
    )
    for host, device in zip(here.training_calls(3), there.training_calls(3), strict=True):
        assert (host.count, host.rows, device.rows.shape) == (device.count, None, (2, 8))
        assert device.examples["inputs"].dtype == np.uint8
        for i in range(host.count):
            want, got = host.batch(i), device.batch(i)
            assert want.keys() == got.keys()
            for key in want:
                assert want[key].dtype == got[key].dtype
                np.testing.assert_array_equal(want[key], got[key])


def test_the_wait_for_input_is_measured_apart_from_training(run, tmp_path, capsys):
    """Every call but the first keeps the devices waiting for half a second."""

    def slow(self, first_step):
        for number, call in enumerate(_training_calls(self, first_step)):
            time.sleep(0.5 * (number > 0))
            yield call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "training_calls", slow)
        record = run(tmp_path, "train.steps=6")
    *_, last = map(json.loads, (tmp_path / "timing.jsonl").read_text().splitlines())
    assert 1 < last["input_wait_seconds"] < last["seconds"]
    assert record["input_wait_share"] == pytest.approx(
        last["input_wait_seconds"] / record["seconds"], rel=0.3
    )
    assert "% waiting for input" in capsys.readouterr().out
    assert "wait" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("precision", "name"),
    [("float32", "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")],
)
def test_the_precision_applies_to_every_product_forward_and_backward(precision, name, data_dir):
    override = f"--config.train.matmul_precision={precision}"
    experiment = Experiment(load_config(SMOKE, [override]), data_dir)
    call = next(experiment.training_calls(0))
    text = experiment.train_steps.lower(experiment.state_shapes(), call).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    for line in products:
        count = line.count(f"[{name}, {name}]")
        assert count == 1 or (name == "DEFAULT" and "precision" not in line)


def test_activations_in_bfloat16_train_parameters_in_float32(run, data_dir, tmp_path):
    override = "model.dtype=bfloat16"
    record = run(tmp_path, override)
    assert record["config"]["model"]["mixer"]["dtype"] == "bfloat16"
    assert all(np.isfinite(row["loss"]) for row in rows(tmp_path))
    experiment = Experiment(load_config(SMOKE, [f"--config.{override}"]), data_dir)
    shapes = experiment.state_shapes()
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes.params)} == {jnp.dtype("float32")}
    call = next(experiment.training_calls(0))
    text = experiment.train_steps.lower(shapes, call).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert sum("bf16" in line for line in products) >= 6  # in, out and GLU of two layers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_its_exit_code(number, data_dir, tmp_path):
    """SIGINT works even if it is inherited as ignored, as in background jobs of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(tmp_path, data_dir, "--config.train.steps=5000")
    finally:
        signal.signal(signal.SIGINT, before)
    read_until(process, "validation accuracy")
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "run the same command to resume" in out.splitlines()[-1]


def test_a_nan_raises_with_its_step_and_the_last_good_checkpoint(run, tmp_path):
    step = Steps.train_step

    def nan_at_step_5(self, state, batch):
        state = step(self, state, batch)
        finite = state.step != 5
        return state.replace(diverged_at=jnp.where(finite, state.diverged_at, state.step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "train_step", nan_at_step_5)
        with pytest.raises(Diverged) as error:
            run(tmp_path)
    assert "not finite at step 5" in str(error.value)
    assert str(tmp_path / "checkpoints" / "4") in str(error.value)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["diverged_at"] == 5 and "test" not in record
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "4"}


def test_parameters_that_a_step_makes_infinite_are_never_saved(run, tmp_path):
    """The step's own loss and gradient are still finite."""
    with pytest.raises(Diverged, match="not finite at step 1; .* none yet"):
        run(tmp_path, "optimizer.learning_rate=1e30", "train.steps=1")
    assert not rows(tmp_path) and not list((tmp_path / "checkpoints").iterdir())


def test_rematerialisation_saves_memory(data_dir):
    temporaries = []
    for remat in (False, True):
        overrides = [f"--config.model.remat={remat}", "--config.model.num_layers=4"]
        overrides += ["--config.data.pad_to=256"]
        experiment = Experiment(load_config(SMOKE, overrides), data_dir)
        call = next(experiment.training_calls(0))
        compiled = experiment.train_steps.lower(experiment.init_state(), call).compile()
        temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporaries[1] < 0.6 * temporaries[0]


@pytest.fixture
def damaged_latest(run, tmp_path):
    """A run that crashed after step 10 and whose last checkpoint is truncated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "training_calls", _up_to_step_10)
        with pytest.raises(StopIteration):
            run(tmp_path)
    files = [path for path in (tmp_path / "checkpoints" / "10").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    return tmp_path


def test_a_run_with_a_truncated_checkpoint_ends_the_same(whole, run, damaged_latest, capsys):
    run(damaged_latest)
    assert "checkpoints/10 cannot be read" in capsys.readouterr().out
    assert (damaged_latest / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert spectra(damaged_latest) == spectra(whole)


_training_calls = Experiment.training_calls


def _up_to_step_10(self, first_step):
    for call in _training_calls(self, first_step):
        if first_step == 10:
            return
        first_step += call.count
        yield call


def test_pixels_are_bytes_on_the_device_and_normalised_for_the_model(data_dir):
    config = load_config(SMOKE)
    data = {"type": "lru.data.cifar10:CIFAR10.create", "source": "made_up", "color": "grey"}
    sizes = {f"made_up_{split}": 8 for split in ("train", "validation", "test")}
    config.data = ConfigDict(data | sizes)
    experiment = Experiment(config, data_dir, devices=jax.local_devices()[:1])
    state, call = experiment.init_state(), next(experiment.training_calls(0))
    assert call.examples["inputs"].dtype == np.uint8

    def loss(train):
        split = experiment.dataset.source("train" if train else "test")
        inputs, labels = (np.stack([row[key] for row in split]) for key in ("inputs", "label"))
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        pixels = np.float32((inputs / 255 - 122.6 / 255) / (61 / 255))
        apply = partial(experiment.model.apply, train=train, mutable=["batch_stats"])
        logits = np.float64(jax.jit(apply)(variables, pixels)[0])
        chosen = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen)

    expected = loss(train=False), loss(train=True)
    found = experiment.evaluate(state, "test")["loss"]
    trained = experiment.train_steps(state, Call(1, call.examples, call.rows))
    found = found, trained.metrics.compute()["loss"]  # all eight examples, before the update
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_note_about_the_data_is_logged_and_recorded(whole, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ListOps, "note", "half of it is missing")
    assert run(tmp_path)["remark"] == "half of it is missing"
    assert json.loads((tmp_path / "record.json").read_text())["remark"] == "half of it is missing"
    assert "note: half of it is missing\n" in capsys.readouterr().out
    assert "remark" not in json.loads((whole / "record.json").read_text())


def test_tensorboard_is_written_only_if_enabled(whole, run, tmp_path):
    run(tmp_path, "train.tensorboard=true")
    assert any((tmp_path / "tensorboard").iterdir())
    assert not (whole / "tensorboard").exists()
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps=0", "config.train.steps is 0 and epochs is 0; expected"),
        ("seed=-1", "config.seed is -1"),
        ("train.steps=100000000000000000000", "train.steps is 100000000000000000000; expected at"),
        ("train.batch_size=1000000000", "config.train.batch_size is 1,000,000,000; expected at"),
        ("train.eval_batch_size=1000000000", "config.train.eval_batch_size is 1,000,000,000;"),
        ("optimizer.learning_rate=nan", "config.optimizer.learning_rate is nan; expected"),
        ("optimizer.learning_rate=inf", "config.optimizer.learning_rate is inf; expected"),
        ("optimizer.learning_rate=-1.0", "config.optimizer.learning_rate is -1.0; expected"),
        ("train.steps_per_call=0", "config.train.steps_per_call is 0; expected at least 1"),
        ("train.device_data_mb=-1", "config.train.device_data_mb is -1; expected at least 0"),
        ("train.matmul_precision=int8", "config.train.matmul_precision is 'int8'; expected one of"),
        ("model.dtype=float31", "config.model.mixer is invalid: "),
        ("model.dropout=1.5", "config.model.dropout is 1.5; expected at least 0 and less than 1"),
        ("model.mixer.d_state=0", "config.model.mixer.d_state is 0; expected at least 1"),
        ("model.norm=group", "config.model.norm is 'group'; expected one of 'batch'"),
        ("model.mixer.r_min=2.0", "config.model.mixer.r_min is 2.0; expected at most 1"),
        ("data.max_depth=0", "max_depth is 0"),
        ("data.pad_to=3", "pad_to=3"),
    ],
)
def test_wrong_options_raise_before_the_work_directory_is_created(override, words, run, tmp_path):
    with pytest.raises(UserError) as error:
        run(tmp_path / "run", override)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_a_training_row_is_the_mean_over_the_steps_since_the_previous_row(whole, run, tmp_path):
    """All batches have the same size, and the runs differ in `log_every` only."""
    run(tmp_path, "train.log_every=1")
    each = {row["step"]: row for row in rows(tmp_path, "train")}
    for row in rows(whole, "train"):
        for name in ("loss", "accuracy"):
            mean = np.mean([each[row["step"] - i][name] for i in range(2)])
            assert row[name] == pytest.approx(mean, rel=1e-5)
