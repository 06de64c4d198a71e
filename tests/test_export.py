"""An exported model equals that of its run, or loading it raises."""

import json
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru import export
from lru.command_line import run
from lru.errors import UserError
from lru.training import exporting
from lru.training.best import restore_best
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import train_and_evaluate
from lru.training.run_config import save_config

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "taking_a_model_away.md"
RUNS = {
    "classifier": ("configs/lra_listops.py:smoke", ["train.steps=4"]),
    "language model": ("configs/charlm_lru.py:smoke", ["train.epochs=1"]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with the work directory and the export of each run."""
    root, before = tmp_path_factory.mktemp("export"), os.umask(0o027)
    try:
        for name, (config, overrides) in RUNS.items():
            config = load_config(config, [f"--config.{override}" for override in overrides])
            train_and_evaluate(config, root / name, data_dir=root / "data")
            export.export_run(root / name, root / f"{name} out", step=True)
    finally:
        os.umask(before)
    return root


def test_every_file_follows_the_umask(root):
    """Files of exports, runs and data sets."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    files = {path: mode for path, mode in modes.items() if path.is_file()}
    assert len(files) > 20 and set(files.values()) == {0o640}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o750}


@pytest.fixture
def folder(root, tmp_path):
    """A copy of the exported classifier to damage."""
    return shutil.copytree(root / "classifier out", tmp_path / "folder")


def about(folder):
    return json.loads((folder / "config.json").read_text())


def rewrite(folder, change):
    content = about(folder)
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", RUNS)
def test_loaded_variables_and_logits_equal_those_of_the_run_bit_by_bit(name, root):
    experiment, state, step = restore_best(root / name, data_dir=root / "data")
    model, variables = export.load(root / f"{name} out")
    want = {key: tree for key, tree in experiment.variables(state).items() if tree}
    assert jax.tree.structure(variables) == jax.tree.structure(want)
    for got, saved in zip(jax.tree.leaves(variables), jax.tree.leaves(want)):
        assert np.asarray(got).tobytes() == np.asarray(saved).tobytes()
    tokens = jax.random.randint(jax.random.key(0), (3, 9), 0, 9)
    logits, expected = (
        jax.jit(each.apply)(jax.device_get(given), tokens)
        for each, given in ((model, variables), (experiment.model, want))
    )
    np.testing.assert_array_equal(logits, expected)
    assert about(root / f"{name} out")["step"] == step


@pytest.mark.parametrize("name", RUNS)
def test_the_exported_step_equals_the_model_on_a_larger_batch_and_needs_jax_only(name, root):
    folder = root / f"{name} out"
    model, variables = export.load(folder)
    tokens = jax.random.randint(jax.random.key(1), (3, 5), 0, 9)
    np.save(root / "tokens.npy", tokens)
    program = """
import sys, jax.export, numpy as np
step = jax.export.deserialize(open(sys.argv[1], "rb").read())
tokens, outputs = np.load(sys.argv[2]), []
carry = tuple(np.zeros((3, *x.shape[1:]), x.dtype) for x in step.in_avals[:-1])
for t in range(5):
    carry, y = step.call(carry, tokens[:, t : t + 1])
    outputs.append(y)
np.save(sys.argv[3], np.stack(outputs))
assert not {"lru", "flax"} & set(sys.modules)
"""
    command = [sys.executable, "-c", program, folder / "step.jaxexport"]
    subprocess.run([*command, root / "tokens.npy", root / "outputs.npy"], check=True)
    whole = jax.jit(lambda lengths: model.apply(variables, tokens, seq_lengths=lengths))
    want = jnp.stack([whole(jnp.full(3, t + 1)) for t in range(5)])
    if name == "language model":
        want = jnp.moveaxis(want[-1], 1, 0)[:, :, None]
    got = np.load(root / "outputs.npy")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_the_tutorial_reads_an_export(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "listops").symlink_to(root / "classifier out")
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    (tmp_path / "shown.py").write_text("\n".join(blocks))
    names = runpy.run_path("shown.py")
    assert about(tmp_path / "listops")["tokens"][14] == "[MAX"
    np.testing.assert_allclose(names["logits_so_far"], names["logits"], rtol=1e-5, atol=1e-5)


def test_an_export_has_the_config_the_tokens_and_the_score(root):
    content = about(root / "classifier out")
    record = json.loads((root / "classifier" / "record.json").read_text())
    assert content["config"] == record["config"] and content["test"] == record["test"]
    assert content["commit"] == record["commit"] and content["data"] == "generated"
    assert content["arguments"] == {"num_classes": 10, "vocab_size": 18}
    assert content["tokens"][3:5] == ["0", "1"] and len(content["tokens"]) == 18
    letters = about(root / "language model out")
    assert set("abcdef ") <= set(letters["tokens"])
    assert len(letters["tokens"]) == letters["arguments"]["vocab_size"]


@pytest.mark.parametrize(
    "config, shape, dtype",
    [("lra_cifar", (1, 1, 3), "float32"), ("lra_retrieval", (1, 2, 1), "int32")],
)
def test_exported_inputs_are_one_step_of_the_data(config, shape, dtype, root):
    experiment = Experiment(load_config(f"configs/{config}.py:smoke"), root / "data")
    inputs = exporting._one_step(experiment)
    assert (inputs.shape, inputs.dtype.name) == (shape, dtype)


def test_an_unfinished_run_is_exported_without_a_score(root, tmp_path):
    workdir = shutil.copytree(root / "classifier", tmp_path / "run")
    (workdir / "record.json").unlink()
    content = export.export_run(workdir, tmp_path / "out", data_dir=root / "data")
    assert content == about(tmp_path / "out") and content["test"] is None
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip


def test_a_failed_export_writes_nothing(root, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(exporting, "load", fail)
    with pytest.raises(OSError):
        export.export_run(root / "classifier", tmp_path / "out", data_dir=root / "data")
    assert not list(tmp_path.iterdir())


def test_the_command_line_prints_the_files(root, tmp_path, capsys):
    where = [f"--workdir={root / 'classifier'}", f"--data_dir={root / 'data'}"]
    out = tmp_path / "new" / "out"
    assert run(export.main, [*where, f"--out={out}", "--step"]) == 0
    printed = capsys.readouterr().out
    files = "config.json, model.safetensors, step.jaxexport"
    assert printed == f"wrote the checkpoint of step 4 to {out}: {files}\n"
    assert run(export.main, [*where, f"--out={out}"]) == 2
    assert f"{out} exists already; choose another --out" in capsys.readouterr().err


def test_exporting_a_step_of_a_bidirectional_model_raises(root, tmp_path, monkeypatch):
    overrides = ["--config.model.mixer.bidirectional=True"]
    config = load_config(RUNS["classifier"][0], overrides)
    (tmp_path / "run").mkdir()
    save_config(config, tmp_path / "run")
    experiment = Experiment(config, root / "data")
    restored = (experiment, experiment.init_state(), 0)
    monkeypatch.setattr("lru.training.best.restore_best", lambda *_, **__: restored)
    arguments = (tmp_path / "run", tmp_path / "out")
    with pytest.raises(UserError, match="is not causal: .* leave out --step"):
        export.export_run(*arguments, step=True, data_dir=root / "data")
    export.export_run(*arguments, data_dir=root / "data")
    assert not export.load(tmp_path / "out")[0].causal


def another_pooling(content):
    content["config"]["model"]["pooling"] = "last"


def another_width(content):
    content["config"]["model"]["d_model"] = 9


def another_depth(content):
    content["config"]["model"]["num_layers"] = 3


def no_layer(content):
    content["config"]["model"]["mixer"] = {"type": "os:system", "command": "false"}


def no_model(content):
    content["config"].pop("model")


@pytest.mark.parametrize(
    "change, words",
    [
        (another_pooling, "is not the config that .* was exported with"),
        (another_width, r"norm/mean is float32\[8\]; expected float32\[9\]"),
        (another_depth, "lacks .*stack/blocks_2"),
        (no_layer, "config.model.mixer.type is 'os:system'; .* add --allow=os"),
        (no_model, "is damaged .config: 'model' is missing."),
    ],
)
def test_an_export_with_another_config_raises(change, words, folder):
    rewrite(folder, change)
    with pytest.raises(UserError, match=words):
        export.load(folder)


def test_a_flipped_bit_raises(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged: it has changed since the export"):
        export.load(folder)
    rewrite(folder, lambda content: content.pop("sha256"))
    export.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_truncated_or_missing_file_raises(name, folder):
    file = folder / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        export.load(folder)
    file.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        export.load(folder)
