"""Recall: the label depends on the cue alone."""

import numpy as np
import pytest

from lru.data.recall import Recall
from lru.errors import UserError

TINY = dict(
    length=6, classes=3, distractors=5, position=2, num_train=3_000, num_validation=7, num_test=5
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return Recall.create(tmp_path_factory.mktemp("data"), **TINY)


def arrays(dataset, split):
    rows = list(dataset.source(split))
    return np.stack([row["inputs"] for row in rows]), np.array([row["label"] for row in rows])


def test_the_label_is_the_token_at_the_position(generated):
    for split in ("train", "validation", "test"):
        inputs, labels = arrays(generated, split)
        assert (inputs[:, 2] == 1 + labels).all()


def test_every_other_token_is_a_distractor(generated):
    inputs, _ = arrays(generated, "train")
    others = np.delete(inputs, 2, axis=1)
    assert set(others.ravel()) == set(range(4, 9))


def test_labels_are_drawn_uniformly(generated):
    _, labels = arrays(generated, "train")
    counts = np.bincount(labels, minlength=3)
    assert counts.sum() == 3_000 and np.abs(counts - 1_000).max() < 5 * 1_000**0.5


def chi_square(tokens, labels):
    """The chi-squared statistic of tokens against labels, and its degrees of freedom."""
    seen = np.unique(tokens)
    counts = np.array([[(tokens[labels == k] == token).sum() for token in seen] for k in range(3)])
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    return ((counts - expected) ** 2 / expected).sum(), 2 * (len(seen) - 1)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 5])
def test_no_other_position_depends_on_the_label(generated, step):
    inputs, labels = arrays(generated, "train")
    statistic, freedom = chi_square(inputs[:, step], labels)
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    statistic, _ = chi_square(inputs[:, 2], labels)
    assert statistic == pytest.approx(
        2 * 3_000
    )  # at the position of the cue, the statistic shows it


def test_distractors_of_different_steps_are_independent(generated):
    inputs, _ = arrays(generated, "train")
    others = np.delete(inputs, 2, axis=1).astype(float)
    correlation = np.corrcoef(others.T) - np.eye(5)
    assert np.abs(correlation).max() < 5 / 3_000**0.5


def test_no_token_is_padding(generated):
    assert all(row["length"] == 6 and row["inputs"].min() > 0 for row in generated.source("test"))


@pytest.mark.parametrize("position", [0, 5])
def test_the_cue_may_be_first_or_last(tmp_path, position):
    inputs, labels = arrays(Recall.create(tmp_path, **TINY | {"position": position}), "test")
    assert (inputs[:, position] == 1 + labels).all()
    assert (np.delete(inputs, position, axis=1) > 3).all()


def test_one_step_is_a_sequence(tmp_path):
    inputs, labels = arrays(Recall.create(tmp_path, **TINY | dict(length=1, position=0)), "test")
    assert (inputs == 1 + labels[:, None]).all()


def test_sizes_for_the_model_are_correct(generated):
    assert (generated.num_classes, generated.vocab_size, generated.max_length) == (3, 9, 6)
    assert generated.kind == "artificial"
    assert [len(generated.source(split)) for split in ("train", "validation", "test")] == [
        3_000, 7, 5,
    ]  # fmt: skip


def test_equal_seeds_give_equal_data_and_other_seeds_give_other_data(generated, tmp_path):
    again, other = (Recall.create(tmp_path / f"{seed}", **TINY, seed=seed) for seed in (0, 1))
    for split in ("train", "validation", "test"):
        inputs, _ = arrays(generated, split)
        assert (arrays(again, split)[0] == inputs).all()
        assert (arrays(other, split)[0] != inputs).any()


def test_splits_are_drawn_independently(generated):
    train, _ = arrays(generated, "train")
    assert (arrays(generated, "validation")[0][:5] != arrays(generated, "test")[0]).any()
    assert (arrays(generated, "validation")[0] != train[:7]).any()


def test_a_larger_split_starts_with_the_examples_of_a_smaller_one(generated, tmp_path):
    larger = Recall.create(tmp_path, **TINY | dict(num_train=10, num_validation=9))
    for split, same in (("train", 10), ("validation", 7), ("test", 5)):
        assert (arrays(larger, split)[0][:same] == arrays(generated, split)[0][:same]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(position=6), "position is 6; expected less than length=6: the first step is 0"),
        (dict(position=-1), "position is -1; expected at least 0"),
        (dict(length=0), "length is 0; expected at least 1"),
        (dict(classes=1), "classes is 1; expected at least 2"),
        (dict(distractors=0), "distractors is 0; expected at least 1"),
        (dict(distractors=253), "distractors=253 make 256 tokens; expected at most 255"),
        (dict(num_test=0), "num_test is 0; expected at least 1"),
        (dict(seed=-1), "seed is -1; expected at least 0"),
        (dict(length=6.0), "length is 6.0; expected int"),
        (dict(lenght=6), "no option 'lenght'; did you mean 'length'"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Recall.create(tmp_path, **TINY | options)
    assert not list(tmp_path.iterdir())


def test_tokens_up_to_255_are_stored_in_bytes(tmp_path):
    dataset = Recall.create(tmp_path, **TINY | dict(distractors=252, length=600))
    inputs, _ = arrays(dataset, "test")
    assert inputs.max() == 255 and dataset.vocab_size == 256
