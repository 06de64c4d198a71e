"""What the commands say about themselves and about configs, before anything is computed."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lru.command_line
import lru.train
from lru.command_line import run
from lru.training.config import find_config
from lru.training.config_text import format_config, list_configs

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
COMMANDS = [name.removeprefix("lru-") for name in SCRIPTS]


@pytest.fixture
def help_of(monkeypatch, capsys):
    """Returns a function that returns the help of a console script, on 80 columns."""

    def help_text(command):
        monkeypatch.setattr(sys, "argv", [f"bin/lru-{command}", "--help"])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit, match="0"):
            getattr(lru.command_line, command)()
        return capsys.readouterr().out

    return help_text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_with_known_arguments_and_names_the_script(command, help_of):
    text = help_of(command)
    assert text.startswith(f"usage: lru-{command} ")
    examples = [line for line in text.splitlines() if line.startswith("    python -m lru.")]
    assert len(examples) >= 2 and all(f"lru.{command} " in line for line in examples)
    for line in examples:
        for argument in line.split():
            if argument.startswith("--") and not argument.startswith("--config."):
                assert argument.partition("=")[0] in text.partition("For example:")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_console_script_is_the_function_of_its_module(command, monkeypatch, capsys):
    assert SCRIPTS[f"lru-{command}"] == f"lru.command_line:{command}"
    module, given = importlib.import_module(f"lru.{command}"), []
    monkeypatch.setattr(module, "main", given.append)
    monkeypatch.setattr(sys, "argv", [f"lru-{command}", "--a", "b"])
    assert getattr(lru.command_line, command)() == 0
    assert given == [["--a", "b"]]


def test_a_console_script_exits_with_2_and_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lru-spectrum", "--wrkdir=x"])
    assert lru.command_line.spectrum() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_help_of_training_lists_every_config_and_variant_on_80_columns(help_of):
    text = help_of("train")
    for file in (ROOT / "configs").glob("*.py"):
        assert f"\n  {file.stem} " in text
    for variants in ("quick, smoke\n", "ring, s4d, s5\n", "ptb, warpeace,", "motion, stiffness"):
        assert variants in text
    assert max(map(len, text.splitlines())) <= 80


def test_listing_configs_does_not_import_jax():
    program = "import sys; from lru.training.config_text import list_configs; list_configs()\n"
    program += "sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("listops", "lra_listops"),
        ("lra_listops", "lra_listops"),
        ("listops.py", "lra_listops"),
        ("lra_listops.py", "lra_listops"),
        ("configs/listops", "lra_listops"),
        ("configs/lra_listops", "lra_listops"),
        ("configs/lra_listops.py", "lra_listops"),
        ("recall", "recall"),
        ("lru", "charlm_lru"),  # not charlm_ps_lru
        ("linear_lru", "charlm_linear_lru"),
    ],
)
def test_a_config_is_found_by_its_name(given, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(given) == ROOT / "configs" / f"{name}.py"


def test_an_existing_file_precedes_a_config_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("listops.py").write_text("")
    assert find_config("listops.py") == find_config("listops") == Path("listops.py")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("listop", "did you mean 'lra_listops'?"),
        ("path", "there are: lra_pathfinder, lra_pathx"),
        ("charlm_lrs", "did you mean 'charlm_lru'?"),
        ("zzz", "there are: arrays, charlm_grid_lstm,"),
        ("configs/lra_txt.py", "did you mean 'configs/lra_text.py'?"),
    ],
)
def test_an_unknown_name_prints_the_nearest_in_one_line(given, words, capsys):
    assert run(lru.train.main, [f"--config={given}:quick", "--workdir=never"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: config file {given} does not exist; ") and words in line


def lines(config, *overrides):
    """Returns the lines of a printed config, by the names of the options."""
    text = format_config(config, [f"--config.{override}" for override in overrides])
    return {line.partition(" = ")[0].removeprefix("config."): line for line in text.splitlines()}


def test_every_line_of_a_printed_config_is_python_that_sets_its_value():
    from ml_collections import ConfigDict

    from lru.training.config import load_config

    for name in ("listops", "recall:s5_fit", "charlm_linear_lru:quick", "arrays"):
        config = ConfigDict({"data": {}, "model": {"mixer": {}}, "optimizer": {}, "train": {}})
        exec(format_config(name), {"config": config})
        assert config.to_dict() == load_config(name).to_dict()


def test_a_comment_belongs_to_the_line_that_set_the_value():
    paper, quick = lines("listops"), lines("listops:quick", "model.mixer.r_max=0.9", "seed=3")
    assert paper["model.d_model"] == "config.model.d_model = 128  # Table 10"
    assert quick["model.d_model"] == "config.model.d_model = 64"
    assert quick["model.dropout"] == "config.model.dropout = 0.0  # Table 10"
    assert paper["model.mixer.r_max"] == "config.model.mixer.r_max = 0.99  # Table 8"
    assert quick["model.mixer.r_max"] == "config.model.mixer.r_max = 0.9"
    assert paper["optimizer.b1"].endswith("  # not in the paper: the usual value")
    assert paper["train.eval_every"] == "config.train.eval_every = 1000"


def test_a_replaced_mixer_and_a_reference_keep_no_foreign_comment():
    ablation = lines("listops:stable_exp")  # r_min is 0.0 here too, but from Table 7
    assert ablation["model.mixer.r_min"] == "config.model.mixer.r_min = 0.0"
    charlm, recall = lines("charlm_gru"), lines("recall")
    assert charlm["optimizer.learning_rate"].endswith("# the authors' code")
    assert recall["optimizer.end_learning_rate"] == "config.optimizer.end_learning_rate = 0.003"


def test_printing_a_config_needs_no_data_and_no_work_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--config=listops:quick", "--print_config", "--config.train.steps=7"]
    assert run(lru.train.main, arguments) == 0
    out, err = capsys.readouterr()
    assert out == format_config("listops:quick", arguments[2:]) and not err
    assert "config.train.steps = 7\n" in out
    assert not list(tmp_path.iterdir())


def test_configs_with_the_same_variants_are_listed_once():
    assert list_configs().count(":quick, smoke\n") == 2  # of the Long Range Arena, and recall
