"""The wheel holds every file, and every imported package is declared."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"absl": "absl-py", "orbax": "orbax-checkpoint", "PIL": "pillow"}  # by module
USERS = ("train", "tensorboard", "wandb", "notebooks")


def test_the_wheel_holds_every_module_and_config(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "lru").rglob("*.py")}
    configs = {f"lru/{path.relative_to(ROOT)}" for path in (ROOT / "configs").glob("*.py")}
    analysis = {"lru/analysis/spectrum.html", "lru/analysis/plots.mplstyle"}
    assert configs and held == modules | configs | analysis | {"lru/py.typed"}


def declared(*extras):
    """Returns the normalised names of the distributions that the layer and these extras need."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    names = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}
    return names - {"lru-flax"}


def imported(folder):
    """Returns the normalised names of the distributions that the folder's files import."""
    modules = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.partition(".")[0])
    own = {path.stem for name in ("configs", "scripts") for path in (ROOT / name).iterdir()}
    modules -= sys.stdlib_module_names | own | {"lru", "tests"}
    return {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in modules}


def test_every_package_that_notebooks_import_is_declared():
    assert "optax" in imported("notebooks") <= declared("train", "notebooks")


def test_the_layer_needs_jax_flax_and_numpy_only():
    assert declared() == {"jax", "flax", "numpy"}


@pytest.mark.parametrize("folder", ["lru", "configs", "scripts"])
def test_every_package_that_users_import_is_declared(folder):
    optional = {"jaxtyping"}  # optional in lru.ops.array_typing
    assert imported(folder) - declared(*USERS) <= optional


def test_every_package_that_the_tests_import_is_declared():
    assert imported("tests") - declared(*USERS, "test") == {"no-such-package"}


def test_the_constraints_cover_every_declared_package_and_hold_no_addresses():
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w\s.'<>=!*()]+)?", line) for line in lines)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert declared(*PROJECT["optional-dependencies"]) <= pinned
