"""The options of Pathfinder's images, including the values of the Long Range Arena."""

from __future__ import annotations

import dataclasses
from typing import Any

RELEASED_LENGTHS = {"easy": 6, "intermediate": 9, "hard": 14}
RELEASED_SIZES = (32, 64, 128, 256)
# Not in LRA: smaller images and shorter paths, drawn by the same algorithm for small models.
PATH_LENGTHS = {"short": 3, **RELEASED_LENGTHS}
SIZES = (16, *RELEASED_SIZES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The options of an image; see `Rules.of` for LRA's options. Distances are in pixels.

    Attributes:
      size: the side of the square image.
      padding: the width of the border that dashes avoid.
      margins: the possible margins around dashes; each image uses one, drawn at random. Successive
        dashes are about two margins apart.
      dash_length: the length of a dash.
      thickness: the thickness of a dash; times `antialias`, it must be a positive whole number.
      antialias: the factor by which dashes and markers are drawn larger before they are scaled
        down.
      marker_radius: the radius of the two disks that serve as markers.
      seed_distance: the distance between the beginnings of the two paths; the first dash of the
        first path keeps about twice this distance, or more, from the edges of the image.
      continuity: the straightness of paths: a turn by `angle` from one dash to the next has the
        weight cos(continuity * angle)^2, or 0 if continuity * angle exceeds a right angle.
      path_length: the number of dashes of each of the two paths.
      distractor_length: the number of dashes of a distractor.
      num_distractors: the number of distractors; an image without room for all of them has fewer.
      path_contrast: the brightness of the paths, relative to the markers.
      distractor_contrast: the brightness of the distractors, relative to the markers.
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
                f"thickness={self.thickness} times antialias={self.antialias} is {width}; "
                "expected a whole number of pixels"
            )
        if self.size <= 4 * self.seed_distance:
            raise ValueError(
                f"size={self.size} has no pixel that is at least twice "
                f"seed_distance={self.seed_distance} from every border: choose a larger size"
            )
        positive = (*self.margins, self.padding, self.dash_length, self.distractor_length)
        if not self.margins or min(positive) < 1 or self.path_length < 2:
            raise ValueError(
                "expected margins, padding, dash_length and distractor_length of at least 1, and "
                f"path_length of at least 2, got {self}"
            )

    @classmethod
    def of(cls, resolution: int, difficulty: str = "hard") -> Rules:
        """Returns LRA's options, or similar options for resolution 16 or the difficulty "short".

        Raises:
          ValueError: if the resolution or the difficulty is unknown.

        Example:
          >>> rules = Rules.of(128)
          >>> rules.path_length, rules.distractor_length, rules.num_distractors
          (14, 4, 8)
        """
        if resolution not in SIZES or difficulty not in PATH_LENGTHS:
            raise ValueError(
                f"resolution={resolution!r} and difficulty={difficulty!r}; expected a resolution "
                f"in {SIZES} and a difficulty in {tuple(PATH_LENGTHS)}"
            )
        column: dict[str, Any] = {
            key: values[SIZES.index(resolution)] for key, values in _TABLE.items()
        }
        length = PATH_LENGTHS[difficulty]
        short = length // 3
        dashes = column.pop("distractor_dashes")
        number = dashes // short if short > 1 else 0  # distractors have at least two dashes
        column |= {"path_length": length, "distractor_length": short, "num_distractors": number}
        return cls(size=resolution, **column)


# Source, except for the first column: the docstrings of `lra_benchmarks/data/pathfinder.py`,
# google-research/long-range-arena.
# As in that program, the contrast of a path is the contrast of its "snake" times that of its
# "paddle", and the contrast of a distractor is that of its "snake" alone. Therefore distractors are
# brighter than paths in images of 32 x 32 pixels, and of 16 x 16.
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
