"""The command line of `lru.spectrum`: pages, animations and errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lru.spectrum
import lru.train
from lru.analysis.modes import model_modes
from lru.command_line import run
from lru.training.config import load_config
from lru.training.experiment import Experiment

SMOKE = "configs/lra_listops.py:smoke"


def page_data(file):
    """Returns the data of a page for a browser."""
    line = next(x for x in file.read_text().splitlines() if x.startswith("const DATA = "))
    return json.loads(line.removeprefix("const DATA = ").removesuffix(";"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


OVERRIDES = ["--config.train.steps=4", "--config.optimizer.learning_rate=0.1"]


def trained(workdir, data_dir, variant="", *overrides):
    """The command-line arguments of a finished run."""
    arguments = [f"--workdir={workdir}", f"--data_dir={data_dir}"]
    config = f"--config={SMOKE}{variant}"
    assert run(lru.train.main, [config, *arguments, *OVERRIDES, *overrides]) == 0
    return arguments


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, data_dir):
    return trained(tmp_path_factory.mktemp("work"), data_dir)


def test_every_public_name_exists():
    assert all(hasattr(lru.spectrum, name) for name in lru.spectrum.__all__)


def test_a_page_is_written_into_the_work_directory_and_its_path_printed(arguments, capsys):
    assert run(lru.spectrum.main, arguments) == 0
    name = arguments[0].partition("=")[2] + "/spectrum_page.png"
    assert capsys.readouterr().out.splitlines()[-1] == f"see {name}"
    with Image.open(name) as image:
        assert min(image.size) > 400 and len(image.convert("L").getcolors()) > 50


def test_an_animation_shows_the_logged_eigenvalues(arguments, tmp_path, capsys):
    file = tmp_path / "path.gif"
    assert run(lru.spectrum.main, [*arguments, f"--animation={file}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"see {file}"
    with Image.open(file) as image:
        assert image.n_frames == 2  # steps 0 and 4
    assert {path.name for path in tmp_path.iterdir()} == {"path.gif"}


def test_a_page_for_a_browser_holds_the_logged_eigenvalues(arguments, tmp_path, capsys):
    workdir, file = Path(arguments[0].partition("=")[2]), tmp_path / "modes.html"
    assert run(lru.spectrum.main, [*arguments, f"--html={file}"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"see {file}"]
    steps, trajectories = lru.spectrum.read_trajectories(workdir)
    data = page_data(file)
    assert data["steps"] == steps == [0, 4]
    assert data["title"] == f"listops, LRU, {workdir.name}"
    assert [layer["name"] for layer in data["layers"]] == list(trajectories)
    assert {path.name for path in tmp_path.iterdir()} == {"modes.html"}


def test_the_page_and_the_animation_are_written_together(arguments, tmp_path, capsys):
    files = [
        f"--out={tmp_path}/a.png",
        f"--animation={tmp_path}/a.gif",
        f"--html={tmp_path}/a.html",
    ]
    assert run(lru.spectrum.main, [*arguments, *files]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.gif", "a.html"}


def test_a_run_is_read_with_its_initial_modes(arguments, data_dir):
    workdir = Path(arguments[0].partition("=")[2])
    modes = lru.spectrum.read_run(workdir, data_dir=data_dir)
    experiment = Experiment(load_config(SMOKE, OVERRIDES), data_dir)
    want = model_modes(experiment.init_state().params)
    assert modes.step == 4 and modes.initial.keys() == modes.trained.keys() == want.keys()
    for name, (direction,) in want.items():
        np.testing.assert_array_equal(modes.initial[name][0].into, direction.into)
        assert not np.allclose(modes.trained[name][0].lam, direction.lam)


def test_trajectories_go_from_the_initial_to_the_trained_eigenvalues(arguments, data_dir):
    workdir = Path(arguments[0].partition("=")[2])
    steps, trajectories = lru.spectrum.read_trajectories(workdir)
    modes = lru.spectrum.read_run(workdir, data_dir=data_dir)
    assert steps == [0, modes.step] and trajectories.keys() == modes.trained.keys()
    for name, path in trajectories.items():
        ends = modes.initial[name][0].lam, modes.trained[name][0].lam
        np.testing.assert_array_equal(path, np.complex64(ends))


def test_a_run_without_diagonal_layers_prints_one_line(data_dir, tmp_path, capsys):
    arguments = trained(tmp_path / "run", data_dir, ",tanh", "--config.model.num_layers=1")
    assert not (tmp_path / "run/spectra").exists()
    capsys.readouterr()
    assert run(lru.spectrum.main, arguments) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "has no Linear Recurrent Unit" in err[0]
    assert run(lru.spectrum.main, [*arguments, f"--animation={tmp_path / 'path.gif'}"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "holds no eigenvalues" in err[0]
    assert not (tmp_path / "path.gif").exists()
    assert run(lru.spectrum.main, [*arguments, f"--html={tmp_path / 'a.html'}"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "holds no eigenvalues" in err[0]
    assert not (tmp_path / "a.html").exists()


def test_a_page_without_a_file_extension_is_rejected(arguments, tmp_path, capsys):
    assert run(lru.spectrum.main, [*arguments, f"--out={tmp_path / 'page'}"]) == 2
    assert "page; expected a name that ends in .png" in capsys.readouterr().err
    assert not list(tmp_path.glob("page*"))


def test_a_directory_without_a_run_prints_an_error(tmp_path, capsys):
    for more in ([], ["--animation=path.gif"], ["--html=path.html"]):
        assert run(lru.spectrum.main, [f"--workdir={tmp_path}", *more]) == 2
        assert "holds no run" in capsys.readouterr().err


def test_a_damaged_config_prints_one_line(arguments, tmp_path, capsys):
    shutil.copytree(arguments[0].partition("=")[2], tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text('{"data": {}, "model": 5}')
    for more in ("--animation=path.gif", "--html=path.html"):
        assert run(lru.spectrum.main, [f"--workdir={tmp_path / 'run'}", more]) == 2
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1 and "config.json is damaged" in err[0]
