import dataclasses
import hashlib

import numpy as np
import pytest

from lru.data.pathfinder.dashes import Dashes
from lru.data.pathfinder.images import Scene, draw, image, scene
from lru.data.pathfinder.paths import Dash
from lru.data.pathfinder.rules import Rules

EASY = Rules.of(32, "easy")


def test_an_image_is_a_function_of_seed_and_index_alone():
    images, labels = draw(7, range(5), EASY)
    again, same = draw(7, [3, 0, 3], EASY)
    np.testing.assert_array_equal(again, images[[3, 0, 3]])
    assert same.tolist() == labels[[3, 0, 3]].tolist()
    assert len({one.tobytes() for one in images}) == 5
    other, _ = draw(8, range(5), EASY)
    assert not {one.tobytes() for one in images} & {one.tobytes() for one in other}


def test_both_labels_are_equally_likely():
    labels = np.array([scene(0, index, EASY).label for index in range(100)])
    assert abs(labels.mean() - 0.5) < 3 * 0.5 / np.sqrt(100)


@pytest.mark.parametrize("rules", [EASY, Rules.of(128, "easy")], ids=["32", "128"])
def test_markers_are_at_the_beginning_of_a_path_and_the_end_of_the_same_or_the_other(rules):
    seen = set()
    for index in range(16):
        drawn = scene(1, index, rules)
        begins = [path[0].end for path in drawn.paths]
        ends = [path[-1].end for path in drawn.paths]
        beginning, ending = begins.index(drawn.markers[0]), ends.index(drawn.markers[1])
        assert (beginning == ending) == drawn.label
        seen.add((beginning, ending))
        assert drawn.margin in rules.margins
    assert len(seen) == 4


def test_dashes_and_markers_have_the_position_and_brightness_of_the_scene():
    rules = dataclasses.replace(EASY, thickness=2.0, path_contrast=0.5, distractor_contrast=0.25)
    long, short = Dash((8, 5), 0), Dash((24, 5), 0)
    drawn = Scene(1, ((16, 16), (16, 24)), ([long], []), [[short]], margin=1)
    found = image(drawn, rules).astype(float)
    line = Dashes(rules, 1).lines[0]
    radius, expected = len(line) // 2, np.zeros((32, 40))
    expected[8 - radius : 9 + radius, 5 : 6 + radius] = 0.5 * line[:, radius:]
    expected[24 - radius : 25 + radius, 5 : 6 + radius] = 0.25 * line[:, radius:]
    for y, x in drawn.markers:
        distance = np.hypot(*np.mgrid[-y : 32 - y, -x : 40 - x])
        assert (found[distance[:, :32] <= 1] > 150).all()
        expected[distance < 6] = np.nan
    left = expected[:, 6:32]
    known = ~np.isnan(left)
    np.testing.assert_allclose(found[:, 6:][known], left[known], atol=1)
    assert found[8, 5:8].mean() > 1.8 * found[24, 5:8].mean()


def test_the_brightest_pixel_is_white_and_the_background_is_black():
    for resolution in (32, 128):
        images, _ = draw(0, range(3), Rules.of(resolution, "easy"))
        assert images.max(axis=(1, 2)).tolist() == [255] * 3
        assert (np.median(images, axis=(1, 2)) == 0).all()


def test_markers_at_the_border_are_cut_off():
    drawn = scene(0, 0, EASY)
    corners = ((0, 0), (31, 31))
    assert image(drawn._replace(markers=corners), EASY).shape == (32, 32)


def test_seed_0_gives_the_same_images_as_before():
    # If a new NumPy or Pillow changes random numbers or lines, increase Pathfinder.VERSION.
    digests = []
    for resolution in (32, 128):
        images, labels = draw(0, range(3), Rules.of(resolution))
        digests.append(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16])
    assert digests == ["3ee7064752ad6075", "30a608ffcd08d430"]
