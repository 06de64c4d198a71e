"""Classifies sines sampled at random times, with and without timesteps, for docs/uneven_time.md.

    python scripts/uneven_time.py --out=results/uneven_time

Each series is the sum of a strong and a weak sine and noise, sampled at random times with gaps of
mean 1. Its class is the frequency of the strong sine. The same model learns the class in three
ways: from the values alone, from the values with the gaps as a second feature, and from the values
with the gaps as the `timesteps` of its layers. For each seed, `OUT/seedN.json` has the test
accuracies and the settings.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lru
from lru.command_line import Parser, path, run
from lru.io.files import write_atomically
from lru.models import SequenceClassifier
from lru.training.record import environment

FREQUENCIES = np.linspace(0.05, 0.4, 16)  # cycles per unit of time, one for each class
SETTINGS = {"batch": 64, "length": 64, "test": 4000}
LEARNING_RATE = 0.004  # falls to 0 along a cosine
WAYS = ("values", "feature", "timesteps")


class Series(NamedTuple):
    """A batch of B time series, each of T samples.

    Attributes:
      values: the values of the samples, `(B, T)`.
      gaps: the time from the previous sample to each sample, `(B, T)`; 1 for the first.
      labels: the class of each series, `(B,)`.
    """

    values: np.ndarray
    gaps: np.ndarray
    labels: np.ndarray


def sine_mixtures(rng: np.random.Generator, count: int) -> Series:
    """Draws series, each with its own times, frequencies, phases and noise.

    The first gap is 1; the others are exponentially distributed with mean 1. The weak sine has half
    the amplitude of the strong sine, and any frequency in the range of the classes. The noise has
    variance 1.
    """
    gaps = rng.exponential(size=(count, SETTINGS["length"]))
    gaps[:, 0] = 1.0
    times, labels = np.cumsum(gaps, axis=1), rng.integers(len(FREQUENCIES), size=count)
    weak = rng.uniform(FREQUENCIES[0], FREQUENCIES[-1], size=count)
    values = rng.normal(size=times.shape)
    for amplitude, frequency in [(1.0, FREQUENCIES[labels]), (0.5, weak)]:
        phases = rng.uniform(size=(count, 1))
        values += amplitude * np.sin(2 * np.pi * (frequency[:, None] * times + phases))
    return Series(values.astype(np.float32), gaps.astype(np.float32), labels)


def call(way: str, series: Series) -> dict[str, Any]:
    """Returns the arguments of the model's call."""
    features = [series.values, series.gaps] if way == "feature" else [series.values]
    arguments: dict[str, Any] = {"inputs": jnp.stack(features, axis=-1)}
    return arguments | ({"timesteps": series.gaps} if way == "timesteps" else {})


def train(way: str, seed: int, steps: int) -> tuple[SequenceClassifier, Any]:
    """Trains a model in one of `WAYS`, on new series at every step.

    Returns:
      The model and its trained variables.
    """
    mixer = lru.LRU(32, r_min=0.8, r_max=0.99, max_phase=np.pi)
    model = SequenceClassifier(len(FREQUENCIES), d_model=32, num_layers=2, mixer=mixer)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    draw = functools.partial(sine_mixtures, np.random.default_rng([seed, 0]))
    variables = jax.jit(model.init)(jax.random.key(seed), **call(way, draw(1)))
    step, state = make_step(way, model, optimizer), optimizer.init(variables["params"])
    for _ in range(steps):
        variables, state = step(variables, state, draw(SETTINGS["batch"]))
    return model, variables


def make_step(way: str, model: SequenceClassifier, optimizer: Any) -> Callable[..., Any]:
    """Returns a training step, a function `(variables, state, series) -> (variables, state)`."""

    def loss(params, variables, series):
        logits, updated = model.apply(
            variables | {"params": params}, **call(way, series), train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, series.labels)
        return losses.mean(), updated

    @jax.jit
    def step(variables, state, series):
        params = variables["params"]
        gradient, updated = jax.grad(loss, has_aux=True)(params, variables, series)
        change, state = optimizer.update(gradient, state)
        return {"params": optax.apply_updates(params, change), **updated}, state

    return step


def accuracy(way: str, seed: int, steps: int) -> float:
    """Trains a model in one of `WAYS`, and returns its accuracy on separate test series."""
    model, variables = train(way, seed, steps)
    test = sine_mixtures(np.random.default_rng([seed, 1]), SETTINGS["test"])
    logits = jax.jit(model.apply)(variables, **call(way, test))
    return float(np.mean(np.asarray(logits).argmax(axis=-1) == test.labels))


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="python scripts/uneven_time.py", description=__doc__)
    parser.add_argument("--out", required=True, type=path, help="the folder of the records")
    parser.add_argument(
        "--seeds", type=int, default=3, help="the number of seeds 0, 1, ...; default: 3"
    )
    parser.add_argument("--steps", type=int, default=600, help="training steps; default: 600")
    known = parser.parse_args(argv)
    known.out.mkdir(parents=True, exist_ok=True)
    for seed in range(known.seeds):
        started = time.perf_counter()
        found = {way: accuracy(way, seed, known.steps) for way in WAYS}
        settings = {"seed": seed, "steps": known.steps, **SETTINGS}
        record = {"accuracy": found, "settings": settings, **environment()}
        record["seconds"] = round(time.perf_counter() - started, 1)
        write_atomically(known.out / f"seed{seed}.json", json.dumps(record, indent=1) + "\n")
        print(f"seed {seed}: " + ", ".join(f"{way} {100 * a:.1f} %" for way, a in found.items()))


if __name__ == "__main__":
    sys.exit(run(main))
