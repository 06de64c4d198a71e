"""Lines of text files that people have edited or copied between systems."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from lru.errors import UserError

_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file without their ends, and without a byte order mark.

    A line ends with a newline alone: U+0085 or a carriage return may stand inside.

    Raises:
      UserError: if a line is not UTF-8 or has a byte of 0.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number == 0 and (encoding := _MARKS.get(line[:2])):
                raise UserError(f"the file is {encoding}, expected UTF-8: save it as UTF-8")
            if b"\0" in line:
                raise UserError("there is a byte of 0, so the file is damaged: download it again")
            try:
                text = line.decode("utf-8-sig" if number == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"not UTF-8 ({error.reason}): save the file as UTF-8") from error
            yield text.rstrip("\r\n")
