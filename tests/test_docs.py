"""The code in the tutorials can be run, and has the results they describe."""

import importlib
import json
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.command_line import run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "notebooks/README.md")),
]
# All but the slowest.
LAWS = "padding or in_chunks or mirrored or resets_make or time_major or invalid_arguments"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_named_module_and_class_exists(page):
    for name in re.findall(r"`(lru(?:\.\w+)+)", page.read_text()):
        pkgutil.resolve_name(name)
    for path in re.findall(r"`((?:lru|scripts|configs|docs)/[\w/]+\.\w+)", page.read_text()):
        assert (ROOT / path).exists() or path == "lru/data/majority.py", path  # the reader's own


def reference():
    """Returns the directives of the reference: name, and its options in one text."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    return re.findall(r"\.\. auto\w+:: (\S+)\n((?:   :.*\n)*)", pages)


def test_the_reference_has_every_exported_name_once():
    names = [name for name, _ in reference()]
    assert len(names) == len(set(names))
    whole = {name for name, options in reference() if ":imported-members:" in options}
    assert whole == {"lru.models", "lru.baselines", "lru.nnx", "lru.spectrum", "lru.export"}
    assert {f"lru.{name}" for name in lru.__all__} <= set(names)


def test_the_reference_names_what_exists():
    for module, options in reference():
        listed = re.search(r":members: (.+)", options)
        for name in listed[1].split(", ") if listed else ():
            found = pkgutil.resolve_name(f"{module}.{name}").__module__
            assert found == module or ":imported-members:" in options, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_linked_file_of_a_page_exists(page):
    links = re.findall(r"\]\(([^)#:\s]+)[)#]", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_docstrings_become_restructured_text(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "docs")
    docstrings = importlib.import_module("docstrings")
    lines = [
        "The sum of `x`s for |lam| < 1.",
        "",
        "    h = a b",
        "",
        "Attributes: those of `A`, and",
    ]
    docstrings.convert(None, "function", "f", None, None, lines)
    text = "\n".join(lines)
    assert r"The sum of `x`\ s for \|lam\| < 1." in text
    assert ".. code-block:: none\n\n    h = a b\n" in text
    assert "The attributes are those of `A`, and:\n\nAttributes:" in text
    lines = [""]
    docstrings.convert(None, "class", "lru.LRU", lru.LRU, None, lines)
    assert ".. py:method:: __call__(inputs, *, initial_carry=None, " in "\n".join(lines)
    assert "See `lru.layers.mixers.Mixer.__call__`." in "\n".join(lines)


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    contents = re.findall(r"(?m)^((?:reference/)?\w+)$", index)
    pages = {str(page.relative_to(ROOT / "docs"))[:-3] for page in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index"} <= set(contents) and len(contents) == len(set(contents))


@pytest.fixture
def run_page(tmp_path, monkeypatch):
    """Saves the files in a tutorial, runs its other Python in order, and returns the names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(page):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        blocks = re.findall(r'```python(?: title="(.*?)")?\n(.*?)```', text, flags=re.DOTALL)
        for title, code in blocks:
            if title:
                Path(title).write_text(code)
        Path("shown.py").write_text("\n".join(code for title, code in blocks if not title))
        return runpy.run_path("shown.py")

    return run


SHAPES = {  # of what the last Python block of each guide leaves behind
    "quickstart": {"logits": (8, 100, 5)},
    "layer": {"logits": (8, 100, 5), "outputs": (8, 100, 32)},
    "lengths": {"together": (1, 12, 3)},
    "streaming": {"logits_so_far": (8, 10), "right": (8, 40, 32)},
    "bfloat16": {"carry": (8, 64), "y": (8, 100, 32)},
    "lattice": {"state": (8, 2, 32), "outputs": (8, 100, 32)},
    "spectra": {"slowest": ()},
}


@pytest.mark.parametrize("page", SHAPES)
def test_the_blocks_of_a_guide_run_in_order(page, run_page):
    names = run_page(page)
    assert {name: names[name].shape for name in SHAPES[page]} == SHAPES[page]


def test_padding_packing_and_streams_are_as_the_guides_say(run_page):
    names = run_page("lengths")
    np.testing.assert_allclose(names["padded"][1:, :4], names["alone"], atol=1e-6)
    np.testing.assert_allclose(names["together"].reshape(2, 6, 3), names["one_by_one"], atol=1e-6)
    names = run_page("streaming")
    np.testing.assert_allclose(names["right"], names["whole"][:, 60:], atol=1e-5)
    last = names["model"].apply(names["trained"], names["tokens"])
    np.testing.assert_allclose(names["logits_so_far"], last, atol=1e-4)


