"""Laws of metrics: they are sums over examples."""

import jax
import jax.numpy as jnp
import numpy as np

from lru.training.metrics import Metrics, RegressionMetrics


def batch(size, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    logits = jax.random.normal(keys[0], (size, 5))
    return logits, {"label": jax.random.randint(keys[1], (size,), 0, 5), "weight": jnp.ones(size)}


def split(logits, data, sizes):
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        yield logits[rows], {name: value[rows] for name, value in data.items()}
        start += size


def test_a_ragged_last_batch_is_weighted_by_its_examples():
    logits, data = batch(10)
    whole = Metrics.of(logits, data).compute()
    total = Metrics.empty()
    for rows in split(logits, data, [4, 4, 2]):
        total = total.merge(Metrics.of(*rows))
    np.testing.assert_allclose(list(total.compute().values()), list(whole.values()), rtol=1e-6)


def test_rows_of_weight_zero_do_not_count():
    logits, data = batch(10)
    filled = {name: jnp.pad(value, (0, 6)) for name, value in data.items()}
    more = Metrics.of(jnp.pad(logits, ((0, 6), (0, 0)), constant_values=7.0), filled)
    assert more.compute() == Metrics.of(logits, data).compute()


def test_values_equal_numpy():
    logits, data = batch(10)
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(-1, keepdims=True)
    label = np.asarray(data["label"])
    got = Metrics.of(logits, data).compute()
    np.testing.assert_allclose(got["loss"], -np.log(p[np.arange(10), label]).mean(), rtol=1e-6)
    np.testing.assert_allclose(got["accuracy"], (p.argmax(-1) == label).mean(), rtol=1e-6)


def numbers(size, seed=0):
    """Predictions and targets of three outputs at four steps, some of weight 0."""
    rng = np.random.default_rng(seed)
    label = rng.normal(1, 2, (size, 4, 3)).astype(np.float32)
    outputs = label + rng.normal(size=label.shape).astype(np.float32)
    weight = (rng.random((size, 4)) < 0.7).astype(np.float32)
    return jnp.array(outputs), {"label": jnp.array(label), "weight": jnp.array(weight)}


STD = (1.0, 20.0, 0.1)


def test_rmse_and_r2_equal_numpy():
    outputs, data = numbers(10)
    got = RegressionMetrics.of(outputs, data).compute(STD)
    counted = np.asarray(data["weight"]) > 0
    error = np.asarray(outputs, np.float64)[counted] - (label := np.asarray(data["label"])[counted])
    mse, variance = (error**2).mean(0), label.astype(np.float64).var(0)
    np.testing.assert_allclose(got["loss"], mse.mean(), rtol=1e-5)
    np.testing.assert_allclose(got["rmse"], (np.sqrt(mse) * STD).mean(), rtol=1e-5)
    np.testing.assert_allclose(got["r2"], (1 - mse / variance).mean(), rtol=1e-5)


def test_metrics_of_numbers_are_sums_over_batches():
    outputs, data = numbers(10)
    whole, total = RegressionMetrics.of(outputs, data), RegressionMetrics.empty(3)
    for rows in split(outputs, data, [4, 4, 2]):
        total = total.merge(RegressionMetrics.of(*rows))
    got, want = (list(each.compute(STD).values()) for each in (total, whole))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(total.mean_loss(), want[0], rtol=1e-5)


def test_numbers_of_weight_zero_do_not_count():
    outputs, data = numbers(10)
    outputs = jnp.where(data["weight"][..., None] > 0, outputs, 1e6)
    clean = RegressionMetrics.of(numbers(10)[0], data).compute(STD)
    assert RegressionMetrics.of(outputs, data).compute(STD) == clean


def test_r2_is_zero_for_the_mean_and_one_for_the_truth():
    _, data = numbers(50)
    whole = {"label": data["label"], "weight": jnp.ones((50, 4))}
    mean = jnp.broadcast_to(whole["label"].mean((0, 1)), whole["label"].shape)
    assert abs(RegressionMetrics.of(mean, whole).compute(STD)["r2"]) < 1e-5
    assert RegressionMetrics.of(whole["label"], whole).compute(STD)["r2"] == 1


def test_r2_of_constant_targets_is_that_of_scikit_learn():
    data = {"label": jnp.full((5, 1), 0.3), "weight": jnp.ones(5)}
    found = [RegressionMetrics.of(jnp.full((5, 1), y), data).compute([1])["r2"] for y in (0.3, 1)]
    assert found == [1, 0]
