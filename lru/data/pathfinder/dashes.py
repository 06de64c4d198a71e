"""Tables of all possible dashes: their pixels, and where the next dash of a path may end."""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

from lru.data.pathfinder.rules import Rules

TURNS = 360  # directions in which a path may begin, one per degree
_OVERLAP = 459  # 1.8 * 255: two masks overlap where their sum is at least this


class Dashes:
    """Tables of the properties of dashes that depend only on the rules and a margin.

    A dash has an end and a pose, a number that encodes the direction in which its line is drawn
    from the end. The first dash of a path is drawn from the beginning of the path in one of 360
    directions, and its pose is the angle in degrees, 0 to 359. Any other dash turns around a pivot,
    which lies one margin beyond the previous dash. Its end is the i-th pixel of a circle around the
    pivot, its line is drawn from the end towards the pivot, and its pose is 360 + i. The mask of a
    dash is its line, thickened by the margin on all sides.

    The occupancy is an image of bytes: its value at a pixel is the largest value of the masks that
    were added there. The image has a frame, which is wide enough for everything that reaches beyond
    the image. The frame and the border of the image count as occupied. The occupancy is flattened:
    the index of a pixel is `y * width + x`, and an offset is the difference between two indices.

    Attributes:
      frame: the width of the frame.
      width: the width of the image with its frame.
      radius: the radius of a square around the end of a dash; the square contains the whole dash
        and is 2 radius + 1 pixels wide.
      lines: the line of each pose in this square, (poses, 2 radius + 1, 2 radius + 1) uint8.
      masks: the mask of each pose in this square, with the same shape.
      pixels: offsets from the end of a dash to the nonzero pixels of its mask, (poses, pixels);
        the last pixel is repeated for poses with fewer pixels.
      shades: the values of the mask at `pixels`, uint8.
      core: offsets from the end of a dash to all pixels where its mask may overlap another
        mask, (poses, core).
      room: bounds at `core`; a dash fits if the occupancy is below the bound at all these pixels.
      whole: a list with an array for each pose of a first dash: the offsets from the end of the
        dash to the pixels where its mask is 255.
      head: y and x from the beginning of a path to the other end of its first dash, (360, 2).
      pivot: y and x from the beginning of a path to the pivot behind it, (360, 2).
      onward: offsets from a pivot to the next pivot, across a dash of each pose, (poses,).
      step: offsets from a pivot to the pixels of the circle around it, (n,).
      ahead: for a dash of each pose, indices in `step` of the pixels where the next dash may end,
        (poses, ahead).
      weights: the relative probabilities of the pixels in `ahead`, regardless of the occupancy,
        (poses, ahead); 0 where `ahead` is padded.
      near: offsets from a pivot to all pixels within the margin of each pixel of `ahead`,
        (poses, near, ahead).
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
        """Flattens pixels or offsets (y, x), `(..., 2)`, to one number for each pair."""
        return points @ np.array([self.width, 1])

    def point(self, end: int) -> tuple[int, int]:
        """Returns (y, x) of a flattened pixel, relative to the image without its frame."""
        y, x = divmod(int(end), self.width)
        return y - self.frame, x - self.frame

    def empty(self) -> np.ndarray:
        """Returns the occupancy of an image without dashes: that of the border and the frame."""
        occupied = np.full((self.width, self.width), 255, np.uint8)
        inner = slice(self.frame + self.rules.padding, -self.frame - self.rules.padding)
        occupied[inner, inner] = 0
        return occupied.reshape(-1)

    def can_begin(self, points: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Returns whether first dashes at points `(..., 2)`, and their pivots, are in the image."""
        ends = np.stack([points, points + self.head[poses], points + self.pivot[poses]])
        return np.all((ends >= 0) & (ends < self.rules.size), axis=(0, -1))

    def far(self, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lower and the exclusive upper bounds of the beginning of the first path.

        Both are (y, x) for each given pose of the path's first dash, `(n, 2)`. Within the bounds,
        the pixels of this dash in `whole` are at least twice `seed_distance` from the edges of the
        image.
        """
        border = 2 * self.rules.seed_distance
        low, high = (self._extent[poses, side] for side in range(2))
        return border - low, self.rules.size - border - high

    def _draw(self, angles: np.ndarray) -> None:
        lines, masks = zip(*map(self._line_and_mask, angles))
        self.lines, self.masks = np.array(lines), np.array(masks)
        self.pixels, self.shades = self._where(self.masks > 0)
        # Occupancy is at most 255, so smaller values of a mask never overlap.
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
        """Returns offsets and values of the chosen pixels of each mask, padded to one length."""
        most = chosen.sum(axis=(1, 2)).max()
        points = [np.argwhere(one) for one in chosen]
        points = [np.pad(one, ((0, most - len(one)), (0, 0)), mode="edge") for one in points]
        y, x = np.moveaxis(np.array(points), -1, 0)
        shades = self.masks[np.arange(len(chosen))[:, None], y, x]
        return self.flat(np.stack([y, x], axis=-1) - self.radius), shades


@functools.cache
def marker(rules: Rules) -> np.ndarray:
    """Returns a square uint8 image of a marker, with room for its blurred edge."""
    radius, scale = math.ceil(rules.marker_radius) + 3, rules.antialias
    y, x = np.ogrid[: (2 * radius + 1) * scale, : (2 * radius + 1) * scale]
    disc = np.hypot(y - radius * scale, x - radius * scale) <= rules.marker_radius * scale
    return _reduce(np.where(disc, np.uint8(255), np.uint8(0)), 2 * radius + 1)


def _polar(distance: float, angles: np.ndarray) -> np.ndarray:
    """Returns (y, x) of the points at a distance in the given directions, rounded up: (..., 2)."""
    exact = distance * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return np.ceil(np.round(exact, 9)).astype(int)


def _circle(radius: int) -> np.ndarray:
    """Returns (y, x) of the pixels of a circle around the origin, without duplicates: (n, 2)."""
    angles = np.arange(0, 2 * np.pi, 1 / radius)
    exact = radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.unique(np.floor(np.round(exact, 9)).astype(int), axis=0)


def _disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2


def _dilate(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Returns the maximum over a neighborhood of the given shape around each pixel."""
    radius = len(shape) // 2
    padded, (height, width) = np.pad(image, radius), image.shape
    shifted = [padded[y : y + height, x : x + width] for y, x in np.argwhere(shape)]
    return np.maximum.reduce(shifted)


def _reduce(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
