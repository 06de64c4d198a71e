"""A training step equals the same step by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lru.errors import UserError
from lru.training.config import load_config
from lru.training.experiment import Experiment


def load(*overrides):
    return load_config("configs/lra_listops.py:smoke", [f"--config.{o}" for o in overrides])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def test_a_step_is_adamw_on_the_mean_loss_without_padding(data_dir):
    """Uses an eps that is large beside the gradients, so that their scale matters."""
    experiment = Experiment(load("optimizer.eps=1.0", "optimizer.warmup_fraction=0.0"), data_dir)
    state = experiment.init_state()
    variables = jax.tree.map(
        np.asarray, experiment.variables(state)
    )  # `train_steps` donates the state
    call = next(iter(experiment.training_calls(0)))
    batch = call.batch(0)

    def loss_function(params):
        logits, updated = experiment.model.apply(
            variables | {"params": params}, batch["inputs"], seq_lengths=batch["length"],
            train=True, mutable=["batch_stats"],
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), updated["batch_stats"]

    gradient = jax.jit(jax.value_and_grad(loss_function, has_aux=True))
    with experiment.precision():
        (loss, batch_stats), grads = gradient(variables["params"])
    after = experiment.train_steps(state, next(iter(call.chunks(lambda: 1))))
    np.testing.assert_allclose(after.metrics.compute()["loss"], loss, rtol=1e-5)
    for got, want in zip(*map(jax.tree.leaves, (after.batch_stats, batch_stats))):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    rate = experiment.base_schedule(0)
    head, start = after.params["head"]["kernel"], variables["params"]["head"]["kernel"]
    g = grads["head"]["kernel"]  # Adam's first step is g / (|g| + eps)
    want = start - rate * (g / (jnp.abs(g) + 1) + 0.05 * start)
    np.testing.assert_allclose((head - start) / rate, (want - start) / rate, rtol=1e-3, atol=1e-5)
    assert int(after.step) == 1 and after.metrics.count == len(batch["label"])


def load_text(*overrides):
    overrides = ("train.unroll=5", *overrides)
    return load_config("configs/charlm_lru.py:smoke", [f"--config.{o}" for o in overrides])


@pytest.mark.parametrize(
    ("load", "options"), [(load, ["model.norm=layer", "model.dropout=0.0"]), (load_text, [])]
)
def test_parts_of_a_batch_give_the_step_of_the_whole(load, options, data_dir):
    """Uses an eps that is large beside the gradients, so that rounding does not grow."""

    def train(*more):
        options_of_all = ["train.batch_size=8", "optimizer.eps=1.0", *options, *more]
        experiment = Experiment(load(*options_of_all), data_dir)
        calls = experiment.training_calls(0)
        state = experiment.init_state()
        for _ in range(3):
            state = experiment.train_steps(state, next(calls))
        return state

    whole, parts = train(), train("train.accumulate=4")
    assert int(whole.step) == int(parts.step) > 0
    assert float(parts.metrics.count) == float(whole.metrics.count)
    np.testing.assert_allclose(parts.metrics.loss, whole.metrics.loss, rtol=1e-5)
    for name in ("params", "carry"):
        got, want = (jax.tree.leaves(getattr(state, name)) for state in (parts, whole))
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_parts_that_do_not_divide_the_batch_raise(data_dir):
    with pytest.raises(UserError, match="config.train.accumulate is 3; expected a divisor of 8"):
        Experiment(load("train.batch_size=8", "train.accumulate=3"), data_dir)


def test_the_seed_determines_parameters_and_order_of_the_data(data_dir):
    one, same, other = (Experiment(load(f"seed={seed}"), data_dir) for seed in (0, 0, 1))

    def found(experiment):
        rows = next(iter(experiment.training_calls(0))).rows
        return np.asarray(experiment.init_state().params["head"]["kernel"]), np.asarray(rows)

    kernel, rows = found(one)
    np.testing.assert_array_equal(found(same)[0], kernel)
    np.testing.assert_array_equal(found(same)[1], rows)
    assert (found(other)[0] != kernel).any() and (found(other)[1] != rows).any()


def test_a_resumed_run_reads_the_next_batches(data_dir):
    experiment = Experiment(load("train.steps_per_call=1"), data_dir)
    rows = [np.asarray(call.rows) for call in experiment.training_calls(0)]
    again = [np.asarray(call.rows) for call in experiment.training_calls(5)]
    np.testing.assert_array_equal(again, rows[5:])
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_evaluation_uses_running_statistics_and_no_dropout(data_dir):
    experiment = Experiment(load("model.dropout=0.9"), data_dir)
    state = experiment.init_state()
    stats = jax.tree.map(lambda x: x + 2.0, state.batch_stats)
    found = experiment.evaluate(state.replace(batch_stats=stats), "test")
    source = experiment.dataset.source("test")
    examples = [source[i] for i in range(len(source))]
    inputs, lengths, labels = (
        np.stack([example[name] for example in examples]) for name in ("inputs", "length", "label")
    )
    variables = {"params": state.params, "batch_stats": stats}
    with experiment.precision():
        logits = jax.jit(experiment.model.apply)(variables, inputs, seq_lengths=lengths)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())
