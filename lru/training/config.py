"""Finds and loads config files.

A config file has a function `get_config(variant)` that returns a `ConfigDict`.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lru.errors import UserError, did_you_mean
from lru.training.overrides import override

PACKAGE = Path(__file__).resolve().parents[1]


def load_config(argument: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Loads the config of `path/to/file.py` or `path/to/file.py:variant`.

    The file is executed as the user's own program, and its config may name any package.

    Args:
      argument: the path of the file and, after a colon, the variant to pass to its `get_config`;
        without a colon, the variant is "". For relative paths, see `find_config`.
      overrides: arguments such as `--config.key.subkey=value`; see `lru.training.overrides`.

    Returns:
      The config with the overrides applied.

    Raises:
      UserError: the file, variant or key does not exist; the file is not a Python file, raises an
        error, or its `get_config` returns no `ConfigDict`; or a value has the wrong type.
    """
    path, _, variant = argument.partition(":")
    file = find_config(path)
    if file.suffix != ".py":
        raise UserError(f"config {path} is not a Python file; expected e.g. configs/lra_listops.py")
    try:
        config = _run(file)["get_config"](variant)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"config {argument} failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config {argument} is a {type(config).__name__}; expected a ConfigDict")
    return override(config, overrides)


def _run(file: Path) -> dict[str, Any]:
    """Runs a config file and returns its globals; the file may import modules from its folder."""
    before, modules = sys.path, set(sys.modules)
    sys.path = [str(file.parent), *before]
    try:
        return runpy.run_path(str(file))
    finally:
        sys.path = before
        for name in set(sys.modules) - modules:  # another folder may have modules with these names
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == file.parent:
                del sys.modules[name]


def find_config(path: str) -> Path:
    """Returns the config file at a path.

    A relative path is looked up in the current directory, then in the package, then beside it.

    Raises:
      UserError: there is no such file.
    """
    # An installed package contains the configs; in a checkout they are beside the package.
    for file in (Path(path), PACKAGE / path, PACKAGE.parent / path):
        if file.is_file():
            return file
    known = sorted(
        f"configs/{file.name}"
        for folder in (PACKAGE / "configs", PACKAGE.parent / "configs")
        for file in folder.glob("[!_]*.py")
    )
    raise UserError(f"config file {path} does not exist; {did_you_mean(path, known)}")
