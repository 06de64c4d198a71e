"""The code in the README, and the commands in it and in the guides, can be run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
GUIDES = [
    "quickstart", "runs", "streaming", "spectra", "linear_paper", "lattice_paper", "speed",
]  # fmt: skip

STRICT = """
import warnings
warnings.filterwarnings("error", module="(lru|jax|flax|__main__)([.]|$)")
"""


def test_python_blocks_run_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shapes = "assert logits.shape == (8, 100, 5)"
    (script := tmp_path / "readme.py").write_text("\n".join([STRICT, *blocks, shapes]))
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_readme_is_short_and_has_the_two_commands():
    lines = README.splitlines()
    assert len(lines) <= 180
    first, second = [line for line in lines if "&& python -m " in line]
    assert first.startswith('pip install -e ".[train]" && python -m lru.train --config=')
    assert second.startswith('pip install -e ".[test]" && python -m pytest')


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_linked_file_exists(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [name for name in links if not (ROOT / name).exists()] == []


def test_every_file_of_the_layout_exists():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    tree = re.search(r"```\nconfigs/.*?```", contributing, flags=re.DOTALL)[0].splitlines()[1:-1]
    folder, files = "", []
    for line in tree:
        names = re.findall(r"^\s*((?:\S+(?:\.py|/) ?)+)", line)[0].split()
        folder = names[0] if not line.startswith(" ") else folder
        files += names if not line.startswith(" ") else [folder + name for name in names]
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).exists()] == []


class Understood(Exception):
    """Raised when a command has parsed its arguments, before it acts on them."""


DOES = {  # by module, one of these
    "lru.train": "lru.training.loop.train_and_evaluate",
    "lru.evaluate": "lru.training.best.evaluate_best",
    "lru.generate": "lru.training.best.restore_best",
    "lru.spectrum": "lru.spectrum._draw_training lru.spectrum._draw_page",
    "lru.compare": "lru.training.comparing.read_run",
    "lru.export": "lru.export.export_run",
    "lru.reduce": "lru.training.reducing.restore_run",
    "benchmark": "benchmarks.measure.measure",
    "lru.prepare": "lru.data.builder.SequenceDataset.create",
    "reproduce": "reproduce._run_all",
    "results": "results.read",
    "lru.predict": "lru.training.predicting.load_predictor",
}


def commands(text):
    """Yields module and arguments of every `python -m lru...` and `python scripts/...`."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
    prose = re.findall(r"`(python [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*shell.splitlines(), *prose]:
        words = shlex.split(line.rpartition("&& ")[2], comments=True)
        if words[:2] == ["python", "-m"] and words[2] != "pytest" and "[:VARIANT]" not in line:
            yield words[2], words[3:]
        elif words[:1] == ["python"] and words[1].startswith("scripts/"):
            yield Path(words[1]).stem, words[2:]


def test_every_command_parses(tmp_path, monkeypatch):
    """Options, configs and variants exist; other tests check what the commands do."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)  # where no run or export of the reader's exists

    def understood(*_, **__):
        raise Understood

    pages = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in GUIDES)]
    found = [command for page in pages for command in commands(page)]
    assert {name for name, _ in found} == set(DOES)
    for name, arguments in found:
        module = importlib.import_module(name)
        if "--print_config" in arguments:
            module.main(arguments)
            continue
        ends = SystemExit if "--help" in arguments else Understood
        with monkeypatch.context() as patch, pytest.raises(ends):
            for function in DOES[name].split():
                patch.setattr(function, understood)
            module.main(arguments)
