"""Runs on own arrays: every kind of target trains, resumes, evaluates and is exported."""

import contextlib
import json
import math
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from lru import evaluate, export, spectrum
from lru.command_line import run as run_command
from lru.data.springs import EXAMPLES
from lru.errors import Stopped, UserError
from lru.training.best import restore_best
from lru.training.config import load_config
from lru.training.description import Description
from lru.training.experiment import Experiment
from lru.training.exporting import evaluate_export
from lru.training.loop import train_and_evaluate

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ("motion", "stiffness")


def smoke(example, *overrides):
    arguments = [f"--config.{override}" for override in overrides]
    return load_config(f"configs/arrays.py:{example},smoke", arguments)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with a finished run of each example."""
    root = tmp_path_factory.mktemp("arrays")
    for example in EXAMPLES:
        train_and_evaluate(smoke(example), root / example, data_dir=root / "data")
    return root


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_run_logs_the_metrics_of_its_target(example, root):
    names = {"loss", "rmse", "r2"} if example in NUMBERS else {"loss", "accuracy"}
    for row in rows(root / example):
        assert row.keys() - {"step", "split", "learning_rate"} == names
        assert all(math.isfinite(row[name]) for name in names)
    record = json.loads((root / example / "record.json").read_text())
    assert record["data"] == "artificial" and record["steps"] == 6
    score = "rmse" if example in NUMBERS else "accuracy"
    assert record["validation_curve"] == [
        [row["step"], row["loss"], row[score]]
        for row in rows(root / example)
        if row["split"] == "validation"
    ]
    assert (root / example / "curves.png").exists() and (root / example / "spectrum.png").exists()


@contextlib.contextmanager
def stop_after(calls):
    made = iter(range(100))
    yield lambda: signal.SIGTERM if next(made) == calls else None


@pytest.mark.parametrize("example", ["stiffness", "shape", "switching"])
def test_a_stopped_run_resumes_to_the_same_files(example, root, tmp_path, monkeypatch):
    config = smoke(example, "train.steps_per_call=1")
    with monkeypatch.context() as patch:
        patch.setattr("lru.training.loop.stop_signal", partial(stop_after, 4))
        with pytest.raises(Stopped):
            train_and_evaluate(config, tmp_path, data_dir=root / "data")
    train_and_evaluate(config, tmp_path, data_dir=root / "data")
    whole = (root / example / "metrics.jsonl").read_bytes()
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_files_after_kill_9_equal_those_of_an_uninterrupted_run(root, tmp_path):
    command = [sys.executable, "-m", "lru.train", "--config=configs/arrays.py:motion,smoke"]
    command += [f"--workdir={tmp_path}", f"--data_dir={root / 'data'}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("validation"):
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    train_and_evaluate(smoke("motion"), tmp_path, data_dir=root / "data")
    whole = (root / "motion" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("example", EXAMPLES)
def test_evaluating_a_run_and_its_export_prints_the_logged_result(example, root, tmp_path, capsys):
    where = [f"--data_dir={root / 'data'}"]
    export.main([f"--workdir={root / example}", f"--out={tmp_path / 'out'}", "--step", *where])
    capsys.readouterr()
    printed = []
    for source in (root / example, tmp_path / "out"):
        assert run_command(evaluate.main, [f"--workdir={source}", *where]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    pattern = r"RMSE [\d.]+, R2 -?[\d.]+" if example in NUMBERS else r"accuracy [\d.]+ %"
    assert re.fullmatch(rf"test {pattern}  loss [\d.]+  \(checkpoint of step \d\)\n", printed[0])


def test_evaluating_an_export_on_other_data_raises(root, tmp_path):
    """The model would otherwise read features in the units of another training split."""
    export.export_run(root / "stiffness", tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    content = json.loads(file.read_text())
    content["config"]["data"]["seed"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="other data than config.data gives now .their scaling"):
        evaluate_export(tmp_path / "out", "test", data_dir=root / "data")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_metrics_of_a_split_equal_numpy_on_its_examples(example, root):
    """Each valid step, or each example, counts once, in a ragged last batch too."""
    experiment, state, _ = restore_best(root / example, data_dir=root / "data")
    spec, source = experiment.dataset.spec, experiment.dataset.source("test")
    variables = experiment.variables(state)
    outputs, labels = [], []
    for example_ in source:
        t = int(example_["length"])
        found = np.asarray(experiment.model.apply(variables, example_["inputs"][None, :t]))[0]
        label = example_["label"]
        outputs += list(found) if spec.per_step else [found]
        labels += list(label[:t]) if spec.per_step else [label]
    outputs, labels = np.array(outputs, np.float64), np.array(labels)
    got = experiment.evaluate(state, "test")
    if spec.of_classes:
        chosen = np.take_along_axis(outputs, labels[:, None], 1)[:, 0]
        loss = (np.log(np.exp(outputs).sum(-1)) - chosen).mean()
        want = {"loss": loss, "accuracy": (outputs.argmax(-1) == labels).mean()}
    else:
        error = spec.values(outputs) - (target := spec.values(labels))
        want = {"loss": ((outputs - labels) ** 2).mean(), "rmse": np.sqrt((error**2).mean())}
        want["r2"] = 1 - (error**2).mean() / target.var()
    assert got == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("example", ["motion", "switching"])
def test_accumulated_parts_give_the_results_of_the_whole_batch(example, root):
    """The steps of a batch are weighted alike, although its parts have different numbers."""
    found = []
    for parts in (1, 4):
        experiment = Experiment(smoke(example, f"train.accumulate={parts}"), root / "data")
        call = next(iter(experiment.training_calls(0)))
        state = experiment.train_steps(experiment.init_state(), call)
        found.append((state.params, experiment.report(state.metrics)))
    (one, whole), (other, summed) = found
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-5), one, other)
    assert whole == pytest.approx(summed, rel=1e-4)


def test_steps_beyond_the_lengths_do_not_affect_training(root, tmp_path):
    """Runs on the same arrays with other values in their padding are equal byte for byte."""
    rng = np.random.default_rng(0)
    x, y, lengths = rng.normal(size=(30, 8, 2)), rng.normal(size=(30, 8)), rng.integers(2, 9, 30)
    padding = np.arange(8) >= lengths[:, None]
    metrics = []
    for name, fill in (("zeros", 0.0), ("nans", np.nan)):
        filled = np.where(padding[..., None], fill, x)
        file = tmp_path / f"{name}.npz"
        np.savez(file, x=filled, y=np.where(padding, fill, y), lengths=lengths)
        config = smoke("motion", f"data.path={file}")
        train_and_evaluate(config, tmp_path / name, data_dir=tmp_path / "data")
        metrics.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_description_replaces_the_arrays(example, root):
    experiment, _, _ = restore_best(root / example, read_data=False)
    with_data = restore_best(root / example, data_dir=root / "data")[0]
    assert isinstance(experiment.dataset, Description)
    assert experiment.dataset.spec == with_data.dataset.spec
    assert experiment.task.model_arguments == with_data.task.model_arguments


def test_a_damaged_description_raises_one_line(root, tmp_path):
    content = json.loads((root / "motion" / "dataset.json").read_text())
    content["spec"]["outputs"]["std"] = [0.0]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"is damaged \(outputs have a mean that is not finite"):
        Description.load(tmp_path)


def test_the_spectrum_of_a_run_on_arrays_is_drawn(root, tmp_path, capsys):
    arguments = [f"--workdir={root / 'motion'}", f"--out={tmp_path / 'page.png'}"]
    assert run_command(spectrum.main, arguments) == 0, capsys.readouterr().err


TYPE = "model.type=lru.models:Sequence"
WRONG = [
    ("motion", f"{TYPE}Classifier", "does not fit the target 'step_values' of the arrays"),
    ("stiffness", f"{TYPE}Classifier", "does not fit the target 'values' of the arrays; expected"),
    ("shape", f"{TYPE}Tagger", "does not fit the target 'classes' of the arrays; expected lru.mod"),
    ("motion", "train.select=accuracy", "select is 'accuracy'; expected loss or rmse for arrays"),
    ("shape", "train.select=rmse", "select is 'rmse'; expected accuracy or loss for arrays"),
    ("motion", "train.unroll=5", "which are only for texts; for arrays, expected both to be 0"),
    ("motion", "train.batch_size=64", "expected at most 48, the number of training examples"),
    ("motion", "model.per_step=True", "config.model has no key 'per_step'"),
]


@pytest.mark.parametrize(("example", "override", "words"), WRONG)
def test_a_config_that_does_not_fit_raises_one_line(example, override, words, root, tmp_path):
    overrides = [override] + (["model.pooling=mean"] if "type" in override else [])
    with pytest.raises(UserError) as error:
        config = smoke(example, *overrides)
        train_and_evaluate(config, tmp_path / "run", data_dir=root / "data")
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("example", "override"),
    [
        ("motion", "train.select=rmse"), ("shape", "train.select=accuracy"),
        ("shape", f"{TYPE}Classifier"), ("switching", f"{TYPE}Tagger"),
        ("switching", "model.mixer.bidirectional=True"),
    ],
)  # fmt: skip
def test_other_models_and_metrics_that_fit_train(example, override, root, tmp_path):
    record = train_and_evaluate(smoke(example, override), tmp_path, data_dir=root / "data")
    assert record["steps"] == 6
    if "select" in override:
        by = override.partition("=")[2]
        found = [row for row in rows(tmp_path) if row["split"] == "validation"]
        sign = 1 if by == "rmse" else -1
        best = min(found, key=lambda row: (sign * row[by], row["loss"]))
        assert record["test"]["step"] == best["step"]


def test_a_run_with_another_data_set_needs_no_predictor(root):
    config = load_config("configs/lra_listops.py:smoke", [f"--config.{TYPE}Tagger"])
    with pytest.raises(UserError, match=r"expected a model such as lru.models:SequenceCl"):
        Experiment(config, root / "data")
