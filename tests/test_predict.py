"""Predictions of new arrays equal those of the model, in the units of the training arrays."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from lru import export, predict
from lru.command_line import run
from lru.data.array_files import Part
from lru.data.array_spec import ArraySpec, Scaling
from lru.data.springs import EXAMPLES, spring_arrays
from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.config import load_config
from lru.training.exporting import write_export
from lru.training.loop import train_and_evaluate
from lru.training.predicting import Predictor, predict_file

N, T = 70, 11  # more than a batch, and shorter than in training


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with a run and an export of each example, whose data are gone."""
    root = tmp_path_factory.mktemp("predict")
    for example in EXAMPLES:
        config = load_config(f"configs/arrays.py:{example},smoke")
        train_and_evaluate(config, root / example, data_dir=root / "data")
        export.export_run(root / example, root / f"{example} out")
    shutil.rmtree(root / "data")
    return root


@pytest.fixture(scope="module")
def inputs():
    """Arrays of each example that no run has seen."""
    return {example: spring_arrays(example, N, T, seed=9) for example in EXAMPLES}


def predicted(source, tmp_path, capsys, **arrays):
    np.savez(tmp_path / "new.npz", **arrays)
    capsys.readouterr()
    out = tmp_path / "predicted.npz"
    arguments = [f"--workdir={source}", f"--input={tmp_path / 'new.npz'}", f"--out={out}"]
    assert run(predict.main, arguments) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith(f"{out}: y ({N},")
    with np.load(out, allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("kind", ["", " out"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_predictions_are_those_of_the_model_without_its_data(
    example, kind, root, inputs, tmp_path, capsys
):
    given = inputs[example]
    found = predicted(root / f"{example}{kind}", tmp_path, capsys, **given)
    experiment, state, _ = restore_best(root / example, read_data=False)
    spec, variables = experiment.dataset.spec, experiment.variables(state)
    for i in (0, 1, N - 1):
        length = given["lengths"][i]
        x = spec.inputs.apply(given["x"][i, :length])
        outputs = np.asarray(experiment.model.apply(variables, x[None]))[0]
        y = found["y"][i, :length] if spec.per_step else found["y"][i]
        if spec.of_classes:
            probability = np.asarray(jax.nn.softmax(outputs))
            got = found["probability"][i]
            got = got[:length] if spec.per_step else got
            np.testing.assert_allclose(got, probability, atol=1e-5)
            assert (y == np.array(spec.labels)[probability.argmax(-1)]).all()
            assert found["classes"].tolist() == list(spec.labels)
        else:
            np.testing.assert_allclose(y, spec.values(outputs), atol=1e-5)


@pytest.mark.parametrize("example", ["motion", "switching"])
def test_padding_is_marked_and_changes_no_prediction(example, root, inputs, tmp_path, capsys):
    x, lengths = inputs[example]["x"], inputs[example]["lengths"]
    valid = np.arange(T) < lengths[:, None]
    clean = predicted(root / example, tmp_path, capsys, x=x, lengths=lengths)
    x = np.where(valid[..., None], x, np.nan)
    dirty = predicted(root / example, tmp_path, capsys, x=x, lengths=lengths)
    for name in clean:
        np.testing.assert_array_equal(clean[name], dirty[name])
    np.testing.assert_array_equal(clean["valid"], valid)
    if example == "motion":
        np.testing.assert_array_equal(np.isfinite(clean["y"]), valid)
    else:
        assert (clean["y"][~valid] == -1).all() and (clean["y"][valid] >= 0).all()
        np.testing.assert_array_equal(np.isfinite(clean["probability"]).all(-1), valid)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_targets_and_masks_of_the_input_are_not_read(form, root, tmp_path):
    arrays = {"x": np.ones((N, T, 1)), "y": np.array([None]), "mask": np.array(["a"])}
    given = tmp_path / ("new.npz" if form == "file" else "new")
    if form == "file":
        np.savez(given, **arrays)
    else:
        given.mkdir()
        for name, array in arrays.items():
            np.save(given / f"{name}.npy", array)
    found = predict_file(root / "motion out", given, tmp_path / "y.npz")
    assert found["y"].shape == (N, T) and np.isfinite(found["y"]).all()


class Noted(nn.Module):
    """Returns its inputs, and notes their shapes."""

    note: Callable

    def __call__(self, x, seq_lengths):
        self.note(x.shape)
        return x


@pytest.mark.parametrize(
    ("n", "steps", "rows"), [(1, 5, 1), (63, 5, 63), (200, 5, 64), (5, 2**19, 2), (2, 2**21, 1)]
)
def test_batches_are_no_larger_than_needed(n, steps, rows):
    """A few sequences are not padded to a full batch, and long ones do not fill the memory."""
    spec = ArraySpec("step_values", 1, inputs=(one := Scaling((0.0,), (1.0,))), outputs=one)
    x = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, steps, 1))
    shapes = []
    found = Predictor(Noted(shapes.append), {}, spec, contextlib.nullcontext).predict(
        Part.of({"x": x}, "", Path("new.npz"))
    )
    assert set(shapes) == {(rows, steps, 1)}
    np.testing.assert_array_equal(found["y"], x[..., 0])


def test_an_export_has_the_specification_of_its_run(root):
    for example in EXAMPLES:
        content = json.loads((root / f"{example} out" / "config.json").read_text())
        described = json.loads((root / example / "dataset.json").read_text())
        assert content["spec"] == described["spec"] and content["data"] == "artificial"


def test_an_export_with_a_changed_scaling_raises(root, tmp_path):
    folder = shutil.copytree(root / "motion out", tmp_path / "out")
    content = json.loads((folder / "config.json").read_text())
    for std, words in ([7.0], "is not the config that"), ([0.0], "does not describe a model"):
        content["spec"]["outputs"]["std"] = std
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=words):
            export.load(folder)


