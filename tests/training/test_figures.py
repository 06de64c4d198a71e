"""The figures of a run show its metrics and eigenvalues."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lru.training import figures

ROWS = [
    {"step": 5, "split": "train", "loss": 2.0, "accuracy": 0.1},
    {"step": 10, "split": "train", "loss": 1.5, "accuracy": 0.2},
    {"step": 10, "split": "validation", "loss": 1.6, "accuracy": 0.15},
    {"step": 20, "split": "validation", "loss": 1.2, "accuracy": 0.35},
    {"step": 20, "split": "test", "loss": 1.3, "accuracy": 0.3},
]


@pytest.fixture
def drawn(monkeypatch):
    """Collects the figures that are drawn."""
    found = []
    monkeypatch.setattr(
        figures, "Figure", lambda **options: found.append(Figure(**options)) or found[-1]
    )
    return found


def test_curves_show_loss_and_accuracy_in_per_cent_over_steps(drawn, tmp_path):
    figures.save_curves(ROWS, 20, tmp_path / "curves.png", title="a run")
    (figure,) = drawn
    for axis, name, unit in zip(figure.axes, ("loss", "accuracy"), (1, 100), strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert list(lines) == ["train", "validation", "test"]
        for split, line in lines.items():
            want = [(row["step"], unit * row[name]) for row in ROWS if row["split"] == split]
            np.testing.assert_allclose(line.get_xydata(), want)
        assert lines["validation"].get_markevery() == [1]  # the best
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_curves_of_numbers_show_loss_and_rmse(drawn, tmp_path):
    rows = [{k: v for k, v in row.items() if k != "accuracy"} | {"rmse": 9.0} for row in ROWS]
    figures.save_curves(rows, 20, tmp_path / "curves.png", title="a run")
    labels = [axis.get_ylabel() for axis in drawn[0].axes]
    assert labels == ["mean squared error, standardized", "RMSE"]
    assert drawn[0].axes[1].get_lines()[0].get_ydata().tolist() == [9.0, 9.0]


def test_a_spectrum_shows_initial_and_trained_eigenvalues_of_each_layer(drawn, tmp_path):
    def layer(value):
        ones = np.ones((1, 1), np.float32)
        matrices = {name: ones for name in ("B_re", "B_im", "C_re", "C_im")}
        return {"a": np.float32([value]), "b": np.float32([0.0]), "D": ones[0], **matrices}

    before, after = ({"blocks_0": layer(value)} for value in (0.25, 0.75))
    assert figures.save_spectrum(before, after, tmp_path / "spectrum.png", "a run")
    points = {
        scatter.get_label(): scatter.get_offsets().data.tolist()
        for scatter in drawn[0].axes[0].collections
    }
    assert points == {"initial": [[0.25, 0.0]], "trained": [[0.75, 0.0]]}
    assert not figures.save_spectrum({"head": {}}, {"head": {}}, tmp_path / "none.png", "a run")
    assert not (tmp_path / "none.png").exists()


def test_a_spectrum_close_to_the_circle_is_drawn_by_distance(drawn, tmp_path):
    ones = np.ones((1, 1), np.float32)
    matrices = {name: ones for name in ("B_re", "B_im", "C_re", "C_im")}

    def layer(modulus):
        lam = modulus * np.exp(0.1j)
        parts = {"a": np.float32([lam.real]), "b": np.float32([lam.imag]), "D": ones[0]}
        return {"blocks_0": parts | matrices}

    assert figures.save_spectrum(layer(0.99), layer(0.999), tmp_path / "near.png", "a run")
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    began, trained = (scatter.get_offsets().data[0] for scatter in axis.collections)
    np.testing.assert_allclose(began, [0.1, 0.01], rtol=1e-4)
    np.testing.assert_allclose(trained, [0.1, 0.001], rtol=1e-3)
