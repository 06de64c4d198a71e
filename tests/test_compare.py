"""The command line of `lru.compare`: the table, the picture and the errors."""

import json
import shutil

import pytest
from PIL import Image

import lru.compare
import lru.train
from lru.command_line import run
from lru.training.comparing import COLUMNS


def train(root, name, *overrides):
    arguments = ["--config=listops:smoke", f"--workdir={root / name}", f"--data_dir={root / 'd'}"]
    steps = ["--config.train.steps=4", "--config.train.eval_every=2"]
    assert run(lru.train.main, [*arguments, *steps, *overrides]) == 0
    return root / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs: one that finished, one with another seed and model, and one that continues."""
    root = tmp_path_factory.mktemp("runs")
    first = train(root, "first")
    second = train(root, "second", "--config.seed=1", "--config.model.mixer.d_state=4")
    third = root / "third"
    shutil.copytree(first, third)
    (third / "record.json").unlink()
    rows = (third / "metrics.jsonl").read_text().splitlines(keepends=True)
    at = next(i for i, row in enumerate(rows) if json.loads(row)["split"] == "validation")
    (third / "metrics.jsonl").write_text("".join(rows[: at + 1]))
    return first, second, third


def compare(capsys, *arguments):
    capsys.readouterr()
    code = run(lru.compare.main, [str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_the_table_shows_the_results_in_the_records(runs, capsys):
    code, out, err = compare(capsys, *runs)
    assert (code, err) == (0, [])
    assert out[0].split() == list(COLUMNS)
    for line, workdir in zip(out[1:3], runs):
        record = json.loads((workdir / "record.json").read_text())
        scores = [f"accuracy {100 * record[split]['accuracy']:.2f} %"
                  for split in ("validation", "test")]  # fmt: skip
        for words in (workdir.name, "listops  LRU", str(record["seed"]), *scores,
                      f"{record['parameters']:,}", f"{record['seconds'] / 60:.1f}"):  # fmt: skip
            assert words in line
    assert " 4  accuracy" in out[1]


def test_an_unfinished_run_is_marked(runs, capsys):
    _, out, _ = compare(capsys, *runs)
    assert "2 of 4" in out[3] and "(not finished)" in out[3]


@pytest.mark.parametrize(
    ("change", "words"),
    [({}, "(stopped)"), ({"diverged_at": 1234}, "(diverged at step 1,234)")],
)
def test_stopped_and_diverged_runs_are_marked(change, words, runs, tmp_path, capsys):
    shutil.copytree(runs[0], tmp_path / "run")
    file = tmp_path / "run" / "record.json"
    record = json.loads(file.read_text())
    del record["test"]
    file.write_text(json.dumps(record | change))
    assert words in compare(capsys, tmp_path / "run")[1][1]


def test_options_that_differ_are_listed_for_runs_of_the_same_task(runs, capsys):
    _, out, _ = compare(capsys, *runs)
    assert out[4:] == ["", "options that differ:", "first: model.mixer.d_state=6",
                       "second: model.mixer.d_state=4", "third: model.mixer.d_state=6"]  # fmt: skip
    assert len(compare(capsys, runs[0], runs[2])[1]) == 3


def test_runs_of_the_same_name_are_shown_by_their_paths(runs, tmp_path, capsys):
    shutil.copytree(runs[0], tmp_path / "first")
    _, out, _ = compare(capsys, runs[0], tmp_path / "first")
    assert [line.split()[0] for line in out[1:]] == [str(runs[0]), str(tmp_path / "first")]


def test_the_validation_curves_are_drawn(runs, tmp_path, capsys):
    code, out, _ = compare(capsys, *runs, f"--out={tmp_path / 'a.png'}")
    assert (code, out[-1]) == (0, f"see {tmp_path / 'a.png'}")
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 400 and len(image.convert("RGB").getcolors(1 << 20)) > 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: RUN"),
        (["nothing"], "nothing holds no run"),
        (["{first}", "--out=curves"], "curves; expected a name that ends in .png"),
        (["{first}", "nothing"], "nothing holds no run"),
    ],
)
def test_an_error_is_one_line(arguments, words, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = compare(capsys, *(text.format(first=runs[0]) for text in arguments))
    assert (code, out, len(err)) == (2, [], 1) and words in err[0]
    assert not list(tmp_path.iterdir())


def test_a_damaged_config_is_one_line(runs, tmp_path, capsys):
    shutil.copytree(runs[0], tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    code, _, err = compare(capsys, tmp_path / "run")
    assert (code, len(err)) == (2, 1) and "damaged" in err[0]
