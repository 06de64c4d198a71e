"""text8: 100 million characters of the English Wikipedia of March 2006, cleaned by Mahoney.

The text consists of the letters a to z and single spaces; digits are spelled out.
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class Text8(TextStream):
    """text8, or the beginning of it: 90 % for training, and 5 % each for validation and test."""

    name = "text8"
    size = 100_000_000
    md5 = "3bea1919949baf155f99411df5fada7e"
    prefix = True
    release = Release(
        url="http://mattmahoney.net/dc/text8.zip",
        files=("text8",),
        folders=("text8",),
        # Files of 90, 5 and 5 million bytes, as written by scripts of Transformer-XL and others.
        instead=(
            ("train.txt.raw", "valid.txt.raw", "test.txt.raw"),
            ("train.txt", "valid.txt", "test.txt"),
        ),
        size=31_344_016,
    )
