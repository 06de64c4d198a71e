"""All dashes that an image of Pathfinder can have: drawn once, and where the next may be."""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

from lru.data.pathfinder.rules import Rules

TURNS = 360  # directions in which a path may begin, a degree each
_OVERLAP = 459  # 1.8 of 255: two masks overlap where their sum is no less


class Dashes:
    """Tables of all that depends on the rules and on a margin alone.

    A dash has an end, and a pose: the direction in which its line is drawn from there. The first
    of a path is drawn from where the path begins, in one of 360 directions: its pose is 0 to 359.
    Any other turns around a pivot, a margin beyond the dash before; its end is the i-th pixel of
    the circle around it, and its line is drawn back from there: its pose is 360 + i.

    What is occupied is an image of bytes with a frame around it, wide enough for all that may
    reach beyond the border, which is occupied too. It is flat, and so are distances in it: a pixel
    is one number, `y * width + x`. A dash's mask is its line, thicker by the margin on all sides.

    Attributes:
      frame: how wide the frame is.
      width: of the image and the frame.
      radius: of the square around a dash's end that has all of it.
      lines: in this square, (poses, 2 radius + 1, 2 radius + 1) uint8.
      masks: there.
      pixels: from a dash's end to those of its mask that are not 0, (poses, pixels); where they
        are fewer, with the last of them again.
      shades: what the mask is there, uint8.
      core: from a dash's end to all pixels where its mask may overlap with another, (poses, core).
      room: what is occupied there has to be less than this, for the dash to fit.
      whole: from where a path begins to the pixels where its first dash's mask is 255, a list.
      head: from where a path begins to the other end of its first dash, y and x, (360, 2).
      pivot: from there to the pivot behind it, from which paths go on, (360, 2).
      onward: from a pivot to the next, where the dash between has that pose, (poses,).
      step: from a pivot to the pixels of the circle around it, (n,).
      ahead: which of these are likely enough where the last dash has that pose, (poses, ahead).
      weights: how likely each of them is.
      near: from a pivot to all pixels within the margin of each of them, (poses, near, ahead).
    """

    def __init__(self, rules: Rules, margin: int):
        self.rules, self.margin = rules, margin
        reach = rules.dash_length + margin
        self.radius = reach + math.ceil(rules.thickness)
        self.frame = max(self.radius + 2 * margin + 2, len(marker(rules)) // 2)
        self.width = rules.size + 2 * self.frame

        circle, degrees = _circle(reach), np.arange(TURNS) * np.pi / 180
        around = np.arctan2(circle[:, 0], circle[:, 1])
        growing = np.concatenate([degrees, around])  # the direction of a path after each pose
        self._draw(np.concatenate([degrees, around + np.pi]))
        self.head = _polar(rules.dash_length, degrees)
        self.pivot = self.head + _polar(-reach, degrees)
        self.onward = self.flat(_polar(reach + margin, growing))

        turn = np.abs((around - growing[:, None] + np.pi) % (2 * np.pi) - np.pi)
        weights = np.cos(np.minimum(turn * rules.continuity, np.pi / 2)) ** 2
        likely = weights > 1e-9
        self.step = self.flat(circle)
        self.ahead = np.argsort(~likely, axis=1, kind="stable")[:, : likely.sum(axis=1).max()]
        self.weights = np.take_along_axis(np.where(likely, weights, 0), self.ahead, axis=1)
        near = np.argwhere(_disc(margin)) - margin
        self.near = self.flat(circle[self.ahead][:, None] + near[:, None])

    def flat(self, points: np.ndarray) -> np.ndarray:
        """Returns distances `(..., 2)`, y and x, as one number each."""
        return points @ np.array([self.width, 1])

    def point(self, end: int) -> tuple[int, int]:
        """Returns a pixel of the image, given as one number, as y and x."""
        y, x = divmod(int(end), self.width)
        return y - self.frame, x - self.frame

    def empty(self) -> np.ndarray:
        """Returns what is occupied where nothing is: the border and the frame, flat."""
        occupied = np.full((self.width, self.width), 255, np.uint8)
        inner = slice(self.frame + self.rules.padding, -self.frame - self.rules.padding)
        occupied[inner, inner] = 0
        return occupied.reshape(-1)

    def can_begin(self, points: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Returns whether paths that begin at points `(..., 2)` begin within the image."""
        ends = np.stack([points, points + self.head[poses], points + self.pivot[poses]])
        return np.all((ends >= 0) & (ends < self.rules.size), axis=(0, -1))

    def far(self, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns from where and to where, exclusively, the first of two paths may begin.

        It is twice `seed_distance` from the border, and so is all of its first dash.
        """
        border = 2 * self.rules.seed_distance
        low, high = (self._extent[poses, side] for side in range(2))
        return border - low, self.rules.size - border - high

    def _draw(self, angles: np.ndarray) -> None:
        lines, masks = zip(*map(self._line_and_mask, angles))
        self.lines, self.masks = np.array(lines), np.array(masks)
        self.pixels, self.shades = self._where(self.masks > 0)
        # 255 is the most that is occupied: at less than this, nothing overlaps.
        self.core, shades = self._where(self.masks >= _OVERLAP - 255)
        self.room = _OVERLAP - shades.astype(np.int16)
        whole = [np.argwhere(mask == 255) - self.radius for mask in self.masks[:TURNS]]
        self.whole = [self.flat(points) for points in whole]
        self._extent = np.array([(points.min(axis=0), points.max(axis=0)) for points in whole])

    def _line_and_mask(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        rules, scale = self.rules, self.rules.antialias
        centre, size = self.radius * scale, 2 * self.radius + 1
        line = Image.new("L", 2 * (2 * centre + 1,))
        y, x = (centre + _polar(rules.dash_length * scale, np.array(angle))).tolist()
        width = round(rules.thickness * scale)
        ImageDraw.Draw(line).line([(centre, centre), (x, y)], fill=255, width=width)
        mask = _dilate(np.asarray(line), _disc(self.margin * scale))
        return _reduce(np.asarray(line), size), _reduce(mask, size)

    def _where(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixels of all masks, as many of each, and what the masks are there."""
        most = chosen.sum(axis=(1, 2)).max()
        points = [np.argwhere(one) for one in chosen]
        points = [np.pad(one, ((0, most - len(one)), (0, 0)), mode="edge") for one in points]
        y, x = np.moveaxis(np.array(points), -1, 0)
        shades = self.masks[np.arange(len(chosen))[:, None], y, x]
        return self.flat(np.stack([y, x], axis=-1) - self.radius), shades


@functools.cache
def marker(rules: Rules) -> np.ndarray:
    """Returns a marker in the middle of a square with room for its blurred edge, uint8."""
    radius, scale = math.ceil(rules.marker_radius) + 3, rules.antialias
    y, x = np.ogrid[: (2 * radius + 1) * scale, : (2 * radius + 1) * scale]
    disc = np.hypot(y - radius * scale, x - radius * scale) <= rules.marker_radius * scale
    return _reduce(np.where(disc, np.uint8(255), np.uint8(0)), 2 * radius + 1)


def _polar(distance: float, angles: np.ndarray) -> np.ndarray:
    """Returns how far y and x change at a distance in a direction, rounded up: (..., 2)."""
    exact = distance * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return np.ceil(np.round(exact, 9)).astype(int)


def _circle(radius: int) -> np.ndarray:
    """Returns the pixels of a circle around a point, each once, y and x: (n, 2)."""
    angles = np.arange(0, 2 * np.pi, 1 / radius)
    exact = radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.unique(np.floor(np.round(exact, 9)).astype(int), axis=0)


def _disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2


def _dilate(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Returns the largest value in the shape around each pixel."""
    radius = len(shape) // 2
    padded, (height, width) = np.pad(image, radius), image.shape
    parts = [padded[y : y + height, x : x + width] for y, x in np.argwhere(shape)]
    return np.maximum.reduce(parts)


def _reduce(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
