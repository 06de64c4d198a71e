"""Laws of the page and the animation, for any number of layers."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lru.analysis.modes import Modes
from lru.analysis.pages import _horizon, save_animation, save_page
from lru.analysis.plots import plot_trajectory
from lru.errors import UserError

RNG = np.random.default_rng(0)


def layers(number, directions=1, size=20):
    def modes():
        lam = RNG.uniform(0.5, 0.99, size) * np.exp(1j * RNG.uniform(0, 6, size))
        return Modes(lam, RNG.normal(size=(size, 3)) + 0j, RNG.normal(size=(3, size)) + 0j)

    return {f"layer{i}": tuple(modes() for _ in range(directions)) for i in range(number)}


@pytest.fixture
def figures(monkeypatch):
    """Collects the figures that would be saved as files."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    return saved


@pytest.mark.parametrize(
    ("number", "titles"), [(1, [1]), (3, [1, 2, 3]), (11, [1, 3, 5, 7, 9, 11])]
)
def test_a_page_has_a_column_for_each_of_up_to_six_layers(number, titles, figures, tmp_path):
    initial, trained = layers(number), layers(number)
    save_page(initial, trained, tmp_path / "page.png", "title")
    axes = np.reshape(figures[0].axes, (6, len(titles)))
    assert [axis.get_title() for axis in axes[0]] == [f"layer {title}" for title in titles]
    for column, title in zip(axes.T, titles):
        dots = [collection.get_offsets() @ [1, 1j] for collection in column[0].collections]
        want = [modes[f"layer{title - 1}"][0].lam for modes in (initial, trained)]
        np.testing.assert_allclose(dots, want)
        near = [collection.get_offsets() for collection in column[1].collections]
        for offsets, lam in zip(near, want):
            np.testing.assert_allclose(offsets[:, 1], 1 - abs(lam))
            np.testing.assert_allclose(offsets[:, 0], abs(np.angle(lam)))
        assert len(column[5].lines) == 2
    assert all(axis.get_xlabel() for axis in axes.flat)
    assert all(axis.get_ylabel() for axis in axes[:, 0])


def test_a_page_of_few_modes_has_no_histograms(figures, tmp_path):
    save_page(layers(2, size=19), layers(2, size=19), tmp_path / "page.png", "title")
    assert len(figures[0].axes) == 3 * 2


def test_a_page_of_a_bidirectional_model_has_both_directions_in_its_legend(figures, tmp_path):
    save_page(layers(2, 2), layers(2, 2), tmp_path / "page.png", "title")
    (legend,) = figures[0].legends
    labels = {text.get_text() for text in legend.get_texts()}
    assert labels == {"initial", "trained", "initial, backward", "trained, backward"}


def test_an_animation_has_one_frame_per_evaluation(tmp_path):
    path = RNG.uniform(size=(4, 3)) * np.exp(1j * RNG.uniform(size=(4, 3)))
    save_animation([0, 4, 8, 12], {"a": path, "b": path}, tmp_path / "path.gif")
    with Image.open(tmp_path / "path.gif") as image:
        assert image.n_frames == 4
        durations = []
        for frame in range(4):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert sum(durations) >= 5000 and durations[-1] == 2000


def test_a_long_animation_keeps_the_ends_and_evenly_spaced_frames(monkeypatch, tmp_path):
    monkeypatch.setattr("lru.analysis.pages._MOST_FRAMES", 3)
    path = np.linspace(-0.9, 0.9, 50)[:, None] + 0j
    save_animation(list(range(50)), {"a": path}, tmp_path / "path.gif")
    with Image.open(tmp_path / "path.gif") as image:
        assert image.n_frames == 3


def test_an_unknown_format_raises(tmp_path):
    with pytest.raises(UserError, match="page.x; expected a name that ends in .png"):
        save_page(layers(1), layers(1), tmp_path / "page.x", "title")
    with pytest.raises(UserError, match="path.mp4; expected a file name that ends in .gif"):
        save_animation([0], {"a": np.zeros((1, 1))}, tmp_path / "path.mp4")


def test_each_frame_shows_the_trajectory_so_far(monkeypatch, tmp_path):
    shown = []

    def note(axis, path):
        shown.append(path)
        return plot_trajectory(axis, path)

    monkeypatch.setattr("lru.analysis.pages.plot_trajectory", note)
    path = np.linspace(-0.9, 0.9, 6).reshape(3, 2) + 0j
    save_animation([0, 4, 8], {"a": path}, tmp_path / "path.gif")
    for number, part in enumerate(shown, start=1):
        np.testing.assert_array_equal(part, path[:number])
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("lam", "steps"),
    [
        ([np.exp(-1 / 10), -np.exp(-1 / 40)], 200),
        ([0.01], 10),  # a time scale counts as two steps at least
        ([np.exp(-1e-9)], 100_000),
        ([1.0], 10),
    ],
)
def test_responses_are_drawn_until_the_slowest_mode_has_fallen_to_e_to_the_minus_5(lam, steps):
    assert _horizon(np.array(lam)) == pytest.approx(steps, abs=1)
