import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lru.data.listops import ListOps
from lru.data.pipeline import (
    evaluation_batches,
    prefetch,
    read_all,
    stacked,
    training_batches,
)
from lru.errors import UserError

SIZES = st.sampled_from([(1, 1), (7, 3), (12, 4), (3, 8), (10, 10), (25, 6)])
SEEDS = st.integers(0, 2**32 - 1)


def make_source(num_examples):
    """Example i has label i."""
    return [
        {
            "inputs": np.full(5, i, np.int32),
            "length": np.int32(1 + i % 5),
            "label": np.int32(i),
        }
        for i in range(num_examples)
    ]


def labels(batches, steps):
    return [int(label) for step in steps for label in batches[step]["label"]]


def assert_equal(batch, other):
    assert batch.keys() == other.keys()
    for key in batch:
        np.testing.assert_array_equal(batch[key], other[key])


@given(SIZES, SEEDS)
def test_every_epoch_sees_every_example_exactly_once(sizes, seed):
    num_examples, batch_size = sizes
    batches = training_batches(make_source(num_examples), batch_size=batch_size, seed=seed)
    # Batches may span two epochs, so divide the stream of labels, not of batches.
    stream = labels(batches, range(-(-3 * num_examples // batch_size)))
    for epoch in range(3):
        seen = stream[epoch * num_examples : (epoch + 1) * num_examples]
        assert sorted(seen) == list(range(num_examples))


def test_every_epoch_has_its_own_order():
    batches = training_batches(make_source(50), batch_size=50, seed=0)
    orders = {tuple(labels(batches, [epoch])) for epoch in range(10)}
    assert len(orders) == 10


@given(SIZES, SEEDS, st.integers(0, 10**6))
def test_a_batch_is_a_function_of_seed_and_step(sizes, seed, step):
    num_examples, batch_size = sizes
    source = make_source(num_examples)
    batches = training_batches(source, batch_size=batch_size, seed=seed)
    batches[step + 3]  # earlier reads must have no effect
    again = training_batches(source, batch_size=batch_size, seed=seed)
    assert_equal(batches[step], again[step])


def test_consecutive_seeds_give_unrelated_orders():
    # If the seed were added to the epoch, seed 1 would begin with the second epoch of seed 0.
    source = make_source(40)
    epochs = Counter(
        tuple(labels(training_batches(source, batch_size=40, seed=seed), [epoch]))
        for seed, epoch in itertools.product(range(5), repeat=2)
    )
    assert len(epochs) == 25


def test_a_training_batch_holds_its_examples_unchanged():
    batch = training_batches(make_source(9), batch_size=4, seed=1)[1]
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "inputs": (np.int32, (4, 5)),
        "length": (np.int32, (4,)),
        "label": (np.int32, (4,)),
        "weight": (np.float32, (4,)),
    }
    np.testing.assert_array_equal(batch["inputs"], np.repeat(batch["label"][:, None], 5, axis=1))
    np.testing.assert_array_equal(batch["length"], 1 + batch["label"] % 5)
    np.testing.assert_array_equal(batch["weight"], 1)


@given(SIZES)
def test_evaluation_sees_every_example_once_in_order_in_batches_of_one_shape(sizes):
    num_examples, batch_size = sizes
    batches = list(evaluation_batches(make_source(num_examples), batch_size=batch_size))
    assert len(batches) == -(-num_examples // batch_size)
    assert {batch["inputs"].shape for batch in batches} == {(batch_size, 5)}
    assert {batch["weight"].dtype for batch in batches} == {np.dtype(np.float32)}
    whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    valid = whole["weight"] == 1
    assert whole["label"][valid].tolist() == list(range(num_examples))
    assert valid.sum() == num_examples == whole["weight"].sum()
    assert valid[:num_examples].all()


def test_padding_rows_are_zeros_of_length_1():
    *_, last = evaluation_batches(make_source(5), batch_size=4)
    assert last["weight"].tolist() == [1, 0, 0, 0]
    assert last["length"].tolist() == [5, 1, 1, 1]
    assert not last["inputs"][1:].any() and not last["label"][1:].any()
    assert last["inputs"][0].tolist() == [4] * 5


def test_evaluation_batches_can_be_iterated_again():
    batches = evaluation_batches(make_source(5), batch_size=2)
    for first, second in zip(batches, batches, strict=True):
        assert_equal(first, second)


@pytest.mark.parametrize("first_step", [0, 1, 5, 123_456])
def test_reading_ahead_changes_neither_order_nor_content(first_step):
    batches = training_batches(make_source(11), batch_size=4, seed=3)
    ahead = prefetch(batches, first_step)
    for step in range(first_step, first_step + 20):
        assert_equal(next(ahead), batches[step])


def test_reading_ahead_reads_only_a_little_ahead():
    read = []

    class Watched(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    ahead = prefetch(training_batches(Watched(make_source(100)), batch_size=2, seed=0))
    for _ in range(3):
        next(ahead)
    ahead.close()
    assert len(read) <= 2 * (3 + 4)


def test_an_error_of_the_source_raises_where_the_batch_is_requested():
    class Broken(list):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(prefetch(training_batches(Broken([1, 2]), batch_size=2, seed=0)))


def test_bulk_reads_give_the_same_batches_as_single_reads(tmp_path):
    options = {"min_length": 3, "max_length": 20, "pad_to": 20, "num_train": 9}
    source = ListOps.create(tmp_path, num_validation=1, num_test=1, **options).source("train")
    batches = training_batches(source, batch_size=4, seed=0)
    plain = training_batches([source[i] for i in range(9)], batch_size=4, seed=0)
    for step in range(5):
        assert_equal(batches[step], plain[step])


@given(SIZES, st.integers(1, 6), st.integers(0, 30))
def test_stacked_batches_equal_the_single_batches(sizes, most, first):
    num_examples, batch_size = sizes
    batches = training_batches(make_source(num_examples), batch_size=batch_size, seed=0)
    spans = [(first, most), (first + most, 1)]
    for (step, count), found in zip(spans, stacked(batches, spans, most), strict=True):
        for i in range(most):
            one = {key: values[i] for key, values in found.items()}
            assert_equal(one, batches[step + min(i, count - 1)])


def test_read_all_returns_every_example_in_the_narrowest_type():
    split = read_all(make_source(2_300))  # in three chunks, the first with smaller numbers
    assert {key: values.dtype.name for key, values in split.items()} == {
        "inputs": "uint16", "length": "uint8", "label": "uint16", "weight": "float32",
    }  # fmt: skip
    np.testing.assert_array_equal(split["label"], np.arange(2_300))
    np.testing.assert_array_equal(split["inputs"], np.arange(2_300)[:, None].repeat(5, axis=1))
    negative = read_all([{"x": np.int32(-1)}, {"x": np.int32(200)}])["x"]
    assert (negative.dtype, negative.tolist()) == (np.int16, [-1, 200])


def test_a_split_that_is_too_large_is_not_read():
    read = []

    class Watched(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    bytes_each = 5 + 1 + 1 + 4  # up to 200 examples
    assert read_all(make_source(200), 200 * bytes_each)["label"].shape == (200,)
    assert read_all(make_source(200), 200 * bytes_each - 1) is None
    assert read_all(Watched(make_source(5_000)), 1_000) is None
    assert len(read) == 1_000


def test_impossible_arguments_raise():
    with pytest.raises(UserError, match="batch size is 0"):
        training_batches(make_source(3), batch_size=0, seed=0)
    with pytest.raises(UserError, match="batch size is -1"):
        evaluation_batches(make_source(3), batch_size=-1)
    with pytest.raises(UserError, match="seed for shuffling is -1"):
        training_batches(make_source(3), batch_size=1, seed=-1)
    with pytest.raises(UserError, match="the source is empty"):
        evaluation_batches([], batch_size=1)
