"""text8: 100 million characters of the English Wikipedia of March 2006, cleaned by Mahoney.

Only the letters a to z are left, and single spaces; digits are spelled out.
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class Text8(TextStream):
    """Characters: 90 million to train on, and 5 million each to validate and to test on."""

    name = "text8"
    size = 100_000_000
    prefix = True
    release = Release(
        url="http://mattmahoney.net/dc/text8.zip",
        files=("text8",),
        folders=("text8", ""),  # the folder first, which would else be taken for the file
        size=31_344_016,
    )
