"""Runs the tests that are marked with `several_devices`, on eight, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_all_that_needs_several_devices():
    files = sorted(TESTS.rglob("test_*.py"))  # this one, too, has none that is run there
    marked = [file for file in files if "several_devices" in file.read_text()]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    options = ["-q", "-p", "no:cacheprovider", "-n", "0", "-m", "several_devices"]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *marked],
        env=env | {"LRU_TEST_DEVICES": "8"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, f"on eight devices:\n{child.stdout[-5000:]}{child.stderr[-2000:]}"
