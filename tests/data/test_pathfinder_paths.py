import dataclasses
import itertools

import numpy as np
import pytest

from lru.data.pathfinder import paths as pathfinder_paths
from lru.data.pathfinder.dashes import TURNS, Dashes
from lru.data.pathfinder.paths import Growth, distractors, two_paths
from lru.data.pathfinder.rules import Rules

CASES = [("easy", 32, 1), ("hard", 32, 1), ("easy", 128, 3), ("hard", 128, 2)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def drawn(request):
    """The tables of dashes, and the paths and distractors of a few images."""
    difficulty, resolution, margin = request.param
    dashes, scenes = Dashes(Rules.of(resolution, difficulty), margin), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        paths, occupied = two_paths(rng, dashes)
        scenes.append((paths, list(distractors(rng, dashes, occupied))))
    return dashes, scenes


def mask(dashes, dash):
    canvas = np.zeros((dashes.width, dashes.width), np.int64)
    y, x = (coordinate + dashes.frame - dashes.radius for coordinate in dash.end)
    canvas[y : y + 2 * dashes.radius + 1, x : x + 2 * dashes.radius + 1] = dashes.masks[dash.pose]
    return canvas


def test_paths_have_their_lengths(drawn):
    dashes, scenes = drawn
    for paths, short in scenes:
        assert [len(path) for path in paths] == [dashes.rules.path_length] * 2
        assert all(len(path) == dashes.rules.distractor_length for path in short)
        assert len(short) <= dashes.rules.num_distractors
    assert max(len(short) for _, short in scenes) > dashes.rules.num_distractors // 2


def test_dashes_overlap_only_if_consecutive_or_ignored(drawn):
    dashes, scenes = drawn
    border = dashes.empty().reshape(dashes.width, dashes.width).astype(int)
    end = dashes.rules.path_length
    for paths, short in scenes:
        long = [(which, i, paths[which][i]) for i in range(end) for which in (0, 1)]
        rest = [(2 + n, i, dash) for n, path in enumerate(short) for i, dash in enumerate(path)]
        placed = [(which, i, mask(dashes, dash)) for which, i, dash in long + rest]
        for (which, i, before), (other, j, one) in itertools.combinations(placed, 2):
            if which == other:
                checked = j > i + 1
            elif other < 2:
                checked = j > i + (other == 0)  # the latest dash of the other path is ignored
            else:
                checked = (which, i) != (0, end - 1)
            if checked and other >= 2 and j == 0:  # it begins on free pixels, except for its edges
                assert not ((one == 255) & (before / 255 > 0.3)).any()
            elif checked:
                assert (before + one).max() / 255 < 1.8
        for which, i, one in placed:
            assert (which >= 2 and i == 0) or (border + one).max() / 255 < 1.8


def test_each_dash_follows_a_gap_after_the_last_one_with_a_small_turn(drawn):
    dashes, scenes = drawn
    rules, gap = dashes.rules, 2 * dashes.margin
    for paths, short in scenes:
        for path in [*paths, *short]:
            first = np.array(path[0].end)
            tips = [first, first + dashes.head[path[0].pose], *(dash.end for dash in path[1:])]
            steps = np.diff(tips, axis=0)
            far = np.hypot(*steps.T)
            assert np.abs(far[1:] - rules.dash_length - gap).max() < 3
            angles = np.arctan2(*steps.T)
            turn = np.abs((np.diff(angles) + np.pi) % (2 * np.pi) - np.pi)
            assert turn.max() < np.pi / 2 / rules.continuity + 0.5


def test_two_paths_begin_near_each_other_and_far_from_the_border(drawn):
    dashes, scenes = drawn
    distance, size = dashes.rules.seed_distance, dashes.rules.size
    for paths, _ in scenes:
        first, second = (np.array(path[0].end) for path in paths)
        assert np.abs(np.hypot(*(first - second)) - distance) < 1
        assert min(*first, *(size - 1 - first)) >= 2 * distance - 1
        assert all(path[0].pose < TURNS <= dash.pose for path in paths for dash in path[1:])


@pytest.mark.parametrize("wall", [False, True])
def test_the_next_end_is_drawn_by_weight_among_free_pixels(wall):
    dashes, attempts = Dashes(Rules.of(128), 2), 8000
    pose = 30
    occupied = dashes.empty()
    centre = 64 * dashes.width + 64
    if wall:
        occupied.reshape(dashes.width, dashes.width)[:, 78:] = 200
    growth = Growth(
        dashes,
        np.broadcast_to(occupied, (1, *occupied.shape)).repeat(attempts, axis=0),
        (np.full(attempts, centre), np.full(attempts, pose)),
    )
    grown = growth.grow(np.random.default_rng(0), np.arange(attempts))
    assert len(grown) == attempts
    pivot = centre + dashes.flat(dashes.pivot[pose]) + dashes.onward[pose]
    # At an occupancy of 200 of 255, pixels behind the wall do not overlap, but are unlikely.
    free = [1 - occupied[pivot + dashes.near[pose][:, i]].max() / 255
            for i in range(len(dashes.ahead[pose]))]  # fmt: skip
    expected = dashes.weights[pose] * free
    expected = expected / expected.sum()
    ends = growth.last(grown)[1]
    for i, chance in zip(dashes.ahead[pose], expected):
        found = np.mean(ends == pivot + dashes.step[i])
        assert abs(found - chance) < 4 * np.sqrt(chance * (1 - chance) / attempts) + 1e-9


def test_a_dash_that_does_not_fit_is_tried_three_times(monkeypatch):
    dashes, attempts, coin = Dashes(Rules.of(32), 1), 4000, np.random.default_rng(1)
    centre = np.full(attempts, (dashes.width + 1) * (dashes.width // 2))
    growth = Growth(dashes, np.tile(dashes.empty(), (attempts, 1)), (centre, 0 * centre))
    tried = []

    def fits(which, ends, poses):
        tried.append(dict(zip(which.tolist(), ends.tolist())))
        return coin.random(len(which)) < 0.5

    monkeypatch.setattr(growth, "fits", fits)
    grown = growth.grow(np.random.default_rng(0), np.arange(attempts))
    assert abs(len(grown) / attempts - 7 / 8) < 4 * np.sqrt(7 / 64 / attempts)
    assert np.mean([tried[0][which] != end for which, end in tried[1].items()]) > 0.5


def test_a_path_fails_if_everything_ahead_is_occupied():
    dashes = Dashes(Rules.of(32), 1)
    occupied = np.stack([dashes.empty(), np.full_like(dashes.empty(), 255)])
    centre = np.full(2, (dashes.width + 1) * (dashes.width // 2))
    growth = Growth(dashes, occupied, (centre, np.zeros(2, int)))
    assert growth.grow(np.random.default_rng(0), np.arange(2)).tolist() == [0]
    assert len(growth.path(0)) == 2


def test_batched_attempts_have_the_distribution_of_single_ones(monkeypatch):
    # The distribution must not depend on the number of attempts. The extent of paths would shrink
    # if the fittest of many attempts were taken, because short ones need less room.
    dashes = Dashes(Rules.of(32, "easy"), 1)
    spread = []
    for at_once in (1, 64):
        monkeypatch.setattr(pathfinder_paths, "_AT_ONCE", at_once)
        paths = [two_paths(np.random.default_rng(seed), dashes)[0][0] for seed in range(80)]
        far = [np.hypot(*np.subtract(path[-1].end, path[0].end)) for path in paths]
        spread.append((np.mean(far), np.std(far) / np.sqrt(len(far))))
    (mean, error), (other, other_error) = spread
    assert abs(mean - other) < 4 * np.hypot(error, other_error)


def test_two_paths_without_room_raise(monkeypatch):
    monkeypatch.setattr(pathfinder_paths, "_PATIENCE", 2)
    rules = dataclasses.replace(Rules.of(32), path_length=100)
    with pytest.raises(ValueError, match="128 attempts found no room for a path with Rules"):
        two_paths(np.random.default_rng(0), Dashes(rules, 1))


def test_without_room_there_are_no_distractors():
    dashes, rng = Dashes(Rules.of(32), 1), np.random.default_rng(0)
    full = np.full(dashes.width**2, 255, np.uint8)
    assert list(distractors(rng, dashes, full)) == []
    empty = dashes.empty()
    assert len(list(distractors(rng, dashes, empty))) == dashes.rules.num_distractors
    assert (empty == dashes.empty()).all()


def test_distractors_begin_on_every_free_pixel_and_no_other():
    rules = dataclasses.replace(Rules.of(32), distractor_length=1, num_distractors=1)
    dashes, rng = Dashes(rules, 1), np.random.default_rng(0)
    occupied = dashes.empty()
    occupied.reshape(dashes.width, dashes.width)[:, : dashes.frame + 20] = 255
    begun = set()
    for _ in range(500):
        for path in distractors(rng, dashes, occupied):
            begun.add(path[0].end)
            whole = mask(dashes, path[0]) == 255
            assert not (whole.reshape(-1) & (occupied == 255)).any()
    assert {x for _, x in begun} == set(range(20, 31))
    assert {y for y, _ in begun} == set(range(1, 31))
