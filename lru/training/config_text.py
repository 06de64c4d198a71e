"""Texts about configs for the command line: the list of all configs, and one config in full."""

from __future__ import annotations

import ast
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import ml_collections
from ml_collections import ConfigDict, FieldReference

from lru.training.config import config_files, config_variants, load_config

_LIBRARY = str(Path(ml_collections.__file__).parent)


class _Line(NamedTuple):
    """The line of code that last set a key of a section."""

    section: ConfigDict  # kept alive, so that no other section gets the same id
    file: str
    number: int


_Lines = dict[tuple[int, str], _Line]  # by the id of the section and the key, in order of creation


def list_configs(width: int = 80) -> str:
    """Returns the names, titles and variants of the package's configs, as lines of text.

    Configs with the same variants are listed together.
    """
    groups: dict[Any, list[str]] = {}
    for name, file in config_files().items():
        variants = tuple(tuple(group) for group in config_variants(file))
        groups.setdefault(variants, []).append(f"  {name:18}{_title(file)}")
    text = ["configs and variants; give at most one variant per line, as in lra_text:quick,s5"]
    for variants, lines in groups.items():
        names = [_wrapped(", ".join(group), width, "    :", "     ") for group in variants]
        text += ["", *(_wrapped(line, width, "", 20 * " ") for line in lines), *names]
    return "\n".join(text) + "\n"


def format_config(argument: str, overrides: Iterable[str] = ()) -> str:
    """Returns a config as lines of Python, with the comments of the lines that set the values.

    A value that was set on the command line, or on a line without a comment, has no comment.

    Args:
      argument, overrides: see `lru.training.config.load_config`.

    Example:
      >>> text = format_config("listops:quick", ["--config.model.d_model=32"])
      >>> print(*(line for line in text.splitlines() if ".d_" in line or "r_m" in line), sep="\\n")
      config.model.mixer.d_state = 64
      config.model.mixer.r_min = 0.0  # Table 8
      config.model.mixer.r_max = 0.99  # Table 8
      config.model.d_model = 32
    """
    with _noted_lines() as lines:
        config = load_config(argument, overrides)
    comments = {file: _comments(file) for file in {line.file for line in lines.values()}}
    text = []
    for section, key, name, value in _items(config, "config", list(lines)):
        line = lines.get((id(section), key))
        comment = comments[line.file].get(line.number) if line else None
        text.append(f"{name} = {value!r}" + (f"  {comment}" if comment else ""))
    return "\n".join(text) + "\n"


def _title(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def _wrapped(text: str, width: int, first: str, others: str) -> str:
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


@contextmanager
def _noted_lines() -> Iterator[_Lines]:
    """Yields a dict of the line that last set each key of a `ConfigDict` in the `with` block."""
    lines: _Lines = {}
    original = ConfigDict.__setitem__

    def set_and_note(section: ConfigDict, key: str, value: Any) -> None:
        before = section.get(key)
        original(section, key, value)
        if isinstance(value, FieldReference) and section.get(key) == before:
            return  # `get_oneway_ref` puts a reference in place of the value it refers to
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.startswith(_LIBRARY):
            frame = frame.f_back
        lines[id(section), key] = _Line(section, frame.f_code.co_filename, frame.f_lineno)

    with mock.patch.object(ConfigDict, "__setitem__", set_and_note):
        yield lines


def _comments(file: str) -> dict[int, str]:
    """Returns the comments of a Python file by the numbers of their lines."""
    if not Path(file).is_file():  # such as <string>
        return {}
    with tokenize.open(file) as opened:
        tokens = list(tokenize.generate_tokens(opened.readline))
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _items(
    section: ConfigDict, where: str, order: Sequence[tuple[int, str]]
) -> Iterator[tuple[ConfigDict, str, str, Any]]:
    """Yields the section, key, full name and value of each option.

    Args:
      section: the section; the options of its subsections are included.
      where: the full name of the section.
      order: the order of the keys, as `(id(section), key)`; other keys come last.
    """

    def position(item: tuple[str, Any]) -> int:
        at = id(section), item[0]
        return order.index(at) if at in order else len(order)

    for key, value in sorted(section.items(), key=position):
        if isinstance(value, ConfigDict):
            yield from _items(value, f"{where}.{key}", order)
        else:
            yield section, key, f"{where}.{key}", value
