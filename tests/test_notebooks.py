"""Notebooks equal their .py files, were run from beginning to end, and are small.

`.ci/run` checks that they still run.
"""

import base64
import io
import json
import re
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from run_notebooks import palette

from lru.spectrum import read_run, read_trajectories

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
MOST_BYTES = 400_000

each_notebook = pytest.mark.parametrize("name", NAMES)


def read(file):
    return jupytext.read(FOLDER / file)


def code(name):
    return [cell for cell in read(f"{name}.ipynb").cells if cell.cell_type == "code"]


def test_each_py_has_an_ipynb():
    assert len(NAMES) >= 5
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@each_notebook
def test_both_have_the_same_cells_in_the_same_order(name):
    source, made = (
        [(cell.cell_type, cell.source) for cell in read(f"{name}.{kind}").cells]
        for kind in ("py", "ipynb")
    )
    assert len(source) > 5
    assert made == source


@each_notebook
def test_every_cell_was_run_in_order(name):
    assert [cell.execution_count for cell in code(name)] == list(range(1, len(code(name)) + 1))


@each_notebook
def test_outputs_are_results_only(name):
    outputs = [output for cell in code(name) for output in cell.outputs]
    kinds = {(output.output_type, output.get("name", "")) for output in outputs}
    assert kinds <= {("display_data", ""), ("stream", "stdout")}
    assert any("image/png" in output.get("data", {}) for output in outputs)


@each_notebook
def test_claims_are_asserted(name):
    text = (FOLDER / f"{name}.py").read_text()
    assert len(re.findall(r"^ *assert |assert_allclose\(", text, re.MULTILINE)) >= 3


@each_notebook
def test_it_is_small_enough_for_git(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES


def pictures(name):
    """Yields the figures of a notebook."""
    for cell in code(name):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                content = io.BytesIO(base64.b64decode(output["data"]["image/png"]))
                with Image.open(content) as image:
                    yield image


@each_notebook
def test_figures_have_at_least_150_dots_per_inch(name):
    for image in pictures(name):
        assert min(image.info["dpi"]) > 149 and image.width > 900


@each_notebook
def test_all_figures_have_the_style_of_the_package(name):
    text = (FOLDER / f"{name}.py").read_text()
    assert text.count("plt.style.use(") == 1 and 'plt.style.use("lru.analysis.plots")' in text
    assert "rcParams" not in text


@each_notebook
def test_it_begins_with_what_it_needs_and_how_long_it_takes(name):
    beginning = read(f"{name}.py").cells[0]
    assert beginning.cell_type == "markdown" and beginning.source.startswith("# ")
    assert 'pip install -e ".[notebooks]"' in beginning.source and "minute" in beginning.source


@each_notebook
@pytest.mark.parametrize("folder", [ROOT, FOLDER], ids=["root", "notebooks"])
def test_its_paths_exist_from_the_root_and_from_its_folder(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    values = {}
    with plt.rc_context():
        exec(code(name)[0].source, values)  # imports and paths
    paths = [value for value in values.values() if isinstance(value, Path)]
    assert all(path.exists() for path in paths)
    assert values.get("ROOT", ROOT) == ROOT


def test_a_palette_preserves_size_resolution_and_colors():
    values = np.zeros((40, 60, 3), np.uint8)
    values[:20], values[:, :10] = (11, 60, 140), (255, 255, 255)
    given = io.BytesIO()
    Image.fromarray(values).save(given, "PNG", dpi=(150, 150))
    with Image.open(io.BytesIO(palette(given.getvalue()))) as image:
        assert image.mode == "P" and min(image.info["dpi"]) > 149
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), values)


def test_the_stored_run_is_small_and_has_spectra_and_the_score_of_its_record():
    run = FOLDER / "run"
    assert sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) < 1_000_000
    steps, trajectories = read_trajectories(run)
    modes = read_run(run)
    record = json.loads((run / "record.json").read_text())
    assert modes.step == record["test"]["step"] == steps[-1]
    for name, path in trajectories.items():
        np.testing.assert_allclose(path[-1], modes.trained[name][0].lam, rtol=1e-6)
    assert (
        f"{record['test']['accuracy']:.1%}".replace("%", " %") in (FOLDER / "README.md").read_text()
    )