def test_bfloat16_keeps_the_state(run_page):
    names = run_page("bfloat16")
    assert (names["carry"].dtype, names["y"].dtype) == (jnp.complex64, jnp.bfloat16)


def test_time_is_sharded_over_two_devices(tmp_path):
    page = (ROOT / "docs" / "several_processes.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    shards = "[shard.data.shape for shard in sharded_outputs.addressable_shards]"
    (script := tmp_path / "page.py").write_text("\n".join([*blocks, f"print({shards})"]))
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == str([(8, 50, 32)] * 2), done.stderr


SMALL = [
    "--config.model.d_model=4", "--config.train.steps=4", "--config.train.eval_every=2",
]  # fmt: skip
SMALL_TEXT = [
    "--config.data.source=released", "--config.train.epochs=1", "--config.train.unroll=5",
]  # fmt: skip


def test_own_data_are_trained_predicted_and_exported(tmp_path, monkeypatch):
    """Runs the Python and the commands of the page in order; training is shortened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LRU_DATA_DIR", str(tmp_path / "data"))
    page, names = (ROOT / "docs" / "own_data.md").read_text(), {}
    for language, code in re.findall(r"```(python|sh)\n(.*?)```", page, flags=re.DOTALL):
        if language == "python":
            exec(code, names)
            continue
        for line in code.splitlines():
            python, flag, module, *arguments = shlex.split(line.replace("file,quick", "file,smoke"))
            assert (python, flag) == ("python", "-m")
            if module == "lru.train":
                arguments += SMALL_TEXT if "charlm" in line else SMALL
            assert run(importlib.import_module(module).main, arguments) == 0, line
    y, valid = names["predicted"]["y"], names["predicted"]["valid"]
    assert y.shape == valid.shape == (3, 80) and valid.all()
    np.testing.assert_allclose(names["outputs"][..., 0], y, rtol=1e-5)
    assert 900 < y.min() < y.max() < 1100  # in the units of the arrays
    assert names["tags"].shape == (8, 100, 5)


def test_the_new_task_is_prepared_trained_and_evaluated(run_page):
    names = run_page("adding_a_task")
    record, dataset = names["record"], sys.modules["majority"].Majority
    assert record["steps"] == 6 and record["data"] == "generated"
    saved = json.loads(Path("runs/majority_in_python/record.json").read_text())
    assert saved == json.loads(json.dumps(record))
    for example in dataset.create("data", num_train=64, num_held_out=20).source("train"):
        bits = example["inputs"][: example["length"]] - 1
        assert set(bits) <= {0, 1} and example["label"] == (2 * bits.sum() > len(bits))


def test_the_new_mixer_satisfies_the_laws_of_all_mixers(run_page, tmp_path):
    run_page("adding_a_mixer")
    page = (ROOT / "docs" / "adding_a_mixer.md").read_text()
    (row,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    laws = (ROOT / "tests" / "layers" / "test_laws.py").read_text()
    table = "STACKS = {"
    assert table in laws
    patched = "import averages\n" + laws.replace(table, "\n".join([table, row]), 1)
    (tmp_path / "test_laws.py").write_text(patched)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    command += [
        "-c",
        ROOT / "pyproject.toml",
        f"--rootdir={tmp_path}",
        "-k",
        f"averages and ({LAWS})",
    ]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [*command, tmp_path / "test_laws.py"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 8


def test_uneven_time_has_gradients_and_a_reverse_stream(run_page):
    names = run_page("uneven_time")
    assert all(np.any(leaf) for leaf in jax.tree.leaves(names["gradients"]["stack"]))
    stream = jnp.concatenate([names["y_left"], names["y_right"]], axis=1)
    np.testing.assert_allclose(stream, names["whole"], atol=1e-5)
    np.testing.assert_allclose(names["carry"], names["whole_carry"], atol=1e-5)


def test_the_new_mixer_is_trained_by_its_config(run_page, tmp_path):
    from lru.training.experiment import Experiment

    experiment = Experiment(run_page("adding_a_mixer")["config"], tmp_path / "data")
    slow, others = experiment.groups
    assert (slow.parameters, slow.weight_decay) == (experiment.model.num_layers * 6, 0.0)
    assert others.parameters > 2 * 2 * 6 * 8 and experiment.model.causal
