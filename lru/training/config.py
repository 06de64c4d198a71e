"""Finds and loads config files.

A config file has a function `get_config(variant)` that returns a `ConfigDict`.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lru.errors import UserError, did_you_mean
from lru.training.overrides import override
from lru.training.recipes.variants import UnknownVariant

PACKAGE = Path(__file__).resolve().parents[1]


def load_config(argument: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Loads the config of `path/to/file.py` or `path/to/file.py:variant`.

    The file is executed as the user's own program, and its config may name any package.

    Args:
      argument: the file and, after a colon, the variant to pass to its `get_config`; without a
        colon, the variant is "". For names and relative paths, see `find_config`.
      overrides: arguments such as `--config.key.subkey=value`; see `lru.training.overrides`.

    Returns:
      The config with the overrides applied.

    Raises:
      UserError: the file, variant or key does not exist; the file is not a Python file or raises an
        error; `get_config` is missing or returns no `ConfigDict`; or a value has the wrong type.
    """
    path, _, variant = argument.partition(":")
    file = find_config(path)
    if file.suffix != ".py":
        raise UserError(
            f"config {path} is not a Python file; expected a path such as configs/lra_listops.py"
        )
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
    """Returns the config file with a path or a name: `listops` is `configs/lra_listops.py`.

    A relative path is looked up in the current directory, in the package, and beside the package;
    `configs/` and `.py` may be left out. So may the first word, such as `lra_`, of the name of a
    config that comes with the package.

    Raises:
      UserError: there is no such file, or there are several.
    """
    # An installed package contains the configs; in a checkout they are beside the package.
    for name in (path, f"{path}.py", f"configs/{path}", f"configs/{path}.py"):
        for folder in (Path(), PACKAGE, PACKAGE.parent):
            if (file := folder / name).is_file():
                return file
    short = path.removeprefix("configs/").removesuffix(".py")
    files = [file for name, file in config_files().items() if name.partition("_")[2] == short]
    if short and len(files) == 1:
        return files[0]
    raise UserError(f"config file {path} does not exist; {_hint(path)}")


def _hint(path: str) -> str:
    """Returns a hint for an unknown config: similar names or, if there are none, all names."""
    known = [f"configs/{name}.py" if path.endswith(".py") else name for name in config_files()]
    close = [name for name in known if path in name]
    return (
        f"there are: {', '.join(close)}" if len(close) > 1 else did_you_mean(path, close or known)
    )


def config_files() -> dict[str, Path]:
    """Returns the config files that come with the package, by their names without `.py`."""
    folders = (PACKAGE / "configs", PACKAGE.parent / "configs")
    files = [file for folder in folders for file in folder.glob("[!_]*.py")]
    return {file.stem: file for file in sorted(files)}


def config_variants(file: Path) -> Sequence[Sequence[str]]:
    """Returns a config's variant names in groups; a variant has at most one name of each group.

    The file is executed, and its `get_config` is called with the variant "?". The result is empty
    unless `lru.training.recipes.variants.choose` rejects this variant.
    """
    try:
        _run(file)["get_config"]("?")
    except UnknownVariant as error:
        return error.groups
    return ()
