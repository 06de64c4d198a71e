"""The package has few rooms, imports that go down, and a short way from a layer to its scan."""

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
# Their arguments are those of Flax's own modules.
FLAX = {
    "nnx.py:__init__",
    "nnx.py:__call__",
    "layers/mixers.py:__call__",
    "layers/mixers.py:over_time",
}
COMMANDS = {"train", "evaluate", "generate", "spectrum", "export", "prepare", "command_line"}
# Each may import from those before it.
FLOORS = [
    {"errors"},
    {"io", "ops"},
    {"data", "layers"},
    {"baselines", "lattice", "nnx"},
    {"models"},
    {"analysis"},
    {"training"},
    COMMANDS,
]


def rooms():
    return {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
        "configs",
    }


def arrows():
    """Which room imports from which, wherever in a file."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "lru":
                names = [f"lru.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found |= {(room, name.split(".")[1]) for name in names if name.startswith("lru.")}
    return {(here, there) for here, there in found if here != there and here != "__init__"}


def test_there_are_twelve_rooms_at_most_beside_the_commands():
    assert len(rooms() - COMMANDS) <= 12, sorted(rooms() - COMMANDS)


def test_every_arrow_goes_down():
    floor = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    assert rooms() == floor.keys()
    up = {(here, there) for here, there in arrows() if floor[there] > floor[here]}
    level = {
        (here, there)
        for here, there in arrows()
        if floor[there] == floor[here] and (there, here) in arrows()
    }
    assert not up and not level


@pytest.mark.parametrize("make", [lru.LRU, baselines.DiagonalRNN, baselines.S5, baselines.DenseRNN])
def test_a_layers_call_reaches_its_scan_in_eight_frames_of_four_files(make, monkeypatch):
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


if __name__ == "__main__":  # the map
    for arrow in sorted(arrows()):
        print(*arrow, file=sys.stdout)
