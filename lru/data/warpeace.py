"""War and Peace: the English text of Project Gutenberg, with its byte order mark and line ends.

Source: Karpathy et al. (2015), "Visualizing and Understanding Recurrent Networks".
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class WarAndPeace(TextStream):
    """A novel of 3.26 million characters, with an alphabet of 84 characters."""

    name = "warpeace"
    size = 3_258_246
    release = Release(
        url="https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
        files=("warpeace_input.txt",),
        folders=("warpeace",),
    )
