"""Laws of the recorded gradient norms: exact, averaged between two rows, without side effects."""

import json

import jax
import numpy as np
import optax
import pytest

from lru.errors import UserError
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.gradient_norms import norms_in_row, record_gradient_norms
from lru.training.loop import train_and_evaluate
from lru.training.metrics import Metrics

SMOKE = "configs/charlm_lru.py:ptb,smoke,l3"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """Returns `train(log_every)`, which trains six steps and returns record and rows."""

    def train(log_every, record=True):
        overrides = f"train.log_every={log_every}", f"train.record_gradient_norms={record}"
        given = [f"--config.{key}" for key in ("train.steps=6", "train.epochs=0", *overrides)]
        workdir = tmp_path_factory.mktemp("run")
        result = train_and_evaluate(load_config(SMOKE, given), workdir, data_dir=data_dir)
        rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return result, [row for row in rows if row["split"] == "train"]

    return train


@pytest.fixture(scope="module")
def every_step(run):
    return run(1)


def test_the_first_norms_equal_those_of_the_first_gradient(every_step, data_dir):
    experiment = Experiment(load_config(SMOKE), data_dir)
    state = experiment.init_state()
    call = next(iter(experiment.training_calls(0)))
    batch = call.batch(0)

    def loss(params):
        variables = {"params": params, "batch_stats": {}}
        (_, logits), _ = experiment.task.apply(
            experiment.model, variables, state.carry, batch, train=True, mutable=[]
        )
        return Metrics.of(logits, batch).mean_loss()

    stack = jax.grad(loss)(state.params)["stack"]
    expected = [float(optax.tree.norm(stack[f"layers_{layer}"])) for layer in range(3)]
    np.testing.assert_allclose(norms_in_row(every_step[1][0]), expected, rtol=1e-5)


def test_a_row_has_the_mean_norms_since_the_previous_row(every_step, run):
    single = np.array([norms_in_row(row) for row in every_step[1]])
    double = np.array([norms_in_row(row) for row in run(2)[1]])
    np.testing.assert_allclose(double, single.reshape(3, 2, 3).mean(1), rtol=1e-5)


def test_a_record_has_the_norms_of_every_row(every_step):
    record, rows = every_step
    assert record["gradient_norms"] == [(row["step"], norms_in_row(row)) for row in rows]


def test_recording_changes_no_loss(every_step, run):
    record, rows = run(1, record=False)
    assert "gradient_norms" not in record and not norms_in_row(rows[0])
    assert [row["loss"] for row in rows] == [row["loss"] for row in every_step[1]]


def test_parameters_without_numbered_layers_raise():
    with pytest.raises(UserError, match="record_gradient_norms"):
        record_gradient_norms().init({"dense": {"kernel": np.zeros(2)}})
