"""A run can be extended, and can start with the weights of another one."""

import json
import shutil

import jax
import numpy as np
import pytest

import lru.spectrum
import lru.train
from lru import export
from lru.command_line import run
from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.config import load_config
from lru.training.description import FILE, Description
from lru.training.experiment import Experiment
from lru.training.init_from import read_initial, set_initial_weights
from lru.training.loop import train_and_evaluate
from lru.training.run_config import check_workdir, is_extended, save_config

TEXT, LABELLED = "configs/charlm_linear_lru.py:smoke", "configs/lra_listops.py:smoke"
QUICK = ["--config.train.epochs=1", "--config.train.log_every=5"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with two finished runs: `text`, a language model, `labelled`, a classifier."""
    root = tmp_path_factory.mktemp("further")
    train_and_evaluate(load_config(TEXT, QUICK), root / "text", data_dir=root / "data")
    config = load_config(LABELLED, ["--config.train.steps=4"])
    train_and_evaluate(config, root / "labelled", data_dir=root / "data")
    return root


@pytest.fixture
def finished(root, tmp_path):
    """A copy of the finished run of the language model."""
    return shutil.copytree(root / "text", tmp_path / "run")


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(one, other):
    for x, y in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(x, y)


def record_of(workdir):
    return json.loads((workdir / "record.json").read_text())


def last_state(config, workdir, data_dir):
    from lru.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore_latest(Experiment(config, data_dir).state_shapes())
    checkpoints.close()
    return state


def test_an_extended_run_equals_a_long_run(root, finished, tmp_path):
    longer = load_config(TEXT, [*QUICK, "--config.train.epochs=2"])
    record = train_and_evaluate(longer, finished, data_dir=root / "data")
    whole = train_and_evaluate(longer, tmp_path / "whole", data_dir=root / "data")
    assert record["steps"] == whole["steps"] == 2 * record_of(root / "text")["steps"]
    assert record["config"]["train"]["epochs"] == 2 and record["test"] == whole["test"]
    one, other = (
        last_state(longer, workdir, root / "data") for workdir in (finished, tmp_path / "whole")
    )
    assert_equal((one.params, one.opt_state), (other.params, other.opt_state))
    config = json.loads((finished / "config.json").read_text())
    assert config["train"]["epochs"] == 2
    again = train_and_evaluate(longer, finished, data_dir=root / "data")
    assert again["test"] == record["test"] and again["date"] == record["date"]


def test_an_extended_run_killed_at_its_start_is_not_finished(finished):
    """At that moment the config is the new one, and the record that of the shorter run."""
    longer = load_config(TEXT, [*QUICK, "--config.train.epochs=2"])
    save_config(longer, finished)
    check_workdir(longer, finished)
    assert is_extended(longer, finished)
    assert not is_extended(load_config(TEXT, QUICK), finished)
    (finished / "record.json").write_text("{")
    assert not is_extended(longer, finished)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.epochs=2", "seed=1"], "config.seed is 0 there, 1 here"),
        (["train.epochs=2", "train.batch_size=8"], "config.train.batch_size is 4 there, 8 here"),
        (["train.epochs=0", "train.steps=100"], "config.train.epochs is 1 there, 0 here"),
    ],
)
def test_only_the_length_of_a_run_may_change(overrides, words, root, finished):
    config = load_config(TEXT, [*QUICK, *(f"--config.{each}" for each in overrides)])
    before = {path: path.read_bytes() for path in finished.glob("*.json*")}
    with pytest.raises(UserError, match=words):
        train_and_evaluate(config, finished, data_dir=root / "data")
    assert before == {path: path.read_bytes() for path in finished.glob("*.json*")}


def test_a_shorter_length_raises(root, tmp_path):
    longer = load_config(TEXT, ["--config.train.epochs=2"]).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(longer))
    with pytest.raises(UserError, match="config.train.epochs is 2 there, 1 here"):
        train_and_evaluate(load_config(TEXT, QUICK[:1]), tmp_path, data_dir=root / "data")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer.warmup_fraction=0.0"],
        ["optimizer.end_learning_rate=0.004", "optimizer.learning_rate=0.004"],  # a warm-up
    ],
)
def test_a_schedule_that_depends_on_the_length_raises_for_an_extended_run(
    overrides, root, tmp_path
):
    overrides = [f"--config.{each}" for each in overrides]
    config = load_config(LABELLED, overrides)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    steps = config.train.steps
    config.train.steps += 4
    with pytest.raises(UserError) as error:
        train_and_evaluate(config, tmp_path, data_dir=root / "data")
    message = str(error.value)
    words = f"has config.train.steps={steps}, and its learning rate is scheduled over all of them"
    assert words in message
    assert f"--init_from={tmp_path}" in message and len(message.splitlines()) == 1


def test_the_description_of_the_data_is_in_the_work_directory(root):
    text, labelled = (Description.load(root / name) for name in ("text", "labelled"))
    assert text.is_text and text.tokens[0] == "?" and text.vocab_size == len(text.tokens)
    assert (labelled.num_classes, labelled.vocab_size, labelled.dtype) == (10, 18, "int32")
    assert labelled.steps_per_epoch is None and text.steps_per_epoch > 0


@pytest.mark.parametrize("name", ["text", "labelled"])
def test_a_model_restored_without_its_data_is_the_same(name, root, tmp_path):
    with_data, state, step = restore_best(root / name, data_dir=root / "data")
    without, other, same = restore_best(root / name, data_dir=tmp_path, read_data=False)
    assert_equal(state, other)
    assert_equal(with_data.init_state(), without.init_state())
    assert step == same and repr(with_data.model) == repr(without.model)
    assert not list(tmp_path.iterdir())
    if name == "text":
        tokens = without.dataset.encode("abc ü")
        assert tokens.tolist() == with_data.dataset.encode("abc ü").tolist()
        assert list(without.dataset.as_text(tokens)) == list(with_data.dataset.as_text(tokens))


def test_a_run_without_a_description_reads_its_data(finished, root, tmp_path):
    (finished / FILE).unlink()
    with pytest.raises(UserError, match="the data set must be read; give --data_dir"):
        restore_best(finished, read_data=False)
    experiment, *_ = restore_best(finished, data_dir=root / "data", read_data=False)
    assert not isinstance(experiment.dataset, Description)
    train_and_evaluate(load_config(TEXT, QUICK), finished, data_dir=root / "data")
    assert Description.load(finished) == Description.load(root / "text")


def test_a_data_set_with_its_own_alphabet_is_not_described(root):
    experiment = Experiment(load_config(TEXT, QUICK), root / "data")
    assert Description.of(experiment) is not None

    class Shouting(type(experiment.dataset)):
        def encode(self, text):
            return super().encode(text.lower())

    experiment.dataset.__class__ = Shouting
    assert Description.of(experiment) is None


DAMAGED = [
    (lambda c: c.pop("name"), "name"),
    (lambda c: c.update(vocab_size=-1), "vocab_size is -1"),
    (lambda c: c.update(vocab_size=True), "vocab_size is True"),
    (lambda c: c.update(vocab_size=10**12), "vocab_size is 10"),
    (lambda c: c.update(vocab_size=3), "tokens are not 3 strings"),
    (lambda c: c.update(shape=[1, 10**9, 10**9]), "shape is"),
    (lambda c: c.update(shape=5), "shape"),
    (lambda c: c.update(dtype="object"), "dtype is 'object'"),
    (lambda c: c.update(tokens=None), "neither num_classes nor tokens"),
    (lambda c: c.update(tokens=[1] * c["vocab_size"]), "tokens are not"),
    (lambda c: c["tokens"].__setitem__(1, "ab"), "a token is not one character"),
    (lambda c: c.update(steps_per_epoch="x"), "steps_per_epoch is 'x'"),
    (lambda c: c.update(of_bytes=1), "of_bytes is 1"),
    (lambda c: c.update(more=1), "more"),
]


@pytest.mark.parametrize(("change", "words"), DAMAGED)
def test_a_damaged_description_raises_one_line(change, words, root, tmp_path):
    content = json.loads((root / "text" / FILE).read_text())
    change(content)
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        Description.load(tmp_path)
    assert words in str(error.value) and f"{FILE} is damaged" in str(error.value)
    assert "delete it to read the data set" in str(error.value)


@pytest.mark.parametrize("text", ["5", "null", "[]", "{}", "{", "[" * 100_000])
def test_a_description_that_is_not_an_object_raises(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=f"{FILE} is damaged"):
        Description.load(tmp_path)


def test_a_run_continued_with_other_data_raises(finished, root):
    content = json.loads((finished / FILE).read_text())
    content["tokens"][1], content["tokens"][2] = content["tokens"][2], content["tokens"][1]
    (finished / FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match="was started with other data: tokens is"):
        train_and_evaluate(load_config(TEXT, QUICK), finished, data_dir=root / "data")


# Weights of another run


def start(config, source, overrides=()):
    return load_config(config, [*overrides, f"--config.train.init_from={source}"])


def started_with(config, workdir, root):
    """Returns the experiment of a run that has started in a work directory."""
    experiment = Experiment(config, root / "data")
    found = read_initial(config, workdir, experiment)
    workdir.mkdir(exist_ok=True)
    set_initial_weights(config, workdir, experiment, found)
    return experiment


@pytest.fixture(scope="module")
def exported(root):
    export.export_run(root / "labelled", root / "exported")
    return root / "exported"


def test_a_run_starts_with_the_best_weights_and_statistics(root, tmp_path):
    config = start(LABELLED, root / "labelled", ["--config.train.steps=4", "--config.seed=3"])
    record = train_and_evaluate(config, tmp_path / "run", data_dir=root / "data")
    _, state, step = restore_best(root / "labelled", data_dir=root / "data")
    started = started_with(config, tmp_path / "run", root)
    assert_equal(Experiment.variables(started.init_state()), Experiment.variables(state))
    assert record["init_from"]["from"] == str(root / "labelled")
    assert (record["init_from"]["step"], record["init_from"]["new"]) == (step, [])
    with np.load(tmp_path / "run" / "spectra" / "0.npz") as first:
        for name, lam in lru.spectrum.model_eigenvalues(state.params).items():
            np.testing.assert_array_equal(first[name], lam.astype(np.complex64))
    modes = lru.spectrum.read_run(tmp_path / "run")
    for name, (direction,) in lru.spectrum.model_modes(state.params).items():
        np.testing.assert_array_equal(modes.initial[name][0].into, direction.into)


def test_an_export_has_the_weights_of_its_run(root, exported, tmp_path):
    runs = [
        started_with(start(LABELLED, root / name), tmp_path / name, root).init_state()
        for name in ("labelled", "exported")
    ]
    assert_equal(*runs)


def test_a_resumed_run_does_not_read_its_source(root, tmp_path):
    source = shutil.copytree(root / "text", tmp_path / "source")
    config, workdir = start(TEXT, source, QUICK), tmp_path / "run"
    first = started_with(config, workdir, root)
    save_config(config, workdir)
    shutil.rmtree(source)
    again = started_with(config, workdir, root)
    assert_equal(first.init_state(), again.init_state())
    assert again.origin == first.origin and first.origin["from"] == str(source)
    with pytest.raises(UserError, match="config.train.init_from is .* there, None here"):
        check_workdir(load_config(TEXT, QUICK), workdir)


def test_the_head_is_new_if_the_classes_differ(root, exported, tmp_path):
    weights = shutil.copytree(exported, tmp_path / "weights")
    take_a_class_away(weights)
    config = start(LABELLED, weights, ["--config.seed=1"])
    own = Experiment(config, root / "data").init_state()
    experiment = started_with(config, tmp_path / "run", root)
    started, (_, trained) = experiment.init_state(), export.load(exported)
    assert_equal(started.params["head"], own.params["head"])
    assert_equal(started.params["stack"], trained["params"]["stack"])
    assert experiment.origin["new"] == ["params/head/bias", "params/head/kernel"]


def take_a_class_away(folder):
    """Removes the last class of an exported classifier."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name in ("params/head/kernel", "params/head/bias"):
        tensors[name] = np.ascontiguousarray(tensors[name][..., :-1])
    save_file(tensors, folder / "model.safetensors")
    about = json.loads((folder / "config.json").read_text())
    about.pop("sha256")
    (folder / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.d_model=9"],
            r"does not fit: batch_stats/stack/blocks_0/norm/mean is float32\[8\] there, "
            r"float32\[9\] here; .*; and \d+ more; only the head may differ",
        ),
        (["model.num_layers=3"], "blocks_2/.* is missing there, float32"),
        (["model.num_layers=1"], r"blocks_1/.* is float32\[8\] there, missing here"),
        (["model.mixer.d_state=5"], r"B_im is float32\[6, 8\] there, float32\[5, 8\] here"),
    ],
)
def test_arrays_that_do_not_fit_are_listed(overrides, words, root, tmp_path):
    overrides = [f"--config.{each}" for each in overrides]
    config = start(LABELLED, root / "labelled", overrides)
    with pytest.raises(UserError, match=words) as error:
        train_and_evaluate(config, tmp_path / "run", data_dir=root / "data")
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "run").exists()


