"""The command line of `lru.reduce`: exports with fewer modes, sweeps and errors."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import lru.evaluate
import lru.export
import lru.reduce
import lru.train
from lru.analysis.modes import layer_modes
from lru.analysis.reduction import (
    balanced_truncation,
    enough_modes,
    find_lrus,
    model_hankel_singular_values,
)
from lru.command_line import run
from lru.errors import UserError
from lru.models.streaming import stream
from lru.training.best import restore_best
from lru.training.reducing import (
    TrainedRun,
    noted_moments,
    reduced_experiment,
    restore_run,
    state_moments,
)

SMOKE, N, K = "configs/lra_listops.py:smoke", 6, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("reduce")


def trained(root, name, variant="", *overrides):
    """Trains a run, and returns the arguments that name it and its data."""
    arguments = [f"--workdir={root / name}", f"--data_dir={root / 'data'}"]
    overrides = [*overrides, "--config.train.steps=4", "--config.optimizer.learning_rate=0.1"]
    assert run(lru.train.main, [f"--config={SMOKE}{variant}", *arguments, *overrides]) == 0
    return arguments


@pytest.fixture(scope="module")
def arguments(root):
    return trained(root, "run")


@pytest.fixture
def reduce(arguments, tmp_path, capsys):
    """Reduces the run; returns what was printed, and the folder written."""

    def call(*more, arguments=arguments):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        assert run(lru.reduce.main, [*arguments, f"--out={out}", *more]) == 0
        return capsys.readouterr().out, out

    return call


def weights(arguments):
    _, state, _ = restore_best(Path(arguments[0].partition("=")[2]), read_data=False)
    return jax.device_get(state.params)


def about(out):
    return json.loads((out / "config.json").read_text())


def test_the_export_has_the_layers_of_balanced_truncation_and_all_else_unchanged(arguments, reduce):
    _, out = reduce(f"--modes={K}")
    model, variables = lru.export.load(out)
    whole, tokens = weights(arguments), jnp.ones((2, 9), int)
    assert jax.jit(model.apply)(variables, tokens).shape == (2, 10)
    assert about(out)["config"]["model"]["mixer"]["d_state"] == K
    layers = find_lrus(variables["params"])
    assert len(layers) == 2
    for path, layer in find_lrus(whole).items():
        for name, value in balanced_truncation(layer, K).items():
            np.testing.assert_array_equal(layers[path][name], value)
    np.testing.assert_array_equal(
        variables["params"]["encoder"]["embedding"], whole["encoder"]["embedding"]
    )


def test_the_export_evaluates_to_the_printed_score(arguments, reduce, capsys):
    printed, out = reduce(f"--modes={K}")
    line = re.search(r"^test (.*) before, (.*) after$", printed, flags=re.MULTILINE)
    evaluate = [f"--workdir={out}", arguments[1]]
    assert run(lru.evaluate.main, evaluate) == 0
    assert line[2] in capsys.readouterr().out
    assert run(lru.evaluate.main, arguments) == 0
    assert line[1] in capsys.readouterr().out
    scores = about(out)["reduced"]
    assert about(out)["test"] == scores["after"] | {"step": 4} != scores["before"] | {"step": 4}


def test_all_modes_give_the_score_of_the_run(reduce):
    _, out = reduce(f"--modes={N}")
    scores = about(out)["reduced"]
    assert scores["after"]["accuracy"] == scores["before"]["accuracy"]
    assert scores["after"]["loss"] == pytest.approx(scores["before"]["loss"], abs=1e-5)


@pytest.mark.parametrize("condition", [{"energy": 0.9}, {"tolerance": 0.8}])
def test_every_layer_gets_the_modes_that_one_of_them_needs(condition, arguments, reduce):
    ((name, value),) = condition.items()
    printed, out = reduce(f"--{name}={value}", "--split=none")
    layers = find_lrus(weights(arguments))
    needed = {path: enough_modes(layer, **condition) for path, layer in layers.items()}
    assert about(out)["reduced"]["needed"] == needed
    assert about(out)["config"]["model"]["mixer"]["d_state"] == max(needed.values()) < N
    assert f"(it needs {min(needed.values())})" in printed


@pytest.mark.parametrize("method", ["modal", "perturbation"])
def test_other_methods_and_measured_inputs_are_recorded(method, reduce):
    _, out = reduce(f"--modes={K}", f"--method={method}", "--inputs=measured")
    found = about(out)["reduced"]
    assert (found["method"], found["inputs"], found["modes"]) == (method, "measured", K)
    assert lru.export.load(out)


def test_measured_moments_are_those_of_the_states_of_each_layer(arguments, root):
    found = restore_run(root / "run", "test", data_dir=root / "data", manual_dir=None, allow=())
    moments = state_moments(found)
    assert moments.keys() == found.layers.keys()
    params = found.state.params["stack"]["blocks_0"]["norm"]
    statistics = found.state.batch_stats["stack"]["blocks_0"]["norm"]
    embedded = found.state.params["encoder"]["embedding"]
    scale = params["scale"] / np.sqrt(statistics["var"] + 1e-5)
    rows = np.float64((embedded - statistics["mean"]) * scale + params["bias"])
    batches = [
        found.experiment.task.batches(0, indices=False, rows=slice(None))[i] for i in range(16)
    ]
    (modes,), states = layer_modes(found.layers["stack/blocks_0/mixer"]), []
    for tokens, length in ((x, n) for b in batches for x, n in zip(b["inputs"], b["length"])):
        h = np.zeros(N, complex)
        for u in rows[tokens[:length]]:
            h = modes.lam * h + modes.into @ u
            states.append(np.concatenate([h.real, h.imag]))
    want = np.transpose(states) @ states / len(states)
    np.testing.assert_allclose(moments["stack/blocks_0/mixer"], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time_major", [False, True])
def test_moments_of_two_directions_leave_out_padding_and_start_from_the_carry(time_major):
    layer = lru.LRU(N, bidirectional=True, r_min=0.5, r_max=0.9)
    u = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
    lengths = np.array([9, 0, 4])
    variables = layer.init(jax.random.key(0), u)
    carries = tuple(0.5 * jnp.ones((3, N), complex) for _ in range(2))
    with noted_moments({"": variables["params"]}) as found:
        for _ in range(2):  # a model may call a layer more than once
            layer.apply(variables, u.swapaxes(0, 1) if time_major else u, initial_carry=carries,
                        seq_lengths=lengths, time_major=time_major)  # fmt: skip
    states = []
    for modes, order in zip(layer_modes(variables["params"]), (1, -1)):
        for sequence, length in zip(u, np.minimum(lengths, 7)):
            h = np.full(N, 0.5 + 0j)
            for x in sequence[:length][::order]:
                h = modes.lam * h + modes.into @ x
                states.append(np.concatenate([h.real, h.imag]))
    total, count = found[""]
    assert count == 2 * len(states)
    np.testing.assert_allclose(total, 2 * np.transpose(states) @ states, rtol=1e-4, atol=1e-4)


def test_a_reduced_model_streams(reduce):
    _, out = reduce(f"--modes={K}", "--split=none", "--step")
    model, variables = lru.export.load(out)
    tokens = jax.random.randint(jax.random.key(0), (2, 5), 0, 9)
    step, carry = stream(model, variables, tokens[:, :1])
    exported = jax.export.deserialize((out / "step.jaxexport").read_bytes())
    state = tuple(jnp.zeros((2, *x.shape[1:]), x.dtype) for x in exported.in_avals[:-1])
    assert any(x.shape == (2, K) for x in state)
    for t in range(5):
        carry, streamed = step(carry, tokens[:, t : t + 1])
        state, logits = exported.call(state, tokens[:, t : t + 1])
    want = jax.jit(model.apply)(variables, tokens)
    np.testing.assert_allclose(streamed, want, atol=1e-5)
    np.testing.assert_allclose(logits, want, atol=1e-5)


def test_a_reduced_model_is_fine_tuned_from_its_export(reduce, root, tmp_path, capsys):
    _, out = reduce(f"--modes={K}", "--split=none")
    more = [f"--init_from={out}", f"--config.model.mixer.d_state={K}"]
    trained(root, tmp_path / "tuned", "", *more)
    assert f"starting with the weights of {out}" in capsys.readouterr().out
    record = json.loads((tmp_path / "tuned" / "record.json").read_text())
    assert record["init_from"]["from"] == str(out)


def test_both_directions_are_reduced(root, reduce):
    both = trained(root, "both", "", "--config.model.mixer.bidirectional=True")
    _, out = reduce(f"--modes={K}", arguments=both)
    _, variables = lru.export.load(out)
    assert {x["C2_re"].shape for x in find_lrus(variables["params"]).values()} == {(8, K)}
    assert about(out)["reduced"]["after"]["accuracy"] >= 0


def test_a_language_model_is_reduced_for_its_own_inputs(root, reduce):
    text = [f"--workdir={root / 'text'}", f"--data_dir={root / 'data'}"]
    config = ["--config=configs/charlm_linear_lru.py:smoke", "--config.train.epochs=1"]
    assert run(lru.train.main, [*config, *text]) == 0
    printed, out = reduce("--modes=7", "--inputs=measured", arguments=text)
    scores = about(out)["reduced"]
    assert "bits per character" in printed
    assert scores["after"]["loss"] == pytest.approx(scores["before"]["loss"], abs=0.1)


def test_without_data_modes_and_sizes_are_printed(arguments, reduce, tmp_path):
    shutil.copytree(arguments[0].partition("=")[2], tmp_path / "run")
    other = [f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'data'}"]
    printed, out = reduce(f"--modes={K}", "--split=none", arguments=other)
    assert "accuracy" not in printed and "6 to 3 modes, " in printed and "parameters" in printed
    assert not (tmp_path / "data").exists() and about(out)["test"] is None
    digests = json.loads((tmp_path / "run" / "data.json").read_text())
    (tmp_path / "run" / "data.json").write_text(
        re.sub(r"[0-9a-f]{64}", "0" * 64, json.dumps(digests))
    )
    other = [other[0], arguments[1]]
    printed, out = reduce(f"--modes={K}", arguments=other)
    assert "note: no score is reported, because the data set cannot be read" in printed
    assert lru.export.load(out)


def test_a_sweep_is_drawn_and_saved(arguments, reduce):
    printed, out = reduce("--sweep", "--split=validation")
    assert printed.splitlines()[-1] == f"see {out / 'sweep.png'}, {out / 'sweep.json'}"
    found = json.loads((out / "sweep.json").read_text())
    assert found["modes"] == [1, 2, 3, 4] and found["split"] == "validation"
    measured = ("balanced, measured inputs", "perturbation, measured inputs")
    for method in ("balanced", *measured, "modal"):
        assert len(found[method]) == 4 and 0 <= found[method][0]["accuracy"] <= 1
    for path, sigma in model_hankel_singular_values(weights(arguments)).items():
        np.testing.assert_allclose(found["hankel_singular_values"][path], sigma, rtol=1e-3)
    with Image.open(out / "sweep.png") as image:
        assert min(image.size) > 300 and len(image.convert("L").getcolors()) > 50


def error_of(arguments, capsys):
    capsys.readouterr()
    assert run(lru.reduce.main, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "one of the arguments --modes --energy --tolerance --sweep is required"),
        (["--modes=3", "--energy=0.9"], "not allowed with argument --modes"),
        (["--modes=0"], "modes=0; expected a whole number from 1 to 6"),
        (["--modes=7"], "modes=7; expected a whole number from 1 to 6"),
        (["--energy=1.5"], "energy=1.5; expected more than 0 and at most 1"),
        (["--energy=nan"], "energy=nan; expected more than 0 and at most 1"),
        (["--tolerance=-1"], "tolerance=-1.0; expected a positive number"),
        (["--tolerance=0.5", "--inputs=measured"], "--tolerance is given with --inputs=measured"),
        (["--sweep"], "--sweep evaluates the model"),
        (["--modes=3", "--inputs=measured"], "--inputs=measured reads the data set"),
    ],
)
def test_impossible_arguments_raise(given, words, arguments, tmp_path, capsys):
    out = tmp_path / "out"
    assert words in error_of([*arguments, f"--out={out}", "--split=none", *given], capsys)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_exists_is_not_overwritten(arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    line = error_of([*arguments, f"--out={tmp_path}", "--modes=3"], capsys)
    assert "exists already; choose another --out" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_without_a_run_raises(tmp_path, capsys):
    line = error_of([f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}", "--modes=3"], capsys)
    assert "holds no run" in line


def test_a_run_without_linear_recurrent_units_raises(root, tmp_path, capsys):
    other = trained(root, "tanh", ",tanh", "--config.model.num_layers=1")
    line = error_of([*other, f"--out={tmp_path / 'out'}", "--modes=3"], capsys)
    assert "has no Linear Recurrent Unit" in line and not any(tmp_path.iterdir())


def test_a_config_that_does_not_name_the_layers_raises(tmp_path):
    mixer = {"type": "lru.baselines:DenseRNN", "d_state": N}
    model = {"type": "lru.models:SequenceClassifier", "mixer": mixer}
    (tmp_path / "config.json").write_text(json.dumps({"model": model}))
    other = TrainedRun(tmp_path, None, None, 0, {}, None, {})
    with pytest.raises(UserError, match="has no lru:LRU with a d_state"):
        reduced_experiment(other, K)


def test_an_export_of_other_data_is_not_evaluated(reduce, arguments, tmp_path, capsys):
    _, out = reduce(f"--modes={K}", "--split=none")
    content = about(out)
    content["config"]["data"] = {
        "type": "lru.data.recall:Recall.create",
        "length": 8, "classes": 2, "distractors": 2, "position": 0,
        "num_train": 64, "num_validation": 20, "num_test": 20, "seed": 0,
    }  # fmt: skip
    (out / "config.json").write_text(json.dumps(content))
    assert run(lru.evaluate.main, [f"--workdir={out}", f"--data_dir={tmp_path / 'data'}"]) == 2
    assert "was trained on other data" in capsys.readouterr().err
