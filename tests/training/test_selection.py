"""Laws of selecting a checkpoint and of stopping early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lru.errors import UserError
from lru.training.selection import best_row, stops_early

RULE = dict(patience=3, least_improvement=1e-4)


def rows(*pairs):
    return [
        {"split": "validation", "step": i, "loss": loss, "accuracy": accuracy}
        for i, (loss, accuracy) in enumerate(pairs)
    ]


def test_accuracy_selects_then_loss_then_order():
    found = rows((0.9, 0.5), (0.8, 0.6), (0.7, 0.6), (0.7, 0.6), (0.1, 0.5))
    assert best_row(found, "accuracy")["step"] == 2


def test_loss_selects_then_order():
    assert best_row(rows((0.9, 0.5), (0.2, 0.4), (0.2, 0.6)), "loss")["step"] == 1


def test_the_lowest_rmse_selects_then_order():
    found = [
        {"split": "validation", "step": i, "loss": 9.0 - i, "rmse": rmse}
        for i, rmse in enumerate((0.5, 0.2, 0.2, 0.3))
    ]
    assert best_row(found, "rmse")["step"] == 1 and best_row(found, "loss")["step"] == 3


@pytest.mark.parametrize("by", ["accuracy", "rmse"])
def test_rows_without_the_metric_raise(by):
    found = [{"split": "validation", "step": 1_000, "loss": 1.0}]
    with pytest.raises(UserError, match=f"of step 1,000 have no {by}, which config.train.select"):
        best_row(found, by)


def test_only_validation_selects():
    found = rows((0.9, 0.5)) + [{"split": "test", "step": 9, "loss": 0.0, "accuracy": 1.0}]
    assert best_row(found, "loss")["step"] == best_row(found, "accuracy")["step"] == 0
    assert best_row([], "loss") is None


@pytest.mark.parametrize(
    ("losses", "previous", "best"),
    [
        ([3.0, 2.0, 1.0], False, False),
        ([1.0, 1.0, 1.0, 1.0], True, True),
        ([1.0, 1.0, 1.0], False, False),  # the first has no predecessor
        ([1.0, 2.0, 1.5, 1.2], False, True),  # rises, and falls again
        ([1.0, 0.99995, 0.9999, 0.99985], True, True),  # each improves by too little
        ([1.0, 2.0, 3.0, 0.5, 1.0, 2.0], False, False),  # the count restarts
        ([1.0, 2.0, 3.0, 4.0, 0.5], True, True),  # a later improvement does not count
    ],
)
def test_patience_counts_consecutive_evaluations(losses, previous, best):
    assert stops_early(losses, improvement_over="previous", **RULE) == previous
    assert stops_early(losses, improvement_over="best", **RULE) == best


def test_zero_patience_never_stops():
    rule = dict(patience=0, least_improvement=0.0, improvement_over="best")
    assert not stops_early([1.0] * 50, **rule)


@given(st.lists(st.floats(0, 9), max_size=12), st.sampled_from(["best", "previous"]))
def test_a_run_that_has_stopped_stays_stopped(losses, over):
    stops = [stops_early(losses[:n], improvement_over=over, **RULE) for n in range(len(losses) + 1)]
    assert stops == sorted(stops)
