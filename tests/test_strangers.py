"""Loading a stranger's work directory or export runs none of their code."""

import json
import subprocess
import sys

import flax.linen as nn
import pytest

import lru
import lru.evaluate
import lru.export
import lru.generate
import lru.predict
import lru.reduce
import lru.spectrum
from lru.command_line import run
from lru.errors import UserError
from lru.training.best import restore_best
from lru.training.build import build
from lru.training.config import load_config
from lru.training.names import resolve
from lru.training.run_config import save_config

MODEL, DATA = (
    "expected a Flax module of lru or flax",
    "expected the `create` method of a data set of lru",
)


def ask_for(package):
    return f'if you trust {package}, add --allow={package} (in Python: allow=("{package}",))'


NAMES = [
    ("IPython:start_ipython", ask_for("IPython")),
    ("os:system", ask_for("os")),
    ("subprocess:run", ask_for("subprocess")),
    ("builtins:eval", ask_for("builtins")),
    ("lrux.models:Model", ask_for("lrux")),
    ("evil:Model", ask_for("evil")),
    ("evil.inner:Model", ask_for("evil")),
    ("lru.training.record:subprocess.run", "defined in subprocess"),
    ("lru.io.files:os.system", "defined in posix"),
    ("lru.training.config:runpy.run_path", "defined in runpy"),
    ("flax.linen:relu", "defined in jax"),
    ("flax.linen.module:functools.partial", "defined in functools"),
    ("lru.io.files:write_atomically", "expected"),
    ("lru.training.config:load_config", "expected"),
    ("lru.export:load", "expected"),
    ("lru.io.files:write_atomically.__call__", "expected"),
    ("lru:LRU.__init__", "expected"),
    ("lru.command_line:Parser", "expected"),
    ("flax.io:rmtree", "expected"),
    ("flax.training.checkpoints:save_checkpoint", "expected"),
    ("lru.configs._lra:build", "expected"),
    ("lru.models", 'expected "module:name"'),
    ("lru:", 'expected "module:name"'),
    (":LRU", 'expected "module:name"'),
    ("lru .models:LRU", 'expected "module:name"'),
    ("../evil:Model", 'expected "module:name"'),
    ("", 'expected "module:name"'),
    (5, 'expected "module:name"'),
    (None, 'expected "module:name"'),
    (["os:system"], 'expected "module:name"'),
    ({"type": "os:system"}, 'expected "module:name"'),
]


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """Makes a directory with modules that write a file when imported the current directory."""
    trace = f"import pathlib\npathlib.Path({str(tmp_path / 'trace')!r}).touch()\n"
    (tmp_path / "evil").mkdir()
    for file in ("evil/__init__.py", "evil/inner.py", "_lra.py", "lrux.py"):
        (tmp_path / file).write_text(f"{trace}def Model(*args, **kwargs):\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "trace").exists()
    assert not [name for name in sys.modules if name.partition(".")[0] in ("evil", "lrux")]


@pytest.fixture(scope="module")
def config():
    return load_config("configs/lra_listops.py:smoke").to_dict()


def put(tree, key, value):
    *sections, last = key.split(".")
    for name in sections:
        tree = tree[name]
    tree[last] = value


def written(folder, content):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("key", ["data.type", "model.type", "model.mixer.type"])
@pytest.mark.parametrize(("name", "words"), NAMES)
def test_a_work_directory_may_name_only_modules_and_data_sets_of_lru_and_flax(
    key, name, words, evil, config
):
    config = json.loads(json.dumps(config))
    put(config, key, name)
    with pytest.raises(UserError) as error:
        section, where = ("data", "config.data") if "data" in key else ("model", "config.model")
        build(config[section], where, ("num_classes", "vocab_size"), allow=())
    assert f"config.{key} is {name!r}" in str(error.value) and words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


COMMANDS = [lru.evaluate, lru.predict, lru.generate, lru.export, lru.reduce, lru.spectrum]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.type", "evil:Model"),
        ("model.type", "evil:Model"),
        ("model.mixer.type", "evil.inner:Model"),
        ("model.mixer.inner", {"deep": {"type": "evil:Model"}}),
        ("data.more", [{"type": "evil:Model"}]),
        ("train.more", {"type": "evil:Model"}),
        ("data.type", "lru.training.record:subprocess.run"),
        ("model.mixer.type", "lru.io.files:write_atomically"),
    ],
)
def test_every_command_rejects_other_names_before_importing(
    command, key, value, evil, config, capsys
):
    config = json.loads(json.dumps(config))
    put(config, key, value)
    workdir = written(evil / "run", config)
    more = {
        lru.predict: ["--input=new.npz", "--out=predicted.npz"],
        lru.generate: ["--prompt=a"],
        lru.export: [f"--out={evil / 'out'}"],
        lru.reduce: [f"--out={evil / 'out'}", "--modes=1"],
    }
    arguments = [f"--workdir={workdir}", f"--data_dir={evil / 'data'}", *more.get(command, [])]
    assert run(command.main, arguments) == 2
    err = capsys.readouterr().err.splitlines()
    words = "add --allow=evil" if "evil" in str(value) else f"is {value!r}"
    assert len(err) == 1 and words in err[0]
    assert {path.name for path in workdir.iterdir()} == {"config.json"}


@pytest.mark.parametrize("key", ["type", "mixer.type", "mixer.inner"])
def test_a_module_beside_an_export_is_rejected_before_importing(key, evil, config):
    section = json.loads(json.dumps(config["model"]))
    put(section, key, {"type": "evil:Model"} if key.endswith("inner") else "evil:Model")
    about = {
        "config": {"model": section},
        "arguments": {"num_classes": 2, "vocab_size": 3},
        "inputs": {"shape": [1, 1], "dtype": "int32"},
    }
    with pytest.raises(UserError, match="add --allow=evil"):
        lru.export.load(written(evil / "exported", about))


