"""The command line that continues a prompt."""

import pytest

from lru import generate
from lru.command_line import run
from lru.data.corpora import TextStream
from lru.data.enwik8 import Enwik8
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import train_and_evaluate


@pytest.fixture(scope="module")
def run_arguments(tmp_path_factory):
    """The arguments for a trained smoke run."""
    root = tmp_path_factory.mktemp("generate")
    config = load_config("configs/charlm_linear_lru.py:smoke", ["--config.train.epochs=1"])
    train_and_evaluate(config, root / "run", data_dir=root / "data")
    return [f"--workdir={root / 'run'}", f"--data_dir={root / 'data'}"]


@pytest.fixture
def write(monkeypatch, capsys):
    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["lru.generate", *arguments])
        code = run(generate.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_output_is_the_prompt_and_length_more_characters(run_arguments, write):
    code, out, err = write(*run_arguments, "--prompt=a b", "--length=30", "--seed=1")
    assert not code and out.startswith("a b") and len(out) == 3 + 30 + len("\n")
    assert "seed: 1" in err and "note" not in err
    assert write(*run_arguments, "--prompt=a b", "--length=30", "--seed=1")[1] == out


def test_a_random_seed_is_printed_and_reproduces_the_text(run_arguments, write):
    _, out, err = write(*run_arguments, "--prompt=a", "--length=40")
    seed = err.strip().removeprefix("seed: ")
    assert write(*run_arguments, "--prompt=a", "--length=40", f"--seed={seed}")[1] == out


def test_unknown_characters_are_reported_and_printed(run_arguments, write):
    code, out, err = write(*run_arguments, "--prompt=aΩ☃", "--length=5", "--seed=0")
    assert not code and out.startswith("aΩ☃") and "read as unknown: Ω ☃" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt="], "--prompt is empty"),
        (["--prompt=a", "--length=0"], "'0'; expected a whole number of at least 1"),
        (["--prompt=a", "--temperature=-1"], "'-1'; expected a finite number of at least 0"),
        (["--prompt=a", "--top-k=x"], "'x'; expected a whole number of at least 1"),
        (["--prompt=a", "--workdir=nowhere"], "nowhere holds no run"),
    ],
)
def test_wrong_arguments_print_an_error(arguments, message, run_arguments, write):
    code, out, err = write(*run_arguments, *arguments)
    assert code == 2 and message in err and not out


def test_a_classifier_prints_an_error(tmp_path, write, monkeypatch):
    classifier = Experiment(load_config("configs/lra_listops.py:smoke"), tmp_path)
    restored = classifier, None, 1
    monkeypatch.setattr("lru.training.best.restore_best", lambda *_, **__: restored)
    code, _, err = write("--workdir=any", "--prompt=a")
    assert (
        code == 2
        and "is not a language model, but was trained on the data set listops; expected a run of "
        "one of configs/charlm_*.py"
        in err
    )


def test_bytes_are_written_as_characters(tmp_path):
    """A prompt is encoded as UTF-8, and a character appears with its last byte."""
    (tmp_path / "enwik8").write_bytes(("größer — " * 40).encode())
    text = Enwik8.create(tmp_path / "data", tmp_path)
    assert isinstance(text, TextStream)
    tokens = text.encode("grö—")
    assert len(tokens) == 2 + 2 + 3 and 0 not in tokens
    assert list(text.as_text(tokens)) == ["g", "r", "", "ö", "", "", "—"]
    assert "".join(text.as_text([tokens[2], tokens[0]])) == "�g"


def test_temperature_and_top_k_reach_the_sampler(run_arguments, write):
    def text(*arguments):
        return write(*run_arguments, "--prompt=a b", "--length=40", *arguments)[1]

    likeliest = text("--temperature=0", "--seed=1")
    assert text("--temperature=0", "--seed=2") == likeliest
    assert text("--temperature=9", "--top-k=1", "--seed=1") == likeliest
    assert text("--temperature=9", "--seed=1") != likeliest


def test_each_seed_writes_another_text(run_arguments, write):
    options = ["--prompt=a b", "--length=40", "--temperature=2"]
    texts = {write(*run_arguments, *options, f"--seed={seed}")[1] for seed in range(3)}
    assert len(texts) == 3
