import dataclasses

import pytest

from lru.data.pathfinder.rules import Rules


def test_the_rules_are_lras():
    small, large = Rules.of(32), Rules.of(128)
    assert dataclasses.asdict(small) == {
        "size": 32,
        "padding": 1,
        "margins": (1,),
        "dash_length": 2,
        "thickness": 0.5,
        "antialias": 2,
        "marker_radius": 1.5,
        "seed_distance": 7,
        "continuity": 1.0,
        "path_length": 14,
        "distractor_length": 4,
        "num_distractors": 5,
        "path_contrast": 1.5,
        "distractor_contrast": 2.0,
    }
    assert dataclasses.asdict(large) == {
        "size": 128,
        "padding": 1,
        "margins": (2, 3),
        "dash_length": 5,
        "thickness": 1.5,
        "antialias": 2,
        "marker_radius": 3.0,
        "seed_distance": 20,
        "continuity": 1.8,
        "path_length": 14,
        "distractor_length": 4,
        "num_distractors": 8,
        "path_contrast": 0.9,
        "distractor_contrast": 0.9,
    }
    assert (Rules.of(64).num_distractors, Rules.of(64).dash_length) == (5, 5)
    assert (Rules.of(256).num_distractors, Rules.of(256).padding) == (7, 22)


@pytest.mark.parametrize(
    ("difficulty", "lengths", "number"),
    [("short", (3, 1), 0), ("easy", (6, 2), 10), ("intermediate", (9, 3), 6), ("hard", (14, 4), 5)],
)
def test_a_difficulty_sets_the_lengths(difficulty, lengths, number):
    rules = Rules.of(32, difficulty)
    assert (rules.path_length, rules.distractor_length) == lengths
    assert rules.num_distractors == number


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"thickness": 0.7}, "thickness=0.7 times antialias=2 is 1.4; expected a whole number"),
        ({"antialias": 1}, "thickness=0.5 times antialias=1 is 0.5; expected a whole number"),
        ({"thickness": 0.0}, "thickness=0.0"),
        ({"seed_distance": 8}, "no pixel that is at least twice seed_distance=8"),
        ({"margins": ()}, "at least 1"),
        ({"margins": (0,)}, "at least 1"),
        ({"padding": 0}, "at least 1"),
        ({"dash_length": 0}, "at least 1"),
        ({"distractor_length": 0}, "at least 1"),
        ({"path_length": 1}, "path_length of at least 2"),
    ],
)
def test_impossible_rules_raise(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Rules.of(32), **changed)


@pytest.mark.parametrize("which", [(33,), (32, "hrad")])
def test_unknown_sizes_and_difficulties_raise(which):
    with pytest.raises(
        ValueError, match=r"in \(16, 32, 64, 128, 256\) and a difficulty in \('short'"
    ):
        Rules.of(*which)