def test_an_export_of_other_data_is_rejected_before_importing(evil, config, capsys):
    about = {
        "config": {"model": config["model"], "data": {"type": "evil:Model"}},
        "arguments": {"num_classes": 2, "vocab_size": 3},
        "inputs": {"shape": [1, 1], "dtype": "int32"},
    }
    folder = written(evil / "exported", about)
    (folder / "model.safetensors").write_bytes(b"")
    assert run(lru.evaluate.main, [f"--workdir={folder}", f"--data_dir={evil / 'data'}"]) == 2
    assert "add --allow=evil" in capsys.readouterr().err


def test_a_new_process_rejects_other_names_before_importing(evil, config):
    config = json.loads(json.dumps(config))
    config["data"] = {"type": "evil:Model"}
    command = [sys.executable, "-m", "lru.evaluate", f"--workdir={written(evil / 'run', config)}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=evil)
    assert done.returncode == 2 and "add --allow=evil" in done.stderr


OWN = """
import functools, os
import flax.linen as nn
import lru
from lru.data.listops import ListOps
from lru.io.files import write_atomically

class Mine(lru.LRU):
    pass

class Data(ListOps):
    name = "listops"

half = functools.partial(lru.LRU, d_state=4)
worse = functools.partial(os.system, "true")
make = lambda **options: lru.LRU(4, **options)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a package of the user's own that is not imported yet."""
    (tmp_path / "mine_of_the_user").mkdir()
    (tmp_path / "mine_of_the_user" / "__init__.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_of_the_user"
    sys.modules.pop("mine_of_the_user", None)


def test_an_allowed_package_is_loaded(own, config, tmp_path):
    for name in ("Mine", "half", "make"):
        assert callable(resolve(f"{own}:{name}", "config.model.mixer", (own,)))
    assert resolve(f"{own}:Data.create", "config.data", (own,)).__self__.name == "listops"
    assert resolve("lru:LRU", "config.model.mixer", (own,)) is lru.LRU
    config = json.loads(json.dumps(config)) | {"data": {"type": f"{own}:Data.create"}}
    workdir = written(tmp_path / "run", config)
    with pytest.raises(UserError, match=f"add --allow={own}"):
        restore_best(workdir)
    with pytest.raises(UserError, match="has no evaluated checkpoint"):
        restore_best(workdir, allow=(own,))


@pytest.mark.parametrize("name", ["worse", "os.system", "write_atomically", "functools.partial"])
def test_an_allowed_package_gives_no_access_to_another(name, own):
    with pytest.raises(UserError, match="expected a Flax module"):
        resolve(f"{own}:{name}", "config.model.mixer", (own,))


@pytest.mark.parametrize("allow", [("",), ("my-package",), ("a:b",), ("a..b",), (3,)])
def test_an_allowed_name_that_is_not_a_package_raises(allow, tmp_path):
    with pytest.raises(UserError, match="expected the name of a package"):
        lru.export.load(written(tmp_path / "exported", {
            "config": {"model": {}}, "arguments": {}, "inputs": {"shape": [1], "dtype": "int32"},
        }), allow)  # fmt: skip


def test_the_users_own_config_file_may_name_anything(own):
    made = build({"type": f"{own}:Mine", "d_state": 3}, "config.model.mixer")
    assert isinstance(made(), nn.Module)


def test_modules_of_flax_are_accepted():
    assert resolve("flax.linen:GRUCell", "config.model.mixer", ()) is nn.GRUCell


@pytest.mark.parametrize("content", ["5", "null", "[]", '"a"', "{", "", "[" * 100_000, "\0"])
def test_a_config_that_is_not_an_object_raises_one_line(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert run(lru.evaluate.main, [f"--workdir={tmp_path}", f"--data_dir={tmp_path}"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "config.json is damaged" in err[0]
    with pytest.raises(UserError, match=r"config.json is damaged"):
        lru.export.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train", 5, "config.train is 5; expected a section"),
        ("optimizer", None, "config.optimizer is None; expected a section"),
        ("data", [], "config.data is "),
        ("seed", "0", "config.seed is '0'; expected a whole number"),
        ("optimizer.groups", 5, "config.optimizer.groups is 5; expected rows of"),
        ("optimizer.groups", [["("]], "config.optimizer.groups has the row"),
    ],
)
def test_a_config_of_another_structure_raises_one_line(key, value, words, config, tmp_path):
    from ml_collections import ConfigDict

    from lru.training.experiment import Experiment

    config = json.loads(json.dumps(config))
    put(config, key, value)
    with pytest.raises(UserError) as error:
        Experiment(ConfigDict(config), tmp_path, allow=())
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


def test_control_characters_in_a_config_are_escaped(config, tmp_path, capsys):
    config = json.loads(json.dumps(config))
    config["model"]["\x1b]0;owned\x07key"] = 1
    config["model"]["type"] = "lru.models:SequenceClassifier"
    workdir = written(tmp_path / "run\x1b[2J", config)
    import lru.train

    arguments = ["--config=configs/lra_listops.py:smoke", f"--workdir={workdir}"]
    assert run(lru.train.main, [*arguments, f"--data_dir={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\x07" not in err and r"run\x1b[2J" in err


def test_a_config_whose_types_differ_from_the_work_directory_raises(config, tmp_path):
    from lru.training.run_config import check_workdir

    mine = load_config("configs/lra_listops.py:smoke")
    save_config(mine, tmp_path)
    mine.model.mixer.type = "evil:Model"
    with pytest.raises(UserError, match="config.model.mixer.type is 'lru:LRU' there, 'evil:Model'"):
        check_workdir(mine, tmp_path)
