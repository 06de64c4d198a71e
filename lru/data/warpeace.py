"""War and Peace, as Karpathy et al. (2015) read it, "Visualizing and Understanding Recurrent
Networks": the English text of Project Gutenberg, with its byte order mark and its line ends.
"""

from __future__ import annotations

from lru.data.corpora import TextStream
from lru.data.released import Release


class WarAndPeace(TextStream):
    """A novel of 3.26 million characters, 84 different ones."""

    name = "warpeace"
    size = 3_258_246
    release = Release(
        url="https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
        files=("warpeace_input.txt",),
        folders=("warpeace",),
    )
