"""Decodes lines of text files that may have been edited or copied between systems."""

from __future__ import annotations

import codecs

from lru.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_line(line: bytes, first: bool) -> str:
    """Returns a line of a UTF-8 file without its line end.

    Args:
      line: the line as read from a file in binary mode, with its newline if it has one; it may
        contain carriage returns or U+0085.
      first: whether it is the first line of the file, which may begin with a byte order mark.

    Raises:
      UserError: if the line is not UTF-8 or contains a zero byte.
    """
    if first and line.startswith(_UTF16):
        raise UserError("the file is UTF-16; expected UTF-8: save it as UTF-8")
    if b"\0" in line:
        raise UserError("the line has a zero byte, so the file is damaged: download it again")
    try:
        return line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 ({error.reason}): save the file as UTF-8") from error
