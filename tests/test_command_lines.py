"""The command lines: their output and exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lru.evaluate
import lru.train
from lru.command_line import Parser, add_data_arguments, default_data_dir, run
from lru.errors import UserError

SMOKE = "--config=configs/lra_listops.py:smoke"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory and the command-line arguments of a finished run."""
    root = tmp_path_factory.mktemp("run")
    arguments = [f"--workdir={root / 'work'}", f"--data_dir={root / 'data'}"]
    assert run(lru.train.main, [SMOKE, *arguments]) == 0
    return root, arguments


def lines(capsys):
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def test_training_prints_groups_progress_and_result(finished, capsys):
    root, arguments = finished
    (root / "work" / "record.json").unlink()
    assert run(lru.train.main, [SMOKE, *arguments]) == 0
    out, err = lines(capsys)
    assert not err
    assert out[0].split() == ["group", "peak", "rate", "decay", "arrays", "parameters"]
    assert "data: listops (generated), 64 training examples of up to 24 steps" in out
    sizes = "2 layers of LRU, d_model 8, d_state 6, 990 parameters"
    assert f"model: SequenceClassifier, {sizes}" in out
    assert max(map(len, out[:-1])) <= 80
    assert out[-2].startswith("test accuracy")
    assert "curves.png, spectrum.png, record.json" in out[-1]


def test_evaluation_prints_the_line_that_training_printed(finished, capsys):
    _, arguments = finished
    run(lru.train.main, [SMOKE, *arguments])
    trained = lines(capsys)[0][-1].removeprefix("already finished; ")
    assert run(lru.evaluate.main, arguments) == 0
    assert lines(capsys) == ([trained], [])
    assert run(lru.evaluate.main, [*arguments, "--split=validation"]) == 0
    assert lines(capsys)[0][0].startswith("validation accuracy")