def test_wrong_sources_raise_one_line(root, exported, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(root / "labelled" / "config.json", young)
    evil = shutil.copytree(root / "labelled", tmp_path / "evil")
    content = json.loads((evil / "config.json").read_text())
    content["train"]["select"] = "__class__"
    (evil / "config.json").write_text(json.dumps(content))
    cases = [
        ("nowhere", "is not a directory"),
        (tmp_path / "empty", "holds neither a run nor an export"),
        (damaged, "is damaged: it has changed since the export"),
        (young, "has no evaluated checkpoint yet"),
        (evil, "is damaged (train.select is '__class__')"),
        (tmp_path / "run", "is the --workdir itself"),
        ("", "it is empty; expected a path"),
    ]
    for source, words in cases:
        arguments = [f"--config={LABELLED}", f"--workdir={tmp_path / 'run'}"]
        arguments += [f"--data_dir={root / 'data'}", f"--init_from={source}"]
        assert run(lru.train.main, arguments) == 2, source
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1 and words in err[0], (source, err)
        assert not (tmp_path / "run").exists()


def test_nothing_that_a_source_names_is_imported(root, tmp_path):
    source = shutil.copytree(root / "labelled", tmp_path / "source")
    content = json.loads((source / "config.json").read_text())
    content["model"]["type"] = content["data"]["type"] = "os:system"
    (source / "config.json").write_text(json.dumps(content))
    assert started_with(start(LABELLED, source), tmp_path / "run", root).origin["step"] == 4


def test_damaged_or_lost_initial_weights_raise(root, tmp_path):
    config, workdir = start(LABELLED, root / "labelled"), tmp_path / "run"
    experiment = started_with(config, workdir, root)
    file = workdir / "initial.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: it has changed since it was written"):
        set_initial_weights(config, workdir, experiment)
    file.unlink()
    with pytest.raises(UserError, match="initial.safetensors is missing"):
        set_initial_weights(config, workdir, experiment)
    (workdir / "checkpoints" / "4").mkdir(parents=True)
    words = "initial.safetensors, the run's initial weights, is missing"
    with pytest.raises(UserError, match=words):
        read_initial(config, workdir, experiment)


def test_tokens_with_another_meaning_are_logged(root, tmp_path, caplog):
    source = shutil.copytree(root / "labelled", tmp_path / "source")
    content = json.loads((source / FILE).read_text())
    content["tokens"][3], content["tokens"][4] = content["tokens"][4], content["tokens"][3]
    (source / FILE).write_text(json.dumps(content))
    with caplog.at_level("INFO", "lru"):
        origin = started_with(start(LABELLED, source), tmp_path / "run", root).origin
    assert origin["note"] == "its tokens stand for other symbols than the tokens of this run"
    assert f"starting with the weights of {source}, checkpoint of step 4; note:" in caplog.text
