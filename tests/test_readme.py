"""The code and the commands in the README can be run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


STRICT = """
import warnings
warnings.filterwarnings("error", module="(lru|jax|flax|__main__)([.]|$)")
"""
WHAT_THEY_MAKE = """
assert logits.shape == (8, 100, 5)
assert outputs.shape == (8, 100, 32)
assert logits_so_far.shape == (8, 10)
assert (state.shape, lattice_outputs.shape) == ((8, 2, 32), (8, 100, 32))
assert [shard.data.shape for shard in sharded_outputs.addressable_shards] == [(8, 50, 32)] * 2
"""


def test_python_blocks_run_in_order(tmp_path):
    """Uses two devices for the block that shards time over them."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    (script := tmp_path / "readme.py").write_text("\n".join([STRICT, *blocks, WHAT_THEY_MAKE]))
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_named_file_exists():
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
    """Raised when a command has parsed its arguments, before it acts on them."""


DOES = {  # by module, one of these
    "lru.train": "lru.training.loop.train_and_evaluate",
    "lru.evaluate": "lru.training.best.evaluate_best",
    "lru.generate": "lru.training.best.restore_best",
    "lru.spectrum": "lru.spectrum._animate lru.spectrum._draw_page",
    "lru.export": "lru.export.export_run",
    "lru.reduce": "lru.training.reducing.restore_run",
    "benchmark": "benchmarks.measure.measure",
    "lru.prepare": "lru.data.builder.SequenceDataset.create",
    "reproduce": "reproduce._run_all",
    "results": "results.read",
}


def commands():
    """Yields module and arguments of every `python -m lru...` and `python scripts/...`."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    prose = re.findall(r"`(python [^`]*)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    for line in [*shell.splitlines(), *prose]:
        words = shlex.split(line.rpartition("&& ")[2], comments=True)
        if words[:2] == ["python", "-m"] and words[2] != "pytest":
            yield words[2], words[3:]
        elif words[:1] == ["python"] and words[1].startswith("scripts/"):
            yield Path(words[1]).stem, words[2:]


def test_every_command_parses(monkeypatch):
    """Options, configs and variants exist; other tests check what the commands do."""

    def understood(*_, **__):
        raise Understood

    found = list(commands())
    assert {name for name, _ in found} == set(DOES)
    for name, arguments in found:
        module = importlib.import_module(name)
        with monkeypatch.context() as patch, pytest.raises(Understood):
            for function in DOES[name].split():
                patch.setattr(function, understood)
            module.main(arguments)
