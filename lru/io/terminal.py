"""Writes texts of unknown origin to a terminal: prompts, data, paths, and names in configs.

A terminal obeys control characters: they could clear the screen, hide what a program printed, or
change the title of the window. They are shown as escapes instead.
"""

from __future__ import annotations

import re
import sys
from typing import IO

# C0 and C1 controls, line and paragraph separators, the marks that change the direction of text,
# and lone surrogates, which cannot be encoded.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, keep: str = "\n\t") -> str:
    """Returns a text with its control characters written as in a Python string.

    Args:
      text: any.
      keep: the control characters to leave as they are.

    Example:
      >>> print(printable("a\x1b[2Jb"))
      a\\x1b[2Jb
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else repr(found[0])[1:-1]

    return _CONTROL.sub(escape, text)


def write(text: str, file: IO[str] | None = None) -> None:
    """Writes a text to standard output, or to `file`, and flushes it.

    Control characters, and characters that the encoding of the file lacks, are written as escapes.
    """
    file = sys.stdout if file is None else file
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def log(text: str, file: IO[str] | None = None) -> None:
    """Writes a line, see `write`."""
    write(f"{text}\n", file)
