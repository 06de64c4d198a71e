"""The numbers behind Pathfinder's images: those of the Long Range Arena, and what they mean."""

from __future__ import annotations

import dataclasses
from typing import Any

RELEASED_LENGTHS = {"easy": 6, "intermediate": 9, "hard": 14}
RELEASED_SIZES = (32, 64, 128, 256)
# Beyond LRA: smaller images and shorter paths by the same algorithm, for small models.
PATH_LENGTHS = {"short": 3, **RELEASED_LENGTHS}
SIZES = (16, *RELEASED_SIZES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The numbers of an image, lengths in pixels; LRA's own are `Rules.of(...)`.

    Attributes:
      size: of the image, which is a square.
      padding: of its border, where no dash is.
      margins: each dash keeps this distance from others, one of these numbers in a whole image.
      dash_length: of a dash,
      thickness: and its thickness; in pixels of the finer drawing, a whole number.
      antialias: so many times finer a dash is drawn first.
      marker_radius: of the discs that mark two ends.
      seed_distance: between the first ends of the two paths; twice as far from the border.
      continuity: how straight paths are; from one dash to the next, a turn by an angle has the
        weight cos(continuity * angle)^2, and 0 beyond a right angle of this product.
      path_length: of both paths, in dashes.
      distractor_length: of a distractor, in dashes.
      num_distractors: how many distractors there are, as far as there is room.
      path_contrast: brightness of a path's dash, where 1 is a marker's.
      distractor_contrast: brightness of a distractor's dash.
    """

    size: int
    padding: int
    margins: tuple[int, ...]
    dash_length: int
    thickness: float
    antialias: int
    marker_radius: float
    seed_distance: int
    continuity: float
    path_length: int
    distractor_length: int
    num_distractors: int
    path_contrast: float
    distractor_contrast: float

    def __post_init__(self) -> None:
        width = self.thickness * self.antialias
        if width < 1 or width != int(width):
            raise ValueError(
                f"thickness={self.thickness} times antialias={self.antialias} is {width}, "
                "expected a whole number of pixels"
            )
        if self.size <= 4 * self.seed_distance:
            raise ValueError(
                f"size={self.size} leaves no place that is twice seed_distance={self.seed_distance}"
                " from every border"
            )
        positive = (*self.margins, self.padding, self.dash_length, self.distractor_length)
        if not self.margins or min(positive) < 1 or self.path_length < 2:
            raise ValueError(
                "margins, padding, dash_length and distractor_length are at least 1, and "
                f"path_length at least 2: {self}"
            )

    @classmethod
    def of(cls, resolution: int, difficulty: str = "hard") -> Rules:
        """Returns the numbers behind LRA's images of 32, 64, 128 or 256 pixels, or those of 16.

        Raises:
          ValueError: if there is no such size or difficulty.

        Example:
          >>> rules = Rules.of(128)
          >>> rules.path_length, rules.distractor_length, rules.num_distractors
          (14, 4, 8)
        """
        if resolution not in SIZES or difficulty not in PATH_LENGTHS:
            known = f"{SIZES} and {tuple(PATH_LENGTHS)}"
            raise ValueError(f"there are no images {difficulty!r} of {resolution!r}, only {known}")
        column: dict[str, Any] = {
            key: values[SIZES.index(resolution)] for key, values in _TABLE.items()
        }
        length = PATH_LENGTHS[difficulty]
        short = length // 3
        dashes = column.pop("distractor_dashes")
        number = dashes // short if short > 1 else 0  # there are none of a single dash
        column |= {"path_length": length, "distractor_length": short, "num_distractors": number}
        return cls(size=resolution, **column)


# Source, but for the first column: the docstrings of `lra_benchmarks/data/pathfinder.py`,
# google-research/long-range-arena.
# A path's contrast is what they call the snake's times the paddle's, a distractor's the snake's
# alone, because the program uses them so: at 32, distractors are the brighter ones.
_TABLE: dict[str, tuple[Any, ...]] = {
    "padding": (1, 1, 1, 1, 22),
    "margins": ((1,), (1,), (1,), (2, 3), (3,)),
    "dash_length": (2, 2, 5, 5, 5),
    "thickness": (0.5, 0.5, 1.0, 1.5, 2.0),
    "antialias": (2, 2, 2, 2, 2),
    "marker_radius": (1.5, 1.5, 2.5, 3.0, 5.0),
    "seed_distance": (3, 7, 12, 20, 27),
    "continuity": (1.0, 1.0, 1.8, 1.8, 1.8),
    "path_contrast": (2 * 0.75, 2 * 0.75, 0.8, 0.9, 1.0),
    "distractor_contrast": (2.0, 2.0, 0.8, 0.9, 1.0),
    "distractor_dashes": (20, 20, 22, 35, 30),
}
