"""What is installed is what is here."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_every_module_and_config(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "lru").rglob("*.py")}
    configs = {f"lru/{path.relative_to(ROOT)}" for path in (ROOT / "configs").glob("*.py")}
    assert configs and held == modules | configs | {"lru/py.typed"}


def test_the_layer_itself_depends_on_jax_and_flax_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [line.partition(">")[0] for line in project["dependencies"]] == ["jax", "flax"]
