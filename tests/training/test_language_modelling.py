"""Laws of training on a text: the state is carried from batch to batch, and through a stop."""

import contextlib
import json
import math
import signal

import jax
import numpy as np
import pytest

from lru.errors import Stopped, UserError
from lru.training.best import evaluate_best
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import train_and_evaluate

# Each form of carry: a lattice's, two memories, a stack of residual blocks.
MODELS = ["lru", "grid_lstm", "linear_lru"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def load(model="lru", *overrides):
    return load_config(
        f"configs/charlm_{model}.py:smoke", [f"--config.{override}" for override in overrides]
    )


def rows(workdir, split=None):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if split in (None, row["split"])]


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    train_and_evaluate(load(), workdir, data_dir=data_dir)
    return workdir


def test_each_epoch_ends_with_an_evaluation_and_a_test(whole):
    record = json.loads((whole / "record.json").read_text())
    epoch = record["steps_per_epoch"]
    assert record["steps"] == record["steps_planned"] == 3 * epoch
    for split in ("validation", "test"):
        assert [row["step"] for row in rows(whole, split)] == [epoch, 2 * epoch, 3 * epoch]


def test_the_checkpoint_with_the_least_validation_loss_is_tested(whole, data_dir):
    best = min(rows(whole, "validation"), key=lambda row: row["loss"])
    (test,) = (row for row in rows(whole, "test") if row["step"] == best["step"])
    record = json.loads((whole / "record.json").read_text())
    for split, row in (("validation", best), ("test", test)):
        assert record[split] == {k: v for k, v in row.items() if k != "split"}
    assert evaluate_best(whole, "test", data_dir=data_dir) == test
    for split, curve in record["curves"].items():
        assert curve == [[row["step"], row["loss"]] for row in rows(whole, split)]


def test_bits_per_character_are_nats_over_log_2(whole):
    for row in rows(whole):
        assert row["bits_per_character"] == pytest.approx(row["loss"] / math.log(2), rel=1e-12)


def test_training_reduces_the_loss(whole):
    losses = [row["loss"] for row in rows(whole, "validation")]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * math.log(9)


def test_a_run_stopped_within_an_epoch_resumes_with_its_state(whole, data_dir, tmp_path):
    """Without the carried state, the next steps would have other losses."""

    epoch = json.loads((whole / "record.json").read_text())["steps_per_epoch"]

    @contextlib.contextmanager
    def stop_in_the_second_epoch():
        steps = iter(range(1000))
        yield lambda: signal.SIGTERM if next(steps) == epoch + 5 else None

    one_by_one = load("lru", "train.steps_per_call=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lru.training.loop.stop_signal", stop_in_the_second_epoch)
        with pytest.raises(Stopped):
            train_and_evaluate(one_by_one, tmp_path, data_dir=data_dir)
    assert "test" not in json.loads((tmp_path / "record.json").read_text())
    assert train_and_evaluate(load(), tmp_path, data_dir=data_dir)["test"]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_the_unroll_length_changes_no_loss(model, data_dir):
    """Reads the same streams in batches of 10 and of 40 steps: the state is carried over."""
    losses = []
    for unroll in (10, 40):
        experiment = Experiment(load(model, f"train.unroll={unroll}"), data_dir)
        losses.append(experiment.evaluate(experiment.init_state(), "validation")["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_the_state_is_zero_at_the_start_of_every_epoch(model, data_dir):
    """With frozen parameters, every epoch has the same losses."""
    config = load(model)
    config.optimizer.groups = ((".*", 0.0, 0.0),)
    experiment = Experiment(config, data_dir)
    state, epoch = experiment.init_state(), experiment.task.steps_per_epoch
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.carry))
    seen = {}
    for call in experiment.training_calls(0):
        before = float(state.metrics.loss)
        state = experiment.train_steps(state, call)
        step = int(state.step)
        seen[step] = float(state.metrics.loss) - before
        state = state.replace(metrics=experiment.empty_metrics())
        if step > epoch:
            break
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.carry))
    first, again = seen[min(seen)], seen[step]
    assert step - epoch == min(seen)
    assert again == pytest.approx(first, rel=1e-6)


