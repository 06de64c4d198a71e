"""The package has few subpackages, layered imports, and a short path from a layer to its scan."""

import ast
import inspect
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import lru
from lru import baselines

PACKAGE = Path(lru.__file__).parent
# These have the arguments of Flax's own modules.
FLAX = {
    "nnx/linear.py:__init__",
    "nnx/linear.py:__call__",
    "layers/mixers.py:__call__",
    "layers/mixers.py:over_time",
}
COMMANDS = {
    "train", "evaluate", "compare", "predict", "generate", "spectrum", "export", "reduce",
    "prepare",
}  # fmt: skip
# Each level may import from those before it.
LEVELS = [
    {"errors"},
    {"io", "ops"},
    {"data", "layers"},
    {"baselines", "lattice"},
    {"models"},
    {"analysis", "nnx"},
    {"training"},
    {*COMMANDS, "command_line"},
]


def subpackages():
    return {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
        "configs",
    }


def imports():
    """Returns all pairs of an importing and an imported subpackage, wherever in a file."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        subpackage = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "lru":
                names = [f"lru.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found |= {(subpackage, name.split(".")[1]) for name in names if name.startswith("lru.")}
    return {(here, there) for here, there in found if here != there and here != "__init__"}


def test_there_are_at_most_twelve_subpackages_besides_the_commands():
    assert len(subpackages() - COMMANDS) <= 12, sorted(subpackages() - COMMANDS)


def test_imports_go_down_the_levels_without_cycles():
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    assert subpackages() == level.keys()
    up = {(here, there) for here, there in imports() if level[there] > level[here]}
    cyclic = {
        (here, there)
        for here, there in imports()
        if level[there] == level[here] and (there, here) in imports()
    }
    assert not up and not cyclic


@pytest.mark.parametrize("make", [lru.LRU, baselines.DiagonalRNN, baselines.S5, baselines.DenseRNN])
def test_a_layer_calls_its_scan_within_eight_frames_of_four_files(make, monkeypatch):
    seen = []

    def scan(*arguments, **options):
        frames = [frame.filename for frame in inspect.stack() if str(PACKAGE) in frame.filename]
        seen.append(frames)
        return original(*arguments, **options)

    original = jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", scan)
    layer, inputs = make(4), jnp.ones((2, 7, 3))
    variables = layer.init(jax.random.key(0), inputs)
    jax.clear_caches()
    seen.clear()
    layer.apply(variables, inputs)
    frames = seen[0]
    assert len(frames) <= 8 and len(set(frames)) <= 4, frames


def functions():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path.relative_to(PACKAGE), node


def test_no_function_takes_more_than_eight_arguments():
    long = {}
    for path, node in functions():
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        names = [name for name in names if name not in ("self", "cls")]
        if len(names) > 8:
            long[f"{path}:{node.name}"] = len(names)
    assert long.keys() <= FLAX, long


if __name__ == "__main__":  # prints the graph of imports
    for pair in sorted(imports()):
        print(*pair, file=sys.stdout)
