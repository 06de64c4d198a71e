"""Draws dashed paths that mostly keep a distance from each other.

As in the program that drew LRA's images, each of the two long paths ignores the latest dash of the
other, and distractors ignore the last dash of the first path. Therefore some paths touch.

If the two paths are long, few attempts find room for both. Therefore attempts are made in batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lru.data.pathfinder.dashes import TURNS, Dashes

_AT_ONCE = 64  # attempts to draw two paths, in one batch
_PATIENCE = 10_000  # batches of attempts before giving up
_DASH_TRIES = 3  # tries to place a dash before its path is discarded
_DISTRACTOR_TRIES = 5  # tries to place a distractor before it is left out
_TAKEN = 77  # just above 0.3 * 255; no distractor begins where the occupancy reaches it
_SCARCE = 0.01  # no distractor begins if a smaller share of the pixels is free


class Dash(NamedTuple):
    """A short line, drawn from one of its ends.

    The first dash of a path is drawn from the beginning of the path. Any other dash is drawn from
    the end that is farther along the path.
    """

    end: tuple[int, int]  # y points down, x to the right
    pose: int  # encodes the direction of the line from the end; see `Dashes`


Path = list[Dash]
Some = tuple[np.ndarray, np.ndarray]  # the flattened ends of dashes, and their poses


class Growth:
    """One path in each attempt of a batch; `grow` adds dashes to the paths.

    Attributes:
      occupied: the occupancy, (attempts, width**2) uint8, without the last dash of each growing
        path: a dash is added when the next dash is placed, because these two may touch.
    """

    def __init__(self, dashes: Dashes, occupied: np.ndarray, first: Some):
        self.dashes, self.occupied = dashes, occupied
        self._flat = occupied.reshape(-1)
        self._path = [first]  # (attempts,) each; meaningless in failed attempts
        self._pivots = first[0] + dashes.flat(dashes.pivot[first[1]])

    def grow(self, rng: np.random.Generator, attempts: np.ndarray) -> np.ndarray:
        """Tries to add a dash in each of the given attempts; returns the attempts where it fits.

        The dash turns around the next pivot and ends at a random pixel of a circle around the
        pivot. A pixel is more likely if the occupancy around it is lower and if the path stays
        straighter. If the dash does not fit, a pixel is drawn again, up to a limit.
        """
        dashes, last = self.dashes, self._path[-1][1][attempts]
        pivots = self._pivots[attempts] + dashes.onward[last]
        near = self._flat.take(self._at(attempts, pivots)[:, None, None] + dashes.near[last])
        total = ((255 - near.max(axis=1)) * dashes.weights[last]).cumsum(axis=1)
        chosen = np.full(len(attempts), -1)
        left = np.flatnonzero(total[:, -1] >= 255e-4)
        for _ in range(_DASH_TRIES):
            drawn = rng.random(len(left)) * total[left, -1]
            steps = dashes.ahead[last[left], (total[left] <= drawn[:, None]).sum(axis=1)]
            fits = self.fits(attempts[left], pivots[left] + dashes.step[steps], TURNS + steps)
            chosen[left[fits]] = steps[fits]
            left = left[~fits]
            if not len(left):
                break
        grown = chosen >= 0
        self._add(attempts[grown], pivots[grown], chosen[grown])
        return attempts[grown]

    def fits(self, attempts: np.ndarray, ends: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Returns whether the mask of each attempt's dash overlaps nothing in that attempt."""
        pixels = self._at(attempts, ends)[:, None] + self.dashes.core[poses]
        return (self._flat.take(pixels) < self.dashes.room[poses]).all(axis=1)

    def occupy(self, attempts: np.ndarray, ends: np.ndarray, poses: np.ndarray) -> None:
        """Adds each attempt's dash to the occupancy of that attempt."""
        pixels = self._at(attempts, ends)[:, None] + self.dashes.pixels[poses]
        self._flat[pixels] = np.maximum(self._flat.take(pixels), self.dashes.shades[poses])

    def last(self, attempts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the arguments of `occupy` for the last dash in each of the attempts."""
        ends, poses = self._path[-1]
        return attempts, ends[attempts], poses[attempts]

    def path(self, attempt: int) -> Path:
        """Returns the path in one attempt."""
        return [
            Dash(self.dashes.point(ends[attempt]), int(poses[attempt]))
            for ends, poses in self._path
        ]

    def _at(self, attempts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        return attempts * self.dashes.width**2 + pixels

    def _add(self, attempts: np.ndarray, pivots: np.ndarray, steps: np.ndarray) -> None:
        self.occupy(*self.last(attempts))
        ends, poses = (values.copy() for values in self._path[-1])
        ends[attempts], poses[attempts] = pivots + self.dashes.step[steps], TURNS + steps
        self._pivots[attempts] = pivots
        self._path.append((ends, poses))


def two_paths(rng: np.random.Generator, dashes: Dashes) -> tuple[tuple[Path, Path], np.ndarray]:
    """Draws two paths that begin near each other and grow alternately.

    Returns:
      The paths, and the occupancy `(width**2,)` of the image, without the first path's last dash.

    Raises:
      ValueError: if no attempt finds room for both paths.
    """
    for _ in range(_PATIENCE):
        beginnings, attempts = _two_beginnings(rng, dashes)
        occupied = np.tile(dashes.empty(), (_AT_ONCE, 1))
        first, second = (Growth(dashes, occupied, dash) for dash in beginnings)
        for _ in range(dashes.rules.path_length - 1):
            for path in (first, second):
                attempts = path.grow(rng, attempts)
        if len(attempts):
            one = attempts[0]
            second.occupy(*second.last(attempts[:1]))
            return (first.path(one), second.path(one)), occupied[one]
    raise ValueError(
        f"{_PATIENCE * _AT_ONCE:,} attempts found no room for a path with {dashes.rules}"
    )


def _two_beginnings(
    rng: np.random.Generator, dashes: Dashes
) -> tuple[tuple[Some, Some], np.ndarray]:
    """Draws the first dashes of two paths that begin about `seed_distance` apart.

    The first path begins far from the edges of the image; see `Dashes.far`.

    Returns:
      The first dashes of both paths in every attempt, and the indices of the attempts in which both
      were found.
    """
    poses, other_poses = rng.integers(TURNS, size=(2, _AT_ONCE))
    low, high = dashes.far(poses)
    points = low + np.floor(rng.random(low.shape) * (high - low)).astype(int)
    others, found = points.copy(), np.zeros(_AT_ONCE, bool)
    left = np.flatnonzero((low < high).all(axis=1))
    for _ in range(_DASH_TRIES):
        degrees, other_poses[left] = rng.integers(TURNS, size=(2, len(left)))
        away = np.stack([np.sin(degrees * np.pi / 180), np.cos(degrees * np.pi / 180)], axis=1)
        others[left] = points[left] + np.rint(dashes.rules.seed_distance * away).astype(int)
        found[left] = dashes.can_begin(others[left], other_poses[left])
        left = left[~found[left]]
    ends, other_ends = dashes.flat(np.stack([points, others]) + dashes.frame)
    return ((ends, poses), (other_ends, other_poses)), np.flatnonzero(found)


def distractors(rng: np.random.Generator, dashes: Dashes, occupied: np.ndarray) -> Iterator[Path]:
    """Yields `dashes.rules.num_distractors` short paths, or fewer if some find no room.

    Args:
      rng: the random number generator.
      dashes: the tables of dashes.
      occupied: the occupancy `(width**2,)`, which is not changed.
    """
    for _ in range(dashes.rules.num_distractors):
        for _ in range(_DISTRACTOR_TRIES):
            path = _distractor(rng, dashes, occupied)
            if path is not None:
                path.occupy(*path.last(np.zeros(1, int)))
                occupied = path.occupied[0]
                yield path.path(0)
                break


def _distractor(rng: np.random.Generator, dashes: Dashes, occupied: np.ndarray) -> Growth | None:
    first = _beginning(rng, dashes, occupied)
    if first is None:
        return None
    path, attempts = Growth(dashes, occupied[None].copy(), first), np.zeros(1, int)
    for _ in range(dashes.rules.distractor_length - 1):
        attempts = path.grow(rng, attempts)
    return path if len(attempts) else None


def _beginning(rng: np.random.Generator, dashes: Dashes, occupied: np.ndarray) -> Some | None:
    """Draws the first dash of a distractor in free space; returns None if no place is found."""
    taken = occupied >= _TAKEN
    if np.count_nonzero(~taken) < _SCARCE * dashes.rules.size**2:
        return None
    start = dashes.frame * dashes.width
    for _ in range(_DASH_TRIES):
        pose = rng.integers(TURNS, size=1)
        blocked = taken[start:-start].copy()
        for shift in dashes.whole[pose[0]].tolist():
            blocked |= taken[start + shift : len(taken) - start + shift]
        free = np.flatnonzero(~blocked)
        if not len(free):
            return None
        end = start + rng.choice(free, 1)
        if dashes.can_begin(np.array(dashes.point(end[0])), pose[0]):
            return end, pose
    return None
