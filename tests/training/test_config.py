"""Configs: what is wrong with one is said in a line, before anything is run or written."""

import json

import pytest
from ml_collections import ConfigDict

import lru
from lru.errors import UserError
from lru.models import SequenceClassifier
from lru.training.config import (
    build,
    check_workdir,
    differences,
    load_config,
    recall,
    remember,
)

LISTOPS = "configs/lra_listops.py"


def test_overrides_take_the_type_of_the_config():
    config = load_config(
        f"{LISTOPS}:smoke", ["--config.optimizer.learning_rate=1", "--config.seed=7"]
    )
    assert (config.optimizer.learning_rate, config.seed) == (1.0, 7)
    assert isinstance(config.optimizer.learning_rate, float)


def test_a_config_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(LISTOPS).train.steps == 80_000


def test_a_config_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    text = "import ml_collections\n\n\ndef get_config(variant):\n    return "
    (tmp_path / LISTOPS).write_text(f"{text}ml_collections.ConfigDict({{'mine': variant}})\n")
    assert load_config(f"{LISTOPS}:x").mine == "x"
    (tmp_path / LISTOPS).write_text(f"{text}3\n")
    with pytest.raises(UserError, match="is a int; expected a ConfigDict"):
        load_config(LISTOPS)


@pytest.mark.parametrize(
    ("argument", "overrides", "words"),
    [
        ("configs/lra_listop.py", [], "did you mean 'configs/lra_listops.py'?"),
        ("nothing.py", [], "there are: configs/charlm_grid_lstm.py"),
        (f"{LISTOPS}:quik", [], "variant 'quik' does not exist; did you mean 'quick'?"),
        (LISTOPS, ["--config.trian.steps=3"], "did you mean 'train'?"),
        (
            LISTOPS,
            ["--config.train.step=3"],
            "config.train has no key 'step'; did you mean",
        ),
        (
            LISTOPS,
            ["--config.model.gelu=erf"],
            "'gelu' yet, which lru.models:SequenceClassifier takes",
        ),
        (
            LISTOPS,
            ["--config.model.gelo=erf"],
            "config.model has no key 'gelo'; there are: d_model",
        ),
        (LISTOPS, ["--config.model.vocab_size=3"], "has no key 'vocab_size'; there are: d_model"),
        (LISTOPS, ["--config.data.numbers=3"], "config.data has no key 'numbers'; did you mean"),
        (LISTOPS, ["--config.train.steps.x=3"], "config.train.steps has no key 'x'"),
        (LISTOPS, ["--config.train.steps=many"], "--config.train.steps=many"),
        (LISTOPS, ["--config.train.steps"], "has no value; write --config.train.steps=VALUE"),
        (LISTOPS, ["--config.model.remat=perhaps"], "--config.model.remat=perhaps"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(argument, overrides, words):
    with pytest.raises(UserError) as error:
        load_config(argument, overrides)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_config_file_that_fails_is_said_in_a_line(tmp_path):
    (tmp_path / "c.py").write_text("def get_config(variant):\n    return 1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError: division by zero"):
        load_config(str(tmp_path / "c.py"))
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(UserError, match="is not a Python file"):
        load_config(str(tmp_path / "c.txt"))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"d_state": 3}, "config.m has no key 'type'"),
        ({"type": "lru:GRU"}, "config.m.type is 'lru:GRU', which is not there"),
        ({"type": "lru.nothing:LRU"}, "which is not there"),
        ({"type": "lru:LRU", "d_stat": 3}, "config.m has no key 'd_stat'; did you mean 'd_state'?"),
        ({"type": "lru:LRU", "d_state": "3"}, "config.m.d_state is '3'; expected int"),
        ({"type": "lru:LRU"}, "config.m lacks the key 'd_state', which LRU needs"),
        ({"type": "lru:LRU", "d_state": True}, "config.m.d_state is True; expected int"),
        ({"type": "lru.data.text:Text"}, "expected what makes one, 'lru.data.text:Text.create'"),
        ({"type": "lru.models", "d_state": 3}, 'a module; expected "module:name"'),
        (
            {"type": "lru:LRU", "d_state": 3, "method": "asociative"},
            "config.m.method is 'asociative'; expected one of 'auto'",
        ),
        (
            {"type": "lru:LRU", "d_state": 3, "r_min": None},
            "config.m.r_min is None; expected",
        ),
    ],
)
def test_a_key_that_is_no_argument_is_never_ignored(section, words):
    with pytest.raises(UserError) as error:
        build(section, "config.m")
    assert words in str(error.value)


def test_a_key_that_the_program_fills_in_is_never_overwritten():
    section = {"type": "lru:LRU", "d_state": 3}
    with pytest.raises(UserError, match="config.m.d_state is filled in by the program; delete it"):
        build(section, "config.m", later=["d_state"])


def test_sections_become_partials_inside_partials():
    mixer = {"type": "lru:LRU", "d_state": 3}
    section = {"type": "lru.models:SequenceClassifier", "d_model": 2, "mixer": mixer}
    model = build(section | {"num_layers": 1}, "c", later=["num_classes"])
    assert (model.func, model.keywords["d_model"]) == (SequenceClassifier, 2)
    assert model.keywords["mixer"]() == lru.LRU(3)


def test_a_work_directory_belongs_to_one_config(tmp_path):
    config = ConfigDict({"a": {"b": 1, "rows": (("x", 1.0),)}})
    check_workdir(config, tmp_path)
    remember(config, tmp_path)
    check_workdir(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["a"]["b"] == 1
    with pytest.raises(UserError, match="config.a.b is 1 there, 2 here; choose another --workdir"):
        check_workdir(ConfigDict({"a": {"b": 2, "rows": (("x", 1.0),)}}), tmp_path)
    assert recall(tmp_path).a.b == 1


def test_a_work_directory_without_a_run_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        recall(tmp_path)
    for text in ("{", "[3]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            recall(tmp_path)


OF_SPEED = {
    "model.mixer.method", "train.steps_per_call", "train.device_data_mb", "train.tensorboard"
}  # fmt: skip


def keys_of(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("file", [LISTOPS, "configs/charlm_linear_lru.py"])
def test_a_run_goes_on_with_other_values_of_what_changes_no_number_alone(file):
    config = load_config(file)
    for key in keys_of(config):
        changed = ConfigDict(config.to_dict(), type_safe=False)
        section, _, name = f"config.{key}".rpartition(".")
        found = changed
        for part in section.split(".")[1:]:
            found = found[part]
        found[name] = "another"
        different = differences(config.to_dict(), changed.to_dict())
        assert set(different) == {key} - OF_SPEED, key
