import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lru.data.pipeline import prefetch
from lru.data.streams import begins_pass, stream_batches
from lru.errors import UserError

LENGTHS = st.integers(2, 90)
SIZES = st.integers(1, 9)


def scored(batches):
    """All pairs (input, target) of weight 1, stream by stream, in order."""
    whole = {key: np.concatenate([batch[key] for batch in batches], axis=1) for key in batches[0]}
    assert set(whole["weight"].ravel().tolist()) <= {0.0, 1.0}
    return [
        [(int(i), int(t)) for i, t, w in zip(inputs, targets, weight) if w]
        for inputs, targets, weight in zip(whole["inputs"], whole["label"], whole["weight"])
    ]


@given(LENGTHS, SIZES, SIZES)
def test_every_token_but_the_first_is_predicted_once_in_order(length, batch, unroll):
    batches = list(stream_batches(np.arange(length), batch_size=batch, unroll=unroll))
    streams = scored(batches)
    assert sum(streams, []) == [(i, i + 1) for i in range(length - 1)]
    sizes = [len(stream) for stream in streams]
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-max(sizes) // unroll)


@given(LENGTHS, SIZES, SIZES)
def test_unused_steps_are_zeros_at_the_end_of_the_last_batch(length, batch, unroll):
    *others, last = stream_batches(np.arange(length) + 1, batch_size=batch, unroll=unroll)
    assert all(other["weight"].all() for other in others)
    assert (np.diff(last["weight"], axis=1) <= 0).all()
    for key in ("inputs", "label"):
        assert ((last[key] == 0) == (last["weight"] == 0)).all()


@pytest.mark.parametrize(
    ("length", "dropped", "whole"),
    [
        (5_356_211, 1_071, 1_072),  # the training split of PTB, divided by position
        (2_932_405, 586, 587),  # War and Peace
        (90_000_000, 17_999, 18_000),  # enwik8 and text8
        (297_567, 59, 60),  # the test split of PTB; the authors leave out 0.9 % of it
    ],
)
def test_a_pass_has_as_many_steps_as_the_authors_pass_or_one_more(length, dropped, whole):
    tokens = np.broadcast_to(np.uint8(1), length)
    assert (length // 100 - 1) // 50 == dropped  # complete chunks of a hundred rows of the text
    assert len(stream_batches(tokens)) == whole


def test_bytes_become_int32_and_weights_float32():
    batch = stream_batches(np.arange(256, dtype=np.uint8), batch_size=3, unroll=4)[5]
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "inputs": (np.int32, (3, 4)),
        "label": (np.int32, (3, 4)),
        "weight": (np.float32, (3, 4)),
    }
    assert batch["inputs"].tolist()[:2] == [[20, 21, 22, 23], [105, 106, 107, 108]]


def test_a_batch_is_a_function_of_its_index_and_passes_repeat():
    batches = stream_batches(np.arange(50), batch_size=3, unroll=4)
    assert len(batches) == 5
    steps = prefetch(batches.repeat(), first_step=3)
    for step in range(3, 13):
        for key, value in next(steps).items():
            assert np.array_equal(value, batches[step % 5][key])


def test_a_pass_begins_at_the_start_of_the_text():
    batches = stream_batches(np.arange(50) + 1, batch_size=3, unroll=4)
    endless = batches.repeat()
    at_the_start = [endless[step]["inputs"][0, 0] == 1 for step in range(12)]
    assert [begins_pass(step, len(batches)) for step in range(12)] == at_the_start


@pytest.mark.parametrize(
    ("length", "sizes", "message"),
    [
        (9, {"batch_size": 0}, "the batch size is 0 and unroll is 50; expected at least 1"),
        (9, {"unroll": 0}, "the batch size is 100 and unroll is 0; expected at least 1"),
        (1, {}, "the number of tokens in the text is 1; expected at least 2"),
        (0, {}, "the number of tokens in the text is 0"),
    ],
)
def test_short_texts_and_small_sizes_raise(length, sizes, message):
    with pytest.raises(UserError, match=message):
        stream_batches(np.zeros(length, np.uint8), **sizes)
