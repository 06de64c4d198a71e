"""Writes to a terminal; the text may be untrusted: prompts, data, paths, names in configs.

A terminal obeys control characters, which could clear the screen, hide output, or change the title
of the window. Therefore, `write` and `log` escape them, except line feeds and tabs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from typing import IO

# C0 and C1 controls, line and paragraph separators, marks that change the direction of text, and
# lone surrogates, which cannot be encoded.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, keep: str = "\n\t") -> str:
    """Returns a text with its control characters escaped as in a Python string.

    Line and paragraph separators, marks that change the direction of text, and lone surrogates
    count as control characters.

    Args:
      text: any text.
      keep: the control characters to leave unescaped.

    Example:
      >>> print(printable("a\x1b[2Jb"))
      a\\x1b[2Jb
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else repr(found[0])[1:-1]

    return _CONTROL.sub(escape, text)


def aligned(rows: Sequence[Sequence[str]], left: Collection[str]) -> str:
    """Formats rows as lines of text, with aligned columns two spaces apart.

    Args:
      rows: the rows; the first has the names of the columns.
      left: the names of the columns to align to the left; the others are aligned to the right.

    Example:
      >>> print(aligned([["name", "n"], ["a", "10"]], left=["name"]))
      name   n
      a     10
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    columns = [
        [cell.ljust(width) if name in left else cell.rjust(width) for cell in column]
        for name, width, column in zip(rows[0], widths, zip(*rows))
    ]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns))


def write(text: str, file: IO[str] | None = None) -> None:
    """Writes a text to `file`, by default standard output, and flushes the file.

    Control characters except line feeds and tabs, and characters that the encoding of the file
    lacks, are escaped; see `printable`.
    """
    file = sys.stdout if file is None else file
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def log(text: str, file: IO[str] | None = None) -> None:
    """Writes a text and a line feed; see `write`."""
    write(f"{text}\n", file)
