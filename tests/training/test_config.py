"""Configs: loading, overrides, and errors before anything is run or written."""

import argparse
import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

import lru
from lru.errors import UserError
from lru.models import SequenceClassifier
from lru.training.build import build
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.names import resolve
from lru.training.ranges import check_ranges
from lru.training.run_config import check_workdir, differences, load_run_config, save_config
from lru.training.speed import BY_PLATFORM

LISTOPS = "configs/lra_listops.py"


def test_overrides_take_the_type_of_the_config():
    config = load_config(
        f"{LISTOPS}:smoke", ["--config.optimizer.learning_rate=1", "--config.seed=7"]
    )
    assert (config.optimizer.learning_rate, config.seed) == (1.0, 7)
    assert isinstance(config.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.patience=3", 3),
        ("train.select=loss", "loss"),
        ("train.least_improvement=1", 1.0),
        ("train.test_curve=true", True),
        ("model.mixer.chunk_size=256", 256),
        ("model.mixer.chunk_size=None", None),
        ("model.gelu=erf", "erf"),
        ("model.norm_momentum=0.9", 0.9),
        ("model.mixer.sequence_axis=time", "time"),
        ("model.mixer.param_dtype=float32", "float32"),
        ("optimizer.b2=0.99", 0.99),
        ("data.seed=5", 5),
    ],
)
def test_an_argument_of_the_target_can_be_added(override, value):
    config = load_config("configs/lra_text.py", [f"--config.{override}"])
    key = override.partition("=")[0].split(".")
    for name in key:
        config = config[name]
    assert config == value and type(config) is type(value)


def test_an_added_key_is_an_argument_of_the_overridden_type():
    overrides = ["--config.model.mixer.blocks=2", "--config.model.mixer.type=lru.baselines:S5"]
    assert load_config(LISTOPS, overrides).model.mixer.blocks == 2
    with pytest.raises(UserError, match="has no key 'blocks'"):
        load_config(LISTOPS, overrides[:1])


def test_a_loaded_config_can_be_changed():
    config = load_config(LISTOPS)
    config.model.mixer = dict(type="lru:LRU", d_state=6)
    config.train.patience = 2
    assert (config.model.mixer.d_state, config.train.patience) == (6, 2)


SIZES = [
    ("model.d_model=0", "config.model.d_model is 0; expected at least 1"),
    ("model.d_model=-8", "expected at least 1"),
    ("model.d_model=100000000000", "expected at most 1,048,576"),
    ("model.num_layers=0", "config.model.num_layers is 0; expected at least 1"),
    ("model.num_layers=100000", "expected at most 10,000"),
    ("model.mixer.d_state=0", "config.model.mixer.d_state is 0; expected at least 1"),
    ("model.mixer.chunk_size=-1", "expected at least 0"),
    ("model.mixer.max_phase=inf", "config.model.mixer.max_phase is inf; expected a finite number"),
    ("model.mixer.max_phase=nan", "expected a finite number"),
    ("model.mixer.max_phase=0", "expected a number above 0"),
    ("model.mixer.r_min=-0.1", "config.model.mixer.r_min is -0.1; expected at least 0"),
    ("model.mixer.r_max=1.5", "expected at most 1"),
    ("model.mixer.r_min=0.999", "r_min is 0.999 and r_max is 0.99; expected r_min <= r_max"),
    ("model.dropout=1", "config.model.dropout is 1.0; expected at least 0 and less than 1"),
    ("model.dropout=nan", "expected a finite number"),
    ("model.norm_momentum=-0.1", "expected at least 0 and less than 1"),
    ("optimizer.learning_rate=0", "config.optimizer.learning_rate is 0.0; expected a number from"),
    ("optimizer.learning_rate=nan", "config.optimizer.learning_rate is nan"),
    ("optimizer.learning_rate=inf", "config.optimizer.learning_rate is inf"),
    ("optimizer.warmup_fraction=2", "config.optimizer.warmup_fraction is 2.0"),
    ("optimizer.b1=1", "config.optimizer.b1 is 1.0; expected at least 0 and less than 1"),
    ("train.least_improvement=nan", "config.train.least_improvement is nan; expected a finite"),
    ("train.least_improvement=-1", "config.train.least_improvement is -1.0; expected at least 0"),
    ("train.batch_size=0", "config.train.batch_size is 0; expected at least 1"),
]