def test_the_mean_covers_every_character_but_the_first(data_dir):
    """Checked with 3 streams of a text whose length they do not divide."""
    experiment = Experiment(load(), data_dir)
    tokens = experiment.dataset.tokens("test")
    for size in (2, 4, 6):
        batches = list(experiment.task.evaluation("test", size, slice(None)))
        assert sum(batch["weight"].sum() for batch in batches) == len(tokens) - 1


@pytest.mark.several_devices
@pytest.mark.parametrize("model", MODELS)
def test_two_devices_train_like_one(model, data_dir):
    found = []
    for number in (1, 2):
        config = load(model)
        experiment = Experiment(config, data_dir, devices=jax.local_devices()[:number])
        state = experiment.init_state()
        for _, call in zip(range(3), experiment.training_calls(0)):
            state = experiment.train_steps(state, call)
        found.append((state.metrics.compute(), jax.device_get(state.carry)))
        for leaf in jax.tree.leaves(state.carry):
            assert len(leaf.sharding.device_set) == number
    assert found[0][0]["loss"] == pytest.approx(found[1][0]["loss"], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *(x[1] for x in found))


def test_a_run_without_improvement_ends_early_and_is_finished(data_dir, tmp_path, capsys):
    config = load("lru", "train.epochs=50", "train.least_improvement=1e9", "train.patience=2")
    record = train_and_evaluate(config, tmp_path, data_dir=data_dir)
    epoch = record["steps_per_epoch"]  # the first evaluation has nothing to improve on
    assert (record["steps"], record["steps_planned"]) == (3 * epoch, 50 * epoch)
    assert "has not improved in 2 evaluations in a row" in capsys.readouterr().out
    (tmp_path / "record.json").unlink()
    again = train_and_evaluate(config, tmp_path, data_dir=data_dir)  # no step is left
    assert (again["steps"], again["test"]) == (record["steps"], record["test"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.unroll=0", "config.train.unroll is 0; expected the number of characters"),
        ("train.steps=5", "config.train.steps is 5 and epochs is 3; expected one of them"),
        ("train.improvement_over=last", "'last'; expected one of 'best', 'previous'"),
        ("train.select=f1", "'f1'; expected one of 'accuracy', 'loss'"),
        ("train.patience=-1", "config.train.patience is -1; expected at least 0"),
    ],
)
def test_settings_that_do_not_fit_a_text_raise(change, message, data_dir):
    with pytest.raises(UserError, match=message):
        Experiment(load("lru", change), data_dir)


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "unroll"])
def test_batches_larger_than_the_text_raise(name, data_dir, tmp_path):
    config = load("lru", f"train.{name}=1000000000")
    with pytest.raises(UserError, match=f"config.train.{name} is 1,000,000,000; expected at most"):
        train_and_evaluate(config, tmp_path / "run", data_dir=data_dir)
    assert not (tmp_path / "run").exists()


def test_a_model_for_the_other_task_raises(data_dir):
    text, labelled = load(), load_config("configs/lra_listops.py:smoke")
    text.model, labelled.model = labelled.model, text.model
    message = "type is SequenceClassifier, but the data of ptb are a text; .*:LanguageModel"
    with pytest.raises(UserError, match=message):
        Experiment(text, data_dir)
    message = "type is LanguageModel, but the data of listops are labeled .*:SequenceClassifier"
    with pytest.raises(UserError, match=message):
        Experiment(labelled, data_dir)
    text.model = load_config("configs/arrays.py:smoke").model
    message = "type is SequencePredictor, but the data of ptb are a text; .*:LanguageModel"
    with pytest.raises(UserError, match=message):
        Experiment(text, data_dir)
    pairs = load_config("configs/lra_retrieval.py:smoke")
    pairs.model = labelled.model
    with pytest.raises(UserError, match="are labeled pairs of sequences; .*:SequenceMatcher"):
        Experiment(pairs, data_dir)


def test_settings_of_texts_raise_for_labelled_sequences(data_dir):
    config = load_config("configs/lra_listops.py:smoke")
    with config.unlocked():
        config.train.unroll = 50
    with pytest.raises(UserError, match="unroll is 50, which are only for texts"):
        Experiment(config, data_dir)
