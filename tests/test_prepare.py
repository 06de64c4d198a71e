import os
import subprocess
import sys
from pathlib import Path

import pytest

from lru.command_line import run
from lru.prepare import main

TINY = ["--max_depth=4", "--min_length=3", "--max_length=30", "--pad_to=32"]
TINY += ["--num_train=20", "--num_validation=4", "--num_test=3"]


@pytest.fixture
def prepare(tmp_path, capsys):
    """Runs the script with its data directory in `tmp_path`: `(exit code, output, errors)`."""

    def prepare(*arguments):
        code = run(main, [f"--data_dir={tmp_path}", *arguments])
        return code, *capsys.readouterr()

    return prepare


def test_it_prepares_a_data_set_and_prints_its_directory(prepare, tmp_path):
    code, output, _ = prepare(*TINY, "--seed=3")
    assert code == 0
    summary, directory = output.splitlines()[-1].split(" in ")
    assert summary == "listops (generated): 20 train, 4 validation, 3 test examples"
    directory = Path(directory)
    assert directory.is_relative_to(tmp_path) and "seed=3" in str(directory)
    assert (directory / "checksums.json").exists()


def test_written_files_can_be_read(prepare, tmp_path):
    raw = tmp_path / "raw"
    code, output, _ = prepare(*TINY, f"--write_tsv={raw}")
    assert (code, output.splitlines()[-1]) == (0, f"written as text to {raw}")
    assert len((raw / "basic_train.tsv").read_text().splitlines()) == 21
    code, output, _ = prepare(*TINY, "--source=released", f"--manual_dir={raw}")
    assert code == 0
    assert output.splitlines()[-1].startswith("listops (stand-in): 20 train")


def test_the_command_in_an_error_prepares_the_missing_data(prepare, tmp_path):
    raw = tmp_path / "raw"
    prepare(*TINY, f"--write_tsv={raw}")
    code, _, errors = prepare(*TINY, "--source=released", f"--manual_dir={tmp_path / 'empty'}")
    assert code == 2 and "basic_train.tsv" in errors
    _, _, command = errors.strip().partition("python -m lru.prepare ")
    code, output, _ = prepare(*command.replace("DIRECTORY", str(raw)).split())
    assert code == 0 and "listops (stand-in): 20 train" in output
    code, output, _ = prepare(*TINY, "--source=released")  # already prepared
    assert code == 0 and "listops (stand-in): 20 train" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["text", "--pad_to=30"],
        ["cifar10", "--color=grey"],
        ["retrieval", "--pad_to=30"],
        ["pathfinder", "--resolution=64"],
    ],
)
def test_every_task_can_be_prepared(prepare, arguments):
    task, more = arguments
    sizes = ["--made_up_train=9", "--made_up_validation=8", "--made_up_test=7"]
    code, output, _ = prepare(f"--task={task}", "--source=made_up", *sizes, more)
    summary = output.splitlines()[-1].split(" in ")[0]
    assert (code, summary) == (0, f"{task} (made-up): 9 train, 8 validation, 7 test examples")


@pytest.mark.parametrize("task", ["ptb", "warpeace", "enwik8", "text8"])
def test_every_text_can_be_prepared(prepare, task):
    code, output, _ = prepare(f"--task={task}", "--source=made_up", "--percent=20")
    summary, note = output.splitlines()[-2:]
    expected = f"{task} (made-up): 1 train, 1 validation, 1 test examples"
    assert (code, summary.split(" in ")[0]) == (0, expected)
    assert note == "note: trained on the first 20 % of the training text"


def test_it_writes_a_contact_sheet(prepare, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = ["--task=pathfinder", "--source=made_up", f"--write_sheet={sheet}"]
    code, output, _ = prepare(*arguments)
    assert (code, output.splitlines()[-1]) == (0, f"some examples of each class are in {sheet}")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    code, _, errors = prepare("--task=text", *arguments[1:])
    assert code == 2
    assert "are not square images" in errors


def test_the_note_of_a_data_set_is_printed(prepare):
    arguments = ["--task=text", "--source=made_up", "--protocol=paper", "--pad_to=30"]
    code, output, _ = prepare(*arguments)
    assert code == 0
    assert output.splitlines()[-1].startswith("note: the validation split is the test split")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=listop"], "did you mean 'listops'?"),
        (["--sede=1"], "--sede=1"),
        (["--seed=x"], "--seed"),
        ([*TINY, "--source=relased"], "did you mean 'released'?"),
        ([*TINY, "--source=released"], "no manual_dir was given"),
        ([*TINY, "--source=released", "--manual_dir=/nowhere"], "basic_train.tsv"),
        ([*TINY, "--pad_to=5"], "pad_to=5"),
    ],
)
def test_mistakes_are_reported_in_one_or_two_lines(prepare, arguments, message):
    code, _, errors = prepare(*arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") <= 2


def test_the_command_returns_the_exit_code(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore", "-m", "lru.prepare", f"--data_dir={tmp_path}"]
    good = subprocess.run([*command, *TINY], env=environment, capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    first_words = [line.split()[0] for line in good.stdout.splitlines()]
    assert first_words == ["preparing", "prepared", "listops"]
    bad = subprocess.run([*command, "--seed=-1"], env=environment, capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: seed is -1; expected at least 0\n"
