"""Laws of metrics: they are sums over examples."""

import jax
import jax.numpy as jnp
import numpy as np

from lru.training.metrics import Metrics


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
