"""The user's own text: one file in UTF-8, in any script, divided into splits by position."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from lru.data.corpora import StreamOptions, TextStream, read
from lru.data.released import Release
from lru.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFileOptions(StreamOptions):
    """The options of the user's own text, in addition to those of `StreamOptions`.

    Attributes:
      path: the path of the text file; it is not needed for a synthetic text.
    """

    path: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.path or self.synthetic):
            raise UserError(
                "path is ''; expected the path of a text in UTF-8: --config.data.path=my.txt"
            )

    def unused(self) -> Collection[str]:
        return {*super().unused(), "path"}  # the digest replaces it

    def directory_name(self) -> str:
        """Returns a name made of the used options and the file's digest.

        A changed file is therefore prepared again. A synthetic text has no digest.
        """
        used = super().directory_name()
        return used if self.synthetic else f"{used},sha256={self.digest}"

    @functools.cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the file's SHA-256."""
        return _digest(read(Path(self.path)))


class TextFile(TextStream):
    """The characters of a file: 90 % for training, 5 % for validation, the last 5 % for testing.

    The alphabet has up to 65,535 characters. A byte order mark is not part of the text.
    """

    name = "text_file"
    options_class = TextFileOptions
    encoding = "utf-8-sig"
    token_dtype = np.uint16

    @property
    def kind(self) -> str:
        return "made-up" if self.options.synthetic else "own"

    @property
    def note(self) -> str:
        own = "" if self.options.synthetic else f"the text of {Path(self.options.path).name}"
        return "; ".join(note for note in (own, super().note) if note)

    def release_needed(self) -> Release | None:
        return None

    def released(self) -> dict[str, str]:
        content = read(Path(self.options.path))
        if _digest(content) != self.options.digest:
            raise UserError(f"{self.options.path} changed while it was read: run the command again")
        return self.divided(self.decoded(content))

    def decoded(self, content: bytes) -> str:
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.options.path} is not a text in UTF-8: {error.reason} at byte "
                f"{error.start:,}; save it as UTF-8"
            ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
