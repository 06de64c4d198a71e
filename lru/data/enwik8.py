"""enwik8: the first 100 million bytes of an XML dump of the English Wikipedia of March 2006.

Tokens are bytes, as in comparisons of language models on this text.
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class Enwik8(TextStream):
    """enwik8: 90 million bytes for training, and 5 million each for validation and test."""

    name = "enwik8"
    size = 100_000_000
    md5 = "a1fa5ffddb56f4953e226637dabbb36a"
    encoding = "latin-1"
    prefix = True
    release = Release(
        url="http://mattmahoney.net/dc/enwik8.zip",
        files=("enwik8",),
        folders=("enwik8",),
        # Files of 90, 5 and 5 million bytes, as written by scripts of Transformer-XL and others.
        instead=(
            ("train.txt.raw", "valid.txt.raw", "test.txt.raw"),
            ("train.txt", "valid.txt", "test.txt"),
        ),
        size=36_445_475,
    )
