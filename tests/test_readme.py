"""What the README shows can be run."""

import importlib
import re
import runpy
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_python_blocks_run_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    (tmp_path / "readme.py").write_text("\n".join(blocks))
    names = runpy.run_path(str(tmp_path / "readme.py"))
    assert names["logits"].shape == (8, 100, 5)
    assert names["outputs"].shape == (8, 100, 32)
    assert names["logits_so_far"].shape == (8, 10)
    assert (names["state"].shape, names["rising"].shape) == ((8, 2, 32), (8, 100, 32))
    parts = names["outputs_in_parts"].addressable_shards
    assert [part.data.shape for part in parts] == [(8, 50, 32)] * 2


def test_every_file_it_names_is_there():
    root = Path(__file__).resolve().parents[1]
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    tree = re.search(r"```\nconfigs/.*?```", README, flags=re.DOTALL).group().splitlines()[1:-1]
    folder, files = "", []
    for line in tree:
        names = re.findall(r"^\s*((?:\S+(?:\.py|/) ?)+)", line)[0].split()
        folder = names[0] if not line.startswith(" ") else folder
        files += names if not line.startswith(" ") else [folder + name for name in names]
    assert len(files) > 10
    assert [name for name in links + files if not (root / name).exists()] == []


class Understood(Exception):
    """A command has read its arguments, and is about to do what they say."""


DOES = {
    "lru.train": "lru.training.loop.train_and_evaluate",
    "lru.evaluate": "lru.training.best.evaluate_best",
    "lru.generate": "lru.training.best.restore_best",
    "lru.spectrum": "lru.spectrum._animate",
    "lru.export": "lru.export.export_run",
    "benchmark": "benchmark.measure",
    "prepare_data": "lru.data.builder.SequenceDataset.create",
    "reproduce": "reproduce._run_all",
    "results": "results.read",
}


def commands():
    """Every `python -m lru...` and `python scripts/...` of the README: a module and arguments."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    prose = re.findall(r"`(python [^`]*)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    for line in [*shell.splitlines(), *prose]:
        words = shlex.split(line.rpartition("&& ")[2], comments=True)
        if words[:2] == ["python", "-m"] and words[2] != "pytest":
            yield words[2], words[3:]
        elif words[:1] == ["python"] and words[1].startswith("scripts/"):
            yield Path(words[1]).stem, words[2:]


def test_every_command_is_understood(monkeypatch):
    """Options, configs and variants exist; what the commands do is tested where that is."""

    def understood(*_, **__):
        raise Understood

    found = list(commands())
    assert {name for name, _ in found} == set(DOES)
    for name, arguments in found:
        module = importlib.import_module(name)
        with monkeypatch.context() as patch, pytest.raises(Understood):
            patch.setattr(DOES[name], understood)
            module.main(arguments)
