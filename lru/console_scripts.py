"""The console scripts of `pyproject.toml`: `lru-train` is `python -m lru.train`, and so on.

A command's module is imported within `run`, which reports a missing package without a traceback.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from lru.command_line import run


def _script(name: str) -> Callable[[], int]:
    def main(argv: Sequence[str]) -> None:
        importlib.import_module(f"lru.{name}").main(argv)

    return lambda: run(main)


compare = _script("compare")
evaluate = _script("evaluate")
export = _script("export")
generate = _script("generate")
predict = _script("predict")
prepare = _script("prepare")
reduce = _script("reduce")
spectrum = _script("spectrum")
train = _script("train")
