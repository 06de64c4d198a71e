"""What a type checker knows of the public calls; mypy checks this file (see pyproject.toml)."""

# mypy: warn-unused-ignores
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lru
from lru.baselines import GRU, S4D, S5
from lru.lattice import Lattice
from lru.models import LanguageModel, SequenceClassifier, SequenceTagger
from lru.ops.array_typing import Array


def layers(x: jax.Array, y: np.ndarray) -> None:
    for layer in (lru.LRU(4), S5(4), S4D(4), GRU(4, 1), Lattice(4, 1)):
        assert_type(layer(x), jax.Array)
        assert_type(layer(y, seq_lengths=[1, 2], reset=y, reverse=True), jax.Array)
        assert_type(layer(x, timesteps=y, return_carry=False, time_major=True), jax.Array)
        assert_type(layer(x, return_carry=True), tuple[Any, jax.Array])
    lru.LRU(4)(x, seq_length=[1])  # type: ignore[call-overload]


def other_calls(x: jax.Array, params: dict[str, jax.Array]) -> None:
    native = lru.nnx.LRU(4, 4, rngs=nnx.Rngs(0))
    assert_type(native(x), jax.Array)
    assert_type(native(x, return_carry=True), tuple[Any, jax.Array])
    assert_type(lru.layers.linear.lru_layer(params, x, method="auto"), jax.Array)
    assert_type(lru.layers.linear.lru_layer(params, x, return_carry=True), tuple[Any, jax.Array])
    assert_type(lru.linear_recurrence(x, x), tuple[jax.Array, jax.Array])
    lru.layers.linear.lru_layer(params, x, reversed=True)  # type: ignore[call-overload]
    print(lru.layer)  # type: ignore[attr-defined]


def models(x: jax.Array) -> None:
    classifier = SequenceClassifier(2, 4, 1, lru.LRU(4))
    assert_type(classifier(x, timesteps=x, train=True), jax.Array)
    tagger = SequenceTagger(2, 4, 1, lru.LRU(4), vocab_size=9)
    assert_type(tagger(x, seq_lengths=[3], timesteps=x), jax.Array)
    assert_type(tagger(x, return_carry=True), tuple[Any, jax.Array])
    assert_type(classifier(x, return_carry=True), tuple[Any, jax.Array])
    language = LanguageModel(5, 4, stack=Lattice(4, 1))
    assert_type(language(x), jax.Array)


def arrays(x: Array) -> None:
    assert_type(x, jax.Array)
    assert_type(jnp.sum(x), jax.Array)
