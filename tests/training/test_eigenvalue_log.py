"""Laws of logged eigenvalues: reproducible, atomic files, none of later steps."""

import numpy as np
import pytest

from lru.analysis.modes import model_eigenvalues
from lru.errors import UserError
from lru.training.eigenvalue_log import EigenvalueLog


def params(seed):
    draw = np.random.default_rng(seed).normal
    names = ["a", "b", "B_re", "B_im", "C_re", "C_im"]
    layer = {name: draw(size=(2, 2)[len(name) == 1 :]) for name in names}
    return {"block_0": {"mixer": layer | {"D": draw(size=2)}}, "head": {"bias": draw(size=3)}}


@pytest.fixture
def logged(tmp_path):
    """The log of steps 0, 9 and 10."""
    spectra = EigenvalueLog(tmp_path / "spectra")
    for step in (0, 9, 10):
        spectra.write(step, params(step))
    return spectra


def test_trajectories_are_in_the_order_of_steps(logged):
    steps, paths = logged.trajectories()
    assert steps == [0, 9, 10]
    want = [model_eigenvalues(params(step))["block_0/mixer"] for step in steps]
    np.testing.assert_allclose(paths["block_0/mixer"], want, rtol=1e-6)
    assert list(paths) == ["block_0/mixer"]


def test_the_same_parameters_give_the_same_bytes(logged, tmp_path):
    before = (tmp_path / "spectra/9.npz").read_bytes()
    logged.write(9, params(9))
    assert (tmp_path / "spectra/9.npz").read_bytes() == before
    logged.write(9, params(8))
    assert (tmp_path / "spectra/9.npz").read_bytes() != before


def test_rewind_deletes_later_steps_and_partial_files(logged, tmp_path):
    (tmp_path / "spectra/12.npz.part").write_bytes(b"PK")
    logged.rewind(9)
    assert logged.steps() == [0, 9]
    assert {file.name for file in (tmp_path / "spectra").iterdir()} == {"0.npz", "9.npz"}


def test_a_model_without_diagonal_layers_writes_nothing(tmp_path):
    spectra = EigenvalueLog(tmp_path / "spectra")
    spectra.write(0, {"head": {"bias": np.ones(3)}})
    spectra.rewind(0)
    assert not (tmp_path / "spectra").exists()
    assert spectra.trajectories() == ([], {})


def test_a_damaged_file_raises_its_name(logged, tmp_path):
    (tmp_path / "spectra/9.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"9\.npz is damaged .* delete it"):
        logged.trajectories()
