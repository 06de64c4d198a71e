"""The Penn Treebank, character by character, as Mikolov et al. (2012) prepared it.

10,000 words are left, lower case, rarer ones are `<unk>` and numbers `N`: 50 different characters.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection

from lru.data.builder import SPLITS
from lru.data.corpora import StreamNumbers, TextStream, read
from lru.data.released import Release
from lru.errors import UserError

_MD5 = {
    "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PTBNumbers(StreamNumbers):
    """The numbers of the data set; see also those that all texts share.

    Attributes:
      split: "mikolov": the three files, as nearly everybody has it. "fraction", as the code of
        Ahuja & Morency (2018) does it: of the files joined, in the order of training, validation
        and test, the last 5 % are the test, and as many before it the validation split.
    """

    split: str = "mikolov"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("split", "mikolov", "fraction")
        if self.split == "mikolov" and self.fraction_test == "moving" and not self.made_up:
            raise UserError(
                "fraction_test is 'moving' and split 'mikolov', whose test text is a file of its "
                "own: choose split='fraction', or fraction_test='fixed'"
            )

    def unused(self) -> Collection[str]:
        return {*super().unused(), *(["split"] if self.made_up else [])}


class PTB(TextStream):
    """5.95 million characters of the Wall Street Journal, a sentence a line."""

    name = "ptb"
    numbers_class = PTBNumbers
    release = Release(
        url="http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
        files=tuple(_MD5),
        folders=("data", "ptb", "penn"),
        instead=(("train.txt", "valid.txt", "test.txt"),),  # as other pipelines call the same files
    )

    def released(self) -> dict[str, str]:
        texts = []
        for path, expected in zip(self.found.files.values(), _MD5.values()):
            content = read(path)
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if digest != expected:
                raise UserError(
                    f"{path} is not the released file: md5 {digest}, expected {expected}\n"
                    f"download {self.release.url} again"
                )
            texts.append(self.decoded(content))
        if self.numbers.split == "fraction":
            return self.divided("".join(texts))
        return dict(zip(SPLITS, texts))
