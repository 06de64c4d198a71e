"""Settings out of range raise, and a very long training starts without delay."""

import itertools
import math

import pytest

from lru.errors import UserError
from lru.training.settings import Settings

STEPS = dict(steps=10, batch_size=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-4])
def test_a_negative_or_infinite_least_improvement_raises(value):
    with pytest.raises(UserError, match="config.train.least_improvement is .*; expected a finite"):
        Settings(**STEPS, least_improvement=value)


def test_more_steps_than_int32_raise():
    with pytest.raises(UserError, match="train.steps is 2147483648; expected at most 2,147,483,6"):
        Settings(steps=2**31, batch_size=1)
    epochs = Settings(steps=0, batch_size=1, epochs=10**20)
    with pytest.raises(UserError, match="epochs is 100000000000000000000, with 50 steps each; exp"):
        epochs.in_steps(50)


def test_calls_of_a_very_long_training_are_generated_lazily():
    spans = Settings(steps=2**31 - 1, batch_size=1, log_every=6, steps_per_call=4).spans(1)
    assert list(itertools.islice(spans, 3)) == [(1, 4), (5, 1), (6, 4)]