BAD = [
    ([SMOKE], "the following arguments are required: --workdir"),
    (["--workdir=x"], "the following arguments are required: --config"),
    ([SMOKE, "--workdir=x", "--wrkdir=y"], "unknown argument --wrkdir=y"),
    ([SMOKE, "--workdir=x", "y"], "unknown argument y"),
    ([SMOKE, "--workdir=x", "--config.model.d_modle=3"], "did you mean 'd_model'?"),
    ([SMOKE, "--workdir=x", "--config.train.steps=many"], "--config.train.steps=many"),
    (["--config=configs/lra_listops.py:fast", "--workdir=x"], "variant 'fast' does not exist"),
    (["--config=configs/nothing.py", "--workdir=x"], "config file configs/nothing.py"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_wrong_arguments_print_at_most_two_lines_and_exit_with_2(arguments, words, capsys):
    assert run(lru.train.main, arguments) == 2
    out, err = lines(capsys)
    assert not out
    assert words in err[0] and err[0].startswith("error: ")
    assert len(err) <= 2


def test_another_config_is_rejected_and_the_work_directory_unchanged(finished, capsys):
    root, arguments = finished
    before = {path: path.read_bytes() for path in (root / "work").glob("*.json*")}
    assert run(lru.train.main, [SMOKE, *arguments, "--config.seed=5"]) == 2
    assert "config.seed is 0 there, 5 here" in lines(capsys)[1][0]
    assert before == {path: path.read_bytes() for path in (root / "work").glob("*.json*")}


def test_a_damaged_tsv_prints_its_name_and_line(tmp_path, capsys):
    expression = "( ( ( [MAX 2 ) 9 ) ] )"
    for name in ("train", "val", "test"):
        rows = [f"{expression}\t9"] * {"train": 64, "val": 20, "test": 21}[name]
        if name == "val":
            rows[6] = f"{expression}\t8"
        text = "\n".join(["Source\tTarget", *rows]) + "\n"
        (tmp_path / f"basic_{name}.tsv").write_text(text)
    arguments = [SMOKE, f"--workdir={tmp_path / 'w'}", f"--data_dir={tmp_path / 'd'}"]
    arguments += [f"--manual_dir={tmp_path}", "--config.data.source=released"]
    assert run(lru.train.main, arguments) == 2
    err = lines(capsys)[1]
    assert "basic_val.tsv" in err[0] and "line 8" in err[0] and len(err) <= 2
    assert not (tmp_path / "w").exists()


@pytest.mark.usefixtures("interruptible")
def test_a_signal_before_training_prints_one_line(capsys):
    # A background job of a script inherits an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _check_signals(capsys)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def _check_signals(capsys):
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")):
        assert run(lambda _, number=number: signal.raise_signal(number), []) == 128 + number
        assert lines(capsys)[1] == [f"error: stopped by {name}"]


def test_an_unwritable_disk_prints_one_line(tmp_path, capsys):
    def main(_):
        (tmp_path / "no" / "such").write_text("")

    assert run(main, []) == 2
    (line,) = lines(capsys)[1]
    assert "no/such" in line and "No such file or directory" in line


def test_a_missing_package_prints_how_to_install_it(capsys):
    def main(_):
        import no_such_package  # noqa: F401

    assert run(main, []) == 2
    first, second = lines(capsys)[1]
    assert (
        first
        == "error: no_such_package is not installed; install the dependencies of the commands:"
    )
    assert '"lru-flax[train] @ git+' in second and '".[train]"' in second


def test_another_package_named_lru_is_reported(capsys, monkeypatch):
    monkeypatch.delattr(lru, "__version__")  # as lru-dict's lru/__init__.py has none
    assert run(lru.train.main, [SMOKE, "--workdir=never"]) == 2
    out, err = lines(capsys)
    assert (out, len(err)) == ([], 2) and "pip uninstall lru-dict" in err[1]


def test_evaluating_a_directory_without_a_run_prints_an_error(tmp_path, capsys):
    assert run(lru.evaluate.main, [f"--workdir={tmp_path}"]) == 2
    assert "holds no run" in lines(capsys)[1][0]


@pytest.mark.parametrize("module", ["lru.train", "lru.evaluate"])
def test_help_explains_the_arguments(module):
    command = [sys.executable, "-m", module, "--help"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--workdir" in out and "--data_dir" in out
    assert "JAX_ENABLE_COMPILATION_CACHE=false" in " ".join(out.split())


COMPILE = """
import jax
from lru.command_line import cache_compilations
cache_compilations()
print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
print(jax.jit(lambda x: x + 1)(1.0))
"""


def compile_with(**variables):
    """Returns the output of a new process with only these environment variables for JAX."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=env | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    settings, result = done.stdout.splitlines()
    assert result == "2.0"
    return settings


def test_compiled_programs_are_cached_in_the_chosen_or_default_directory(tmp_path):
    cache, own = tmp_path / "lru" / "jax", tmp_path / "own"
    assert compile_with(XDG_CACHE_HOME=str(tmp_path)) == f"{cache} 0.5"
    assert not any(cache.iterdir())  # it took less than half a second
    variables = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": str(own)}
    assert compile_with(**variables) == f"{own} 1.0"
    assert compile_with(XDG_CACHE_HOME="/dev/null") == "None 1.0"


def test_a_damaged_cache_is_ignored_and_the_cache_can_be_disabled(tmp_path):
    variables = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XDG_CACHE_HOME": str(tmp_path)}
    compile_with(JAX_ENABLE_COMPILATION_CACHE="false", **variables)
    assert not any((tmp_path / "lru" / "jax").iterdir())
    compile_with(**variables)
    cached = list((tmp_path / "lru" / "jax").iterdir())
    assert cached
    for file in cached:
        os.truncate(file, file.stat().st_size // 2)
    compile_with(**variables)


def test_both_command_lines_cache_compilations(tmp_path, monkeypatch):
    called = []
    for module in (lru.train, lru.evaluate):
        monkeypatch.setattr(module, "cache_compilations", lambda name=module: called.append(name))
    assert run(lru.train.main, ["--config=nothing.py", f"--workdir={tmp_path}"]) == 2
    assert run(lru.evaluate.main, [f"--workdir={tmp_path}"]) == 2
    assert called == [lru.train, lru.evaluate]


def test_importing_the_layer_imports_jax_and_flax_only():
    """Checks the modules that `import lru` adds to those that jax and flax import."""
    program = """
import json, sys, warnings
warnings.filterwarnings("error", module="(lru|jax|flax)([.]|$)")
import jax, flax.linen, flax.nnx
before = set(sys.modules)
import lru, lru.nnx
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(json.loads(out)) <= {"lru", "jaxtyping", "wadler_lindig"}


def test_a_run_imports_no_tensorflow(finished):
    _, arguments = finished
    program = """
import sys
import lru.train
from lru.command_line import default_data_dir, run
from lru.errors import UserError
code = run(lru.train.main, sys.argv[1:])
sys.exit(code or "tensorflow" in sys.modules)
"""
    command = [sys.executable, "-c", program, SMOKE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_the_default_data_directory_is_the_first_of_three_that_is_set(monkeypatch):
    monkeypatch.setenv("LRU_DATA_DIR", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert default_data_dir() == Path("/a")
    monkeypatch.delenv("LRU_DATA_DIR")
    assert default_data_dir() == Path("/b/lru/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_dir() == Path("/c/.cache/lru/data")


def test_data_dir_is_required_without_a_home_directory(monkeypatch):
    for name in ("LRU_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("lru.command_line.Path.home", no_home)
    parser = Parser(prog="it")
    add_data_arguments(parser)
    with pytest.raises(UserError, match="required: --data_dir; see it --help"):
        parser.parse_args([])
    assert parser.parse_args(["--data_dir=a"]).data_dir == Path("a")


def test_too_little_memory_and_a_missing_device_print_at_most_two_lines(capsys):
    def fail(text):
        def main(_):
            raise RuntimeError(text)

        return main

    short = "RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmany\nmore\nlines"
    assert run(fail(short), []) == 2
    _, err = lines(capsys)
    assert err == [f"error: {short.splitlines()[0]}",
                   "to train with less memory, reduce --config.train.batch_size"]  # fmt: skip
    assert run(fail("Unable to initialize backend 'cuda': none\nmore"), []) == 2
    (line,) = lines(capsys)[1]
    assert line.startswith("error: Unable to initialize backend 'cuda': none; check JAX_PLATFORMS")
    with pytest.raises(RuntimeError, match="a bug"):
        run(fail("a bug"), [])


PRINT = "import sys; from lru.command_line import run\n"
PRINT += "def main(_):\n  print('a' * 99); open(sys.argv[1], 'w').write('b'); print('c')\n"
PRINT += "sys.exit(run(main))"


@pytest.mark.parametrize(("streams", "code"), [(">&-", 0), (">&- 2>&-", 0), ("<&- >&-", 0)])
def test_a_closed_stdout_is_not_an_error_and_nothing_is_printed_into_files(streams, code, tmp_path):
    command = f'{sys.executable} -c "$0" {tmp_path / "file"} {streams}'
    done = subprocess.run(["sh", "-c", command, PRINT], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "file").read_text() == "b"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not on every system")
def test_an_unwritable_stdout_prints_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", PRINT, str(tmp_path / "file")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot read or write: No space left on device; free")
    assert len(done.stderr.splitlines()) == 1


def test_help_into_a_closed_pipe_prints_no_traceback():
    code = "import sys; from lru.command_line import Parser, run\n"
    code += "sys.exit(run(lambda _: Parser(prog='it').parse_args(['--help'])))"
    command = f'{sys.executable} -c "$0" | exec true'
    done = subprocess.run(["sh", "-c", command, code], stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


def test_logging_into_a_closed_pipe_ends_silently():
    code = "import logging, sys; from lru.command_line import run\n"
    code += "def main(_):\n  while True: logging.getLogger('lru').info('a' * 9999)\n"
    code += "sys.exit(run(main))"
    command = f'{sys.executable} -c "$0" | head -1 >/dev/null'
    done = subprocess.run(["sh", "-c", command, code], stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


def test_printing_into_a_closed_pipe_ends_silently():
    code = "import sys; from lru.command_line import run\n"
    code += "def main(_):\n  while True: print('a' * 99, flush=True)\nsys.exit(run(main))"
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdout.readline() == 99 * "a" + "\n"
    writer.stdout.close()
    assert writer.wait() == 141 and writer.stderr is not None and not writer.stderr.read()
    writer.stderr.close()
