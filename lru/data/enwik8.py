"""enwik8: the first 100 million bytes of the English Wikipedia of March 2006, with all its XML.

Read byte by byte, as Hutter's prize for compressing it has it, and as language models are compared.
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class Enwik8(TextStream):
    """Bytes: 90 million to train on, and 5 million each to validate and to test on."""

    name = "enwik8"
    size = 100_000_000
    md5 = "a1fa5ffddb56f4953e226637dabbb36a"
    encoding = "latin-1"
    prefix = True
    release = Release(
        url="http://mattmahoney.net/dc/enwik8.zip",
        files=("enwik8",),
        folders=("enwik8",),
        # As the scripts of Transformer-XL and others divide it, by 90, 5 and 5 million bytes.
        instead=(
            ("train.txt.raw", "valid.txt.raw", "test.txt.raw"),
            ("train.txt", "valid.txt", "test.txt"),
        ),
        size=36_445_475,
    )