@pytest.mark.parametrize(
    ("example", "change"),
    [
        ("motion", {"target": "values"}),
        ("motion", {"inputs": {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}),
        ("motion", {"inputs": None, "vocab_size": 3}),
        ("stiffness", {"num_outputs": 2, "last_axis": True,
                       "outputs": {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}),
        ("shape", {"labels": [0, 1], "num_outputs": 2}),
        ("shape", {"target": "step_classes"}),
    ],
)  # fmt: skip
def test_an_export_whose_specification_is_not_that_of_its_model_raises(
    example, change, root, tmp_path
):
    """Otherwise, predicting would fail, or be wrong, far from the cause."""
    experiment, state, _ = restore_best(root / example, read_data=False)
    about = json.loads((root / f"{example} out" / "config.json").read_text())
    about["spec"] |= change
    ArraySpec.from_json(about["spec"])  # valid by itself
    with pytest.raises(UserError, match=r"does not describe a model \(its spec (expects|has)"):
        write_export(tmp_path / "out", about, experiment, experiment.variables(state))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mean", "std", "warns"),
    [((3.0, 0.0), (1.0, 2.0), False), ((3.0, 1.7e9), (1.0, 100.0), True)],
)
def test_exporting_units_that_float32_cannot_hold_warns(mean, std, warns, root, tmp_path, caplog):
    experiment, state, _ = restore_best(root / "stiffness", read_data=False)
    spec = dataclasses.replace(experiment.dataset.spec, inputs=Scaling(mean, std))
    experiment.dataset = dataclasses.replace(experiment.dataset, spec=spec)
    about = json.loads((root / "stiffness out" / "config.json").read_text())
    about["spec"] = spec.to_json()
    write_export(tmp_path / "out", about, experiment, experiment.variables(state))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == warns
    assert not warns or (warnings[0].startswith("x has a mean too") and "\n" not in warnings[0])


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_loaded_export_takes_and_returns_the_units_of_the_arrays(
    example, root, inputs, tmp_path, capsys
):
    given = inputs[example]
    found = predicted(root / example, tmp_path, capsys, **given)
    model, variables = export.load(root / f"{example} out")
    x = given["x"].astype(np.float32)
    outputs = np.asarray(jax.jit(model.apply)(variables, x, seq_lengths=given["lengths"]))
    if "probability" in found:
        probability = np.asarray(jax.nn.softmax(outputs))
        valid = np.isfinite(found["probability"])
        np.testing.assert_allclose(probability[valid], found["probability"][valid], atol=1e-4)
    else:
        valid = np.isfinite(found["y"])
        np.testing.assert_allclose(outputs[..., 0][valid], found["y"][valid], atol=1e-4)


def test_labels_and_tokens_of_the_users_own_are_predicted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (N, T)), rng.choice([-5, 40], N)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    overrides = [f"--config.data.path={tmp_path / 'data.npz'}", "--config.train.steps=2"]
    config = load_config("configs/arrays.py:smoke", overrides)
    train_and_evaluate(config, tmp_path / "run", data_dir=tmp_path / "data")
    export.export_run(tmp_path / "run", tmp_path / "out", step=True)
    (tmp_path / "data.npz").unlink()
    found = [predicted(tmp_path / name, tmp_path, capsys, x=x) for name in ("run", "out")]
    assert set(found[0]["y"]) <= {-5, 40} and found[0]["classes"].tolist() == [-5, 40]
    np.testing.assert_array_equal(found[0]["y"], found[1]["y"])
    np.savez(tmp_path / "new.npz", x=np.full((1, 4), 9))
    command = [
        f"--workdir={tmp_path / 'run'}",
        f"--input={tmp_path / 'new.npz'}",
        "--out=never.npz",
    ]
    assert run(predict.main, command) == 2
    assert "has tokens from 9 to 9; expected 0 to 8" in capsys.readouterr().err


