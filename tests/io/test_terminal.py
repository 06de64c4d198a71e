"""Untrusted text cannot control the terminal."""

import io
import json
import logging
import sys

import pytest

import lru.train
from lru import evaluate, export, generate, spectrum
from lru.command_line import run
from lru.errors import UserError
from lru.io.terminal import log, printable, write
from lru.training.description import Description
from lru.training.writers import Progress

CLEAR = "\x1b[2J"
STEERING = ["\x00", "\x07", "\x08", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"]


@pytest.mark.parametrize("character", [*STEERING, "\ud800", "\udcff"])
def test_control_characters_are_escaped(character):
    assert printable(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines", "a\ttab", "größer — ☃", "\u00a0", "👩\u200d🔬"]
)
def test_other_text_is_unchanged(text):
    assert printable(text) == text


def test_a_line_feed_can_be_escaped():
    assert printable("a\nb", keep="") == r"a\nb"


def test_characters_that_a_file_cannot_encode_are_escaped():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    log("ü\x1b", file)
    assert file.buffer.getvalue() == b"\\xfc\\x1b\n"
    write("☃", file)
    assert file.buffer.getvalue().endswith(b"\\u2603")


def test_errors_and_logs_are_escaped(capsys):
    def main(_):
        logging.getLogger("lru.any").info("a log of %s", CLEAR)
        raise UserError(f"a path {CLEAR}")

    assert run(main, []) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("a log of \\x1b[2J\n", "error: a path \\x1b[2J\n")


def test_arguments_in_messages_are_escaped(capsys):
    assert run(lru.train.main, ["--config=a", "--workdir=b", f"--{CLEAR}"]) == 2
    assert run(lru.train.main, [f"--config=a{CLEAR}.py", "--workdir=b"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_output_of_training_is_escaped(capsys):
    progress = Progress(3, 0, ("examples", 1))
    progress.log(f"note: {CLEAR}")
    progress.close()
    assert capsys.readouterr().out == "note: \\x1b[2J\n"


@pytest.fixture
def described(monkeypatch):
    """Replaces the restored model by one that always generates an escape character."""
    tokens = ("?", "a", "\x1b", "\r", "é")
    text = Description("text", "full", "", None, 5, (1, 1), "int32", tokens, False, 1)

    class Experiment:
        dataset, model = text, None

        def variables(self, state):
            return None

        def precision(self):
            return io.StringIO()  # some context

    from lru.training.tasks import LanguageModelling

    Experiment.task = LanguageModelling.__new__(LanguageModelling)
    restored = (Experiment(), None, 1)
    monkeypatch.setattr("lru.training.best.restore_best", lambda *_, **__: restored)
    monkeypatch.setattr("lru.models.sampling.sample", lambda *_, **__: iter([1, 2, 3, 4, 1]))


def test_prompt_and_generated_text_are_escaped(described, capsys):
    assert run(generate.main, ["--workdir=any", f"--prompt=a{CLEAR}\x08\n", "--length=4"]) == 0
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2J\\x08\na\\x1b\\ré\n"
    assert "read as unknown: \\x08 \\n 2 J [" in err and "\x1b" not in err


EMPTY = [
    (lru.train, ["--config=c.py", "--workdir="]),
    (lru.train, ["--config=c.py", "--workdir=w", "--data_dir="]),
    (lru.train, ["--config=c.py", "--workdir=w", "--manual_dir="]),
    (lru.train, ["--config=c.py", "--workdir=w", "--init_from="]),
    (lru.train, ["--config=", "--workdir=w"]),
    (evaluate, ["--workdir="]),
    (evaluate, ["--workdir= "]),
    (evaluate, ["--workdir=w", "--data_dir="]),
    (generate, ["--prompt=a", "--workdir="]),
    (export, ["--out=o", "--workdir="]),
    (export, ["--out=", "--workdir=w"]),
    (spectrum, ["--workdir="]),
    (spectrum, ["--workdir=w", "--out="]),
    (spectrum, ["--workdir=w", "--animation="]),
]


@pytest.mark.parametrize(("command", "arguments"), EMPTY)
def test_an_empty_path_raises(command, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(command.main, arguments) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "it is empty; expected" in err, err
    assert not out and not list(tmp_path.iterdir())


def test_an_empty_folder_to_load_from_raises():
    with pytest.raises(UserError, match="the folder is empty"):
        export.load("")


def test_a_damaged_record_prints_no_control_characters(tmp_path, capsys):
    """A stranger's record can contain any name of a split."""
    from lru.training.config import load_config
    from lru.training.loop import _finished
    from lru.training.run_config import save_config

    save_config(load_config("configs/lra_listops.py:smoke"), tmp_path)
    row = {"step": 1, "split": CLEAR, "accuracy": 0.5, "loss": 1.0}
    record = {"config": {}, "steps": 1, "steps_planned": 1, "test": row}
    (tmp_path / "record.json").write_text(json.dumps(record))
    _finished(tmp_path)
    assert "\x1b" not in capsys.readouterr().out


def test_lines_are_flushed(monkeypatch):
    """Generated characters appear as they are drawn."""
    flushed = []
    monkeypatch.setattr(sys.stdout, "flush", lambda: flushed.append(1))
    write("a")
    assert flushed
