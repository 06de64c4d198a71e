import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from lru.data.pathfinder.dashes import TURNS, Dashes, marker
from lru.data.pathfinder.rules import Rules

CASES = [(32, 1), (128, 2), (128, 3)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def dashes(request):
    resolution, margin = request.param
    return Dashes(Rules.of(resolution), margin)


def direction(dashes, pose):
    """The direction (dy, dx) in which a dash with this pose is drawn from its end."""
    if pose < TURNS:
        return np.array([np.sin(np.radians(pose)), np.cos(np.radians(pose))])
    y, x = circle(dashes)[pose - TURNS]
    return -np.array([y, x]) / np.hypot(y, x)


def circle(dashes):
    """The sorted pixels of the circle on which the next dash may end."""
    radius = dashes.rules.dash_length + dashes.margin
    found = set()
    for i in range(int(2 * np.pi * radius) + 1):
        exact = radius * np.sin(i / radius), radius * np.cos(i / radius)
        found.add(tuple(int(np.floor(value + 1e-12)) for value in exact))
    return sorted(found)


def some_poses(dashes):
    return [0, 17, 90, 135, 180, 269, 270, 359, *range(TURNS, len(dashes.masks), 7)]


def test_a_mask_is_the_line_thicker_by_the_margin(dashes):
    rules = dashes.rules
    centre = 2 * dashes.radius
    around = np.arange(-2 * dashes.margin, 2 * dashes.margin + 1)
    disc = np.hypot(*np.meshgrid(around, around)) <= 2 * dashes.margin
    for pose in some_poses(dashes):
        fine = Image.new("L", (2 * centre + 1, 2 * centre + 1))
        y, x = centre + np.ceil(np.round(2 * rules.dash_length * direction(dashes, pose), 6))
        line = [(centre, centre), (int(x), int(y))]
        ImageDraw.Draw(fine).line(line, fill=255, width=int(2 * rules.thickness))
        grown = ndimage.grey_dilation(np.asarray(fine), footprint=disc, mode="constant")
        for found, expected in (
            (dashes.lines[pose], fine),
            (dashes.masks[pose], Image.fromarray(grown)),
        ):
            reduced = expected.resize(found.shape, Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(found, np.asarray(reduced))


def test_a_line_has_the_length_of_a_dash(dashes):
    for pose in range(len(dashes.lines)):
        line = dashes.lines[pose].astype(float)
        middle = np.array(ndimage.center_of_mass(line)) - dashes.radius
        expected = dashes.rules.dash_length / 2 * direction(dashes, pose)
        assert np.abs(middle - expected).max() < 0.8, pose
        assert line[dashes.radius, dashes.radius] > 60


def test_pixels_and_room_are_equivalent_to_the_mask(dashes):
    for pose in some_poses(dashes):
        for other in (0, 100, 204, 255):
            canvas = np.zeros(dashes.width**2, np.uint8)
            centre = dashes.width * (dashes.width // 2) + dashes.width // 2
            canvas[centre + dashes.pixels[pose]] = dashes.shades[pose]
            square = canvas.reshape(dashes.width, dashes.width)
            middle = slice(dashes.width // 2 - dashes.radius, dashes.width // 2 + dashes.radius + 1)
            np.testing.assert_array_equal(square[middle, middle], dashes.masks[pose])
            overlap = (dashes.masks[pose].astype(float) + other).max() / 255 >= 1.8
            assert (other < dashes.room[pose]).all() != overlap
            assert set(dashes.core[pose]) <= set(dashes.pixels[pose])


def test_ends_are_weighted_by_the_straightness_of_the_path(dashes):
    pixels = circle(dashes)
    assert dashes.step.tolist() == [y * dashes.width + x for y, x in pixels]
    for pose in some_poses(dashes):
        dy, dx = direction(dashes, pose) * (1 if pose < TURNS else -1)
        expected = np.zeros(len(pixels))
        for i, (y, x) in enumerate(pixels):
            turn = np.arccos(np.clip((y * dy + x * dx) / np.hypot(y, x), -1, 1))
            expected[i] = np.cos(min(dashes.rules.continuity * turn, np.pi / 2)) ** 2
        found = np.zeros(len(pixels))
        found[dashes.ahead[pose]] = dashes.weights[pose]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_near_has_the_pixels_within_the_margin(dashes):
    pixels = circle(dashes)
    reach = range(-dashes.margin, dashes.margin + 1)
    disc = [(y, x) for y in reach for x in reach if y * y + x * x <= dashes.margin**2]
    for pose in some_poses(dashes):
        for column, i in enumerate(dashes.ahead[pose]):
            y, x = pixels[i]
            expected = {(y + dy) * dashes.width + x + dx for dy, dx in disc}
            assert set(dashes.near[pose][:, column]) == expected


def test_pivots_are_a_margin_behind_a_beginning_and_beyond_each_dash(dashes):
    length, margin = dashes.rules.dash_length, dashes.margin
    for pose in some_poses(dashes):
        along = direction(dashes, pose) * (1 if pose < TURNS else -1)
        onward = dashes.onward[pose] + (y_offset := dashes.width // 2)
        moved = np.array([onward // dashes.width, onward % dashes.width - y_offset])
        assert np.abs(moved - (length + 2 * margin) * along).max() < 1
        if pose < TURNS:
            assert np.abs(dashes.head[pose] - length * along).max() < 1
            assert np.abs(dashes.pivot[pose] + margin * along).max() < 2


def test_the_first_path_begins_where_its_dash_is_far_from_the_border(dashes):
    border, size = 2 * dashes.rules.seed_distance, dashes.rules.size
    for pose in some_poses(dashes)[:8]:
        y, x = np.nonzero(dashes.masks[pose] == 255)
        y, x = y - dashes.radius, x - dashes.radius
        low, high = dashes.far(np.array([pose]))
        for i, offsets in enumerate((y, x)):
            allowed = [
                point
                for point in range(size)
                if (point + offsets >= border).all() and (point + offsets < size - border).all()
            ]
            assert allowed == list(range(low[0, i], high[0, i]))


def test_only_the_border_is_occupied_at_first(dashes):
    inner = slice(dashes.frame, -dashes.frame)
    image = dashes.empty().reshape(dashes.width, dashes.width)
    assert (image[inner, inner] == 0).sum() == (dashes.rules.size - 2 * dashes.rules.padding) ** 2
    assert (image == 0).sum() == (image[inner, inner] == 0).sum()
    assert dashes.point(dashes.frame * dashes.width + dashes.frame + 3) == (0, 3)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_a_marker_is_a_disc(resolution):
    rules = Rules.of(resolution)
    disc = marker(rules) / 255
    middle = len(disc) // 2
    assert disc[middle, middle] > 0.9
    # Pixels of the enlarged image count if their centre is within the radius.
    fine = np.arange(-20, 21)
    area = (np.hypot(*np.meshgrid(fine, fine)) <= 2 * rules.marker_radius).sum() / 4
    assert abs(disc.sum() - area) < 0.05 * area
    assert disc[0].max() < 0.02