X = np.zeros((3, T, 1))
WRONG = [
    ({"y": X}, "has no array 'x'; expected the inputs of the examples there"),
    ({"x": X, "length": [1]}, "has an unknown array 'length'; did you mean 'lengths'?"),
    ({"x": np.zeros((3, T, 2))}, "x of example 0 of NEW has 2 features; the model reads 1"),
    ({"x": np.zeros((3, T), int)}, "are tokens; the model reads features: give x as (n, T, 1), or"),
    ({"x": X + np.nan}, "x of example 0 of NEW has values that are not finite"),
    ({"x": X, "lengths": [1, 2, 99]}, "has values from 1 to 99; expected 1 to 11"),
    ({"x": np.array([None])}, "NEW holds pickled Python objects; expected numbers only"),
]


@pytest.mark.parametrize(("arrays", "words"), WRONG)
def test_arrays_that_the_model_does_not_read_print_one_line(arrays, words, root, tmp_path, capsys):
    new, out = tmp_path / "new.npz", tmp_path / "predicted.npz"
    np.savez(new, **arrays)
    out.write_text("earlier predictions")
    arguments = [f"--workdir={root / 'motion'}", f"--input={new}", f"--out={out}"]
    assert run(predict.main, arguments) == 2
    err = capsys.readouterr().err
    assert words.replace("NEW", str(new)) in err and err.count("\n") == 1
    assert out.read_text() == "earlier predictions"
    assert sorted(os.listdir(tmp_path)) == ["new.npz", "predicted.npz"]


def test_paths_that_cannot_be_used_print_one_line(root, tmp_path, capsys):
    np.savez(tmp_path / "new.npz", x=X)
    for name in ("folder", "dir.npz"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "folder" / "x.npy", X)
    for source, new, out, words in [
        ("motion", "none.npz", "y.npz", "none.npz: No such file"),
        ("motion", "new.npz", "new.npz", "new.npz, which is, or is in, the input"),
        ("motion", "new.npz", "y.npy", "expected a name that ends in .npz"),
        ("motion", "new.npz", "none/y.npz", "but there is no folder"),
        ("motion", "new.npz", "dir.npz", "which is a folder; expected a file"),
        ("motion", "folder", "folder/x.npy", "expected a name that ends in .npz"),
        ("motion", "folder", "folder/y.npz", "y.npz, which is, or is in, the input"),
        ("nothing", "new.npz", "y.npz", "holds no run"),
    ]:
        arguments = [f"--workdir={root / source}", f"--input={tmp_path / new}"]
        assert run(predict.main, [*arguments, f"--out={tmp_path / out}"]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1, err
    np.testing.assert_array_equal(np.load(tmp_path / "folder" / "x.npy"), X)


def test_a_run_on_other_data_prints_one_line(tmp_path, capsys):
    config = load_config("configs/lra_listops.py:smoke", ["--config.train.steps=2"])
    train_and_evaluate(config, tmp_path / "run", data_dir=tmp_path / "data")
    np.savez(tmp_path / "new.npz", x=X)
    arguments = [f"--workdir={tmp_path / 'run'}", f"--input={tmp_path / 'new.npz'}", "--out=y.npz"]
    assert run(predict.main, arguments) == 2
    assert (
        "was not trained on arrays; expected a run of configs/arrays.py" in capsys.readouterr().err
    )
