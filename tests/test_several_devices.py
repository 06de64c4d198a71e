"""Runs the tests marked with `several_devices` on eight devices, in a new process."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_tests_of_several_devices_pass_on_eight():
    files = sorted(TESTS.rglob("test_*.py"))  # including this file, which has no marked test
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
