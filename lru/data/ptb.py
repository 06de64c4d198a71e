"""The Penn Treebank as characters, as prepared by Mikolov et al. (2012).

The text has 50 different characters, and a vocabulary of 10,000 words. All are in lower case except
`N`, which replaces numbers; `<unk>` replaces rarer words.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection

from lru.data.builder import SPLITS
from lru.data.corpora import StreamOptions, TextStream, read
from lru.data.released import Release
from lru.errors import UserError

_MD5 = {
    "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PTBOptions(StreamOptions):
    """The options of the Penn Treebank, in addition to those of `StreamOptions`.

    Attributes:
      split: "mikolov", the usual choice: each of the three files is a split. "fraction", as in the
        code of Ahuja & Morency (2018): the three files are joined; the last 5 percent of the text
        is the test split, and the 5 percent before it is the validation split.
    """

    split: str = "mikolov"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("split", "mikolov", "fraction")
        if self.split == "mikolov" and self.fraction_test == "moving" and not self.synthetic:
            raise UserError(
                "fraction_test is 'moving', but split is 'mikolov', which has a separate test "
                "file: choose split='fraction', or fraction_test='fixed'"
            )

    def unused(self) -> Collection[str]:
        return {*super().unused(), *(["split"] if self.synthetic else [])}


class PTB(TextStream):
    """5.95 million characters of the Wall Street Journal, one sentence per line."""

    name = "ptb"
    options_class = PTBOptions
    release = Release(
        url="http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
        files=tuple(_MD5),
        folders=("data", "ptb", "penn"),
        instead=(("train.txt", "valid.txt", "test.txt"),),  # the names in other pipelines
    )

    def released(self) -> dict[str, str]:
        texts = []
        for path, expected in zip(self.found.files.values(), _MD5.values()):
            content = read(path)
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if digest != expected:
                raise UserError(
                    f"{path} is not the released file: md5 {digest}; expected {expected}\n"
                    f"download {self.release.url} again"
                )
            texts.append(self.decoded(content))
        if self.options.split == "fraction":
            return self.divided("".join(texts))
        return dict(zip(SPLITS, texts))