def try_config(overrides, variant="smoke"):
    """Creates an experiment that raises before it prepares its data set."""
    config = load_config(f"{LISTOPS}:{variant}", [f"--config.{each}" for each in overrides])
    config.data.type = "lru.data.listops:ListOps.create"
    return Experiment(config, None)


@pytest.mark.parametrize(("override", "words"), SIZES)
def test_an_impossible_size_or_rate_raises_one_line_before_data_are_prepared(override, words):
    with pytest.raises(UserError) as error:
        try_config([override])
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("variant", "override", "words"),
    [
        ("smoke,s4d", "model.mixer.d_state=7", "config.model.mixer is invalid: d_state=7"),
        ("smoke,s5", "model.mixer.dt_min=0", "config.model.mixer.dt_min is 0.0; expected a number"),
        ("smoke,s5", "model.mixer.blocks=5", "config.model.mixer is invalid"),
        ("smoke", "train.steps=8", "the data set must be read; give --data_dir"),
    ],
)
def test_a_wrong_mixer_raises_before_data_are_prepared(variant, override, words):
    with pytest.raises(UserError, match=words):
        try_config([override], variant)


def test_ranges_are_not_checked_for_the_users_own_classes():
    check_ranges(argparse.Namespace, {"d_model": 0, "r_max": math.inf}, "config.model")


def test_a_config_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(LISTOPS).train.steps == 80_000


def test_a_config_in_the_current_directory_comes_first(tmp_path, monkeypatch):
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
        ("nothing.py", [], "there are: configs/arrays.py"),
        (f"{LISTOPS}:quik", [], "variant 'quik' does not exist; did you mean 'quick'?"),
        (LISTOPS, ["--config.trian.steps=3"], "did you mean 'train'?"),
        (
            LISTOPS,
            ["--config.train.step=3"],
            "config.train has no key 'step'; did you mean",
        ),
        (LISTOPS, ["--config.model.gelo=erf"], "has no key 'gelo'; did you mean 'gelu'?"),
        (LISTOPS, ["--config.model.vocab_size=3"], "config.model has no key 'vocab_size'"),
        (LISTOPS, ["--config.model.parent=x"], "config.model has no key 'parent'"),
        (LISTOPS, ["--config.optimizer.steps=3"], "config.optimizer has no key 'steps'"),
        (LISTOPS, ["--config.train.patiense=3"], "did you mean 'patience'?"),
        (LISTOPS, ["--config.train.patience=3.5"], "--config.train.patience=3.5"),
        (LISTOPS, ["--config.train.patience=None"], "config.train.patience is None; expected int"),
        (LISTOPS, ["--config.model.mixer.chunk_size=x"], "--config.model.mixer.chunk_size=x"),
        (LISTOPS, ["--config.model.mixer.chunk.size=1"], "mixer has no key 'chunk'"),
        (LISTOPS, ["--config.data.mad_up_seed=1"], "config.data has no key 'mad_up_seed'"),
        (LISTOPS, ["--config.more=1"], "config has no key 'more'"),
        (LISTOPS, ["--config.data.options=3"], "config.data has no key 'options'"),
        (LISTOPS, ["--config.train.steps.x=3"], "config.train.steps has no key 'x'"),
        (LISTOPS, ["--config.train.steps=many"], "--config.train.steps=many"),
        (LISTOPS, ["--config.train.steps"], "has no value; write --config.train.steps=VALUE"),
        (LISTOPS, ["--config.model.remat=perhaps"], "--config.model.remat=perhaps"),
    ],
)
def test_a_wrong_config_or_override_raises_one_line(argument, overrides, words):
    with pytest.raises(UserError) as error:
        load_config(argument, overrides)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_failing_config_file_raises_its_error(tmp_path):
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
        ({"type": "lru:GRU"}, "config.m.type is 'lru:GRU', which cannot be imported"),
        ({"type": "lru.nothing:LRU"}, "which cannot be imported"),
        ({"type": "lru:LRU", "d_stat": 3}, "config.m has no key 'd_stat'; did you mean 'd_state'?"),
        ({"type": "lru:LRU", "d_state": "3"}, "config.m.d_state is '3'; expected int"),
        ({"type": "lru:LRU"}, "config.m lacks the key 'd_state', which LRU needs"),
        ({"type": "lru:LRU", "d_state": True}, "config.m.d_state is True; expected int"),
        ({"type": "lru.data.text:Text"}, "expected 'lru.data.text:Text.create'"),
        (
            {"type": "lru.models", "d_state": 3},
            'a module; expected a class or a function, as "module:name"',
        ),
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
def test_a_wrong_section_raises(section, words):
    with pytest.raises(UserError) as error:
        build(section, "config.m")
    assert words in str(error.value)


