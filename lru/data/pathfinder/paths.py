"""Dashed paths that keep clear of each other: how they begin, and how they grow.

Neither of two long paths minds the latest dash of the other, and distractors do not mind the last
of the first path, because the program that drew LRA's images forgets them: so two paths touch in a
quarter of the images of 32 pixels, and in a sixth at 128.

Two long paths find room together in few attempts only, one of thirty to one of two thousand, so
that many attempts are made at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lru.data.pathfinder.dashes import TURNS, Dashes

_AT_ONCE = 64  # attempts at two paths
_PATIENCE = 10_000  # so many times
_DASH_TRIES = 3  # to lay a dash, before its path is given up
_DISTRACTOR_TRIES = 5  # to lay a distractor, before it is left out
_TAKEN = 77  # above 0.3 of 255: where no distractor may begin
_SCARCE = 0.01  # of all pixels; where fewer are free, no distractor begins


class Dash(NamedTuple):
    """A short line, drawn from the end that is farther from where its path begins.

    The first dash of a path is drawn from where the path begins.
    """

    end: tuple[int, int]  # y downwards, x to the right
    pose: int  # in which direction it is drawn from there, see `Dashes`


Path = list[Dash]
Some = tuple[np.ndarray, np.ndarray]  # dashes: their ends, each as one number, and their poses


class Growth:
    """A path that grows in many attempts at once, in each until it has nowhere to go.

    Attributes:
      occupied: by all but last dashes of paths that grow: (attempts, width**2) uint8. A dash is
        added to it when the next of its path is laid, because these two may touch.
    """

    def __init__(self, dashes: Dashes, occupied: np.ndarray, first: Some):
        self.dashes, self.occupied = dashes, occupied
        self._flat = occupied.reshape(-1)
        self._path = [first]  # (attempts,) each; dashes where an attempt has failed mean nothing
        self._pivots = first[0] + dashes.flat(dashes.pivot[first[1]])

    def grow(self, rng: np.random.Generator, attempts: np.ndarray) -> np.ndarray:
        """Adds a dash in those attempts, and returns those of them in which that was possible.

        The dash turns around the next pivot, to a pixel of the circle that is drawn by how little
        is occupied around it and by how straight the path will be; so again if it does not fit.
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
        """Returns in which of the attempts the mask of such a dash would overlap nothing."""
        pixels = self._at(attempts, ends)[:, None] + self.dashes.core[poses]
        return (self._flat.take(pixels) < self.dashes.room[poses]).all(axis=1)

    def occupy(self, attempts: np.ndarray, ends: np.ndarray, poses: np.ndarray) -> None:
        """Adds the masks of such dashes to what is occupied."""
        pixels = self._at(attempts, ends)[:, None] + self.dashes.pixels[poses]
        self._flat[pixels] = np.maximum(self._flat.take(pixels), self.dashes.shades[poses])

    def last(self, attempts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the last dashes of those attempts, as `occupy` takes them."""
        ends, poses = self._path[-1]
        return attempts, ends[attempts], poses[attempts]

    def path(self, attempt: int) -> Path:
        """Returns the path that grew in one attempt."""
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
    """Draws two paths that begin near each other, and grow by turns.

    Returns:
      The paths, and what they occupy, `(width**2,)`.

    Raises:
      ValueError: if there seems to be no room.
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
    raise ValueError(f"{_PATIENCE * _AT_ONCE:,} attempts found no room: {dashes.rules}")


def _two_beginnings(
    rng: np.random.Generator, dashes: Dashes
) -> tuple[tuple[Some, Some], np.ndarray]:
    """Draws the first dashes of two paths, far from the border and `seed_distance` apart.

    Returns:
      Both, in every attempt; and the attempts in which there are both.
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
    """Yields short paths, as many as there should be and there is room for.

    Args:
      rng: what decides.
      dashes: tables.
      occupied: by what is there already, `(width**2,)`; not changed.
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
    """Draws a path's first dash, anywhere that its mask touches nothing."""
    taken = occupied >= _TAKEN
    if np.count_nonzero(~taken) < _SCARCE * dashes.rules.size**2:
        return None
    start = dashes.frame * dashes.width
    for _ in range(_DASH_TRIES):
        pose = rng.integers(TURNS, size=1)
        blocked = taken[start:-start].copy()
        for shift in dashes.whole[pose[0]].tolist():
            blocked |= taken[start + shift : len(taken) - start + shift]
        places = np.flatnonzero(~blocked)
        if not len(places):
            return None
        end = start + rng.choice(places, 1)
        if dashes.can_begin(np.array(dashes.point(end[0])), pose[0]):
            return end, pose
    return None
