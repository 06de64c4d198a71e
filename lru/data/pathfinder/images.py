"""Draws images of Pathfinder: do two markers lie at the ends of one dashed path, or of two?

The task is from Linsley et al. (2018) and Kim et al. (2020), with the options of the Long Range
Arena (Tay et al. 2021). The rules are those of the program that drew LRA's images, with one
difference. To decide whether a path can begin at a pixel, this package tests a dash at that pixel;
the original program tests a dash one pixel down and one pixel to the right. That program takes no
seed, so the images drawn here differ from the released images.

Source: https://github.com/drewlinsley/pathfinder, `snakes.py` and `snakes2.py`, where a path is a
"snake" and a dash is a "paddle".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lru.data.pathfinder.dashes import Dashes, marker
from lru.data.pathfinder.paths import Path, distractors, two_paths
from lru.data.pathfinder.rules import Rules

_dashes = functools.cache(Dashes)


class Scene(NamedTuple):
    """The label and the content of an image: two markers, two paths, and distractors."""

    label: int  # 1 if both markers are on one path, else 0
    markers: tuple[tuple[int, int], tuple[int, int]]  # (y, x) of a beginning and an end
    paths: tuple[Path, Path]
    distractors: list[Path]
    margin: int


def scene(seed: int, index: int, rules: Rules) -> Scene:
    """Draws the random content of the image with this index; both labels are equally likely.

    Raises:
      ValueError: if there is no room for two paths.

    Example:
      >>> drawn = scene(seed=0, index=3, rules=Rules.of(32))
      >>> [len(path) for path in drawn.paths], [len(path) for path in drawn.distractors]
      ([14, 14], [4, 4, 4, 4, 4])
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    label, beginning = rng.integers(2, size=2).tolist()
    margin = rules.margins[rng.integers(len(rules.margins))]
    dashes = _dashes(rules, margin)
    paths, occupied = two_paths(rng, dashes)
    short = list(distractors(rng, dashes, occupied))
    ending = beginning if label else 1 - beginning
    markers = paths[beginning][0].end, paths[ending][-1].end
    return Scene(label, markers, paths, short, margin)


def image(scene: Scene, rules: Rules) -> np.ndarray:
    """Renders a scene as `(size, size)` uint8; the background is 0, the brightest pixel 255."""
    dashes, disc = _dashes(rules, scene.margin), marker(rules)
    canvas = np.zeros((dashes.width, dashes.width), np.float32)

    def add(point: tuple[int, int], square: np.ndarray) -> None:
        y, x = (coordinate + dashes.frame - len(square) // 2 for coordinate in point)
        window = canvas[y : y + len(square), x : x + len(square)]
        np.maximum(window, square, out=window)

    for paths, contrast in (
        (scene.paths, rules.path_contrast),
        (scene.distractors, rules.distractor_contrast),
    ):
        for dash in (dash for path in paths for dash in path):
            add(dash.end, contrast * dashes.lines[dash.pose])
    for point in scene.markers:
        add(point, disc)
    inner = canvas[dashes.frame : -dashes.frame, dashes.frame : -dashes.frame]
    return np.rint(inner * (255 / inner.max())).astype(np.uint8)


def draw(seed: int, indices: Iterable[int], rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images `(n, size, size)` and labels `(n,)` with these indices, both uint8.

    The seed, the index and the rules determine an image.

    Example:
      >>> images, labels = draw(0, range(10, 12), Rules.of(32))
      >>> bool((images[1] == draw(0, [11], Rules.of(32))[0]).all()), labels.tolist()
      (True, [0, 0])
    """
    scenes = [scene(seed, index, rules) for index in indices]
    images = [image(drawn, rules) for drawn in scenes]
    return np.stack(images), np.array([drawn.label for drawn in scenes], np.uint8)