def test_a_key_that_the_program_fills_in_raises():
    section = {"type": "lru:LRU", "d_state": 3}
    with pytest.raises(UserError, match="config.m.d_state is set by the program; delete it"):
        build(section, "config.m", later=["d_state"])


def test_nested_sections_become_nested_partials():
    mixer = {"type": "lru:LRU", "d_state": 3}
    section = {"type": "lru.models:SequenceClassifier", "d_model": 2, "mixer": mixer}
    model = build(section | {"num_layers": 1}, "c", later=["num_classes"])
    assert (model.func, model.keywords["d_model"]) == (SequenceClassifier, 2)
    assert model.keywords["mixer"]() == lru.LRU(3)


def test_a_work_directory_belongs_to_one_config(tmp_path):
    config = ConfigDict({"a": {"b": 1, "rows": (("x", 1.0),)}})
    check_workdir(config, tmp_path)
    save_config(config, tmp_path)
    check_workdir(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["a"]["b"] == 1
    with pytest.raises(UserError, match="config.a.b is 1 there, 2 here; choose another --workdir"):
        check_workdir(ConfigDict({"a": {"b": 2, "rows": (("x", 1.0),)}}), tmp_path)
    assert load_run_config(tmp_path).a.b == 1


def test_a_work_directory_without_a_readable_config_raises(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        load_run_config(tmp_path)
    for text in ("{", "[3]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            load_run_config(tmp_path)


NO_EFFECT_ON_RESULTS = {
    *BY_PLATFORM, "train.steps_per_call", "train.device_data_mb", "train.tensorboard",
    "train.time_devices", "model.mixer.sequence_axis",
}  # fmt: skip


def keys_of(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("file", [LISTOPS, "configs/charlm_linear_lru.py"])
def test_only_keys_without_effect_on_results_may_change_in_a_run(file):
    config = load_config(file)
    for key in keys_of(config):
        changed = ConfigDict(config.to_dict(), type_safe=False)
        section, _, name = f"config.{key}".rpartition(".")
        found = changed
        for part in section.split(".")[1:]:
            found = found[part]
        found[name] = "another"
        different = differences(config.to_dict(), changed.to_dict())
        assert set(different) == {key} - NO_EFFECT_ON_RESULTS, key


def test_a_config_of_an_earlier_version_names_the_same_classes():
    config = load_config("configs/charlm_gru.py:ptb,smoke")
    earlier = config.to_dict()
    earlier["model"]["mixer"]["type"] = "lru.baselines.recurrent:GRU"
    assert config.model.mixer.type == "lru.baselines:GRU"
    assert not differences(config.to_dict(), earlier)
    section = earlier["model"]["mixer"]
    assert build(section, "config.model.mixer", allow=()).func is lru.baselines.GRU


def test_a_method_of_an_earlier_version_is_chosen_again():
    section = {"type": "lru:LRU", "d_state": 4, "method": "chunked"}
    assert build(section, "config.model.mixer", allow=()).keywords["method"] == "auto"
    with pytest.raises(UserError, match="method is 'chunked'; expected one of 'auto'"):
        build(section, "config.model.mixer")  # a config that the user wrote


def test_every_name_in_the_records_of_results_still_exists():
    files = Path(__file__).resolve().parents[2].glob("results/*/*.json")
    records = [json.loads(file.read_text()) for file in files]
    configs = [record["config"] for record in records if "config" in record]
    assert len(configs) > 100
    for name in {name for config in configs for name in _types(config)}:
        assert callable(resolve(name, "config"))


def _types(section):
    for key, value in section.items():
        if key == "type":
            yield value
        elif isinstance(value, dict):
            yield from _types(value)
