"""Notebooks equal their .py files, were run from beginning to end, and are small.

`.ci/run` checks that they still run.
"""

from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
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
    assert text.count("\nassert ") + text.count("assert_allclose(") >= 3


@each_notebook
def test_it_is_small_enough_for_git(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
