"""What data sets of one long text share: it is cut into three parts, and read as one stream each.

They are for language models, as Ahuja & Morency (2018) compare them: characters in, the next
character out. `lru.data.streams` makes batches of them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from lru.data import made_up
from lru.data.builder import SPLITS, SequenceDataset
from lru.data.characters import Alphabet, bytes_as_text
from lru.data.numbers import Numbers
from lru.data.released import Release
from lru.errors import UserError

_PIECE = 1_000_000
_HOLE = 512  # bytes of 0 in a row, which no text has


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamNumbers(Numbers):
    """What a text can be asked for.

    Attributes:
      source: "released", or "made_up": words of a small language, from no file.
      percent: how much of it there is to learn from, as in the paper's figure of statistical
        efficiency: the first so many percent.
      fraction_test: "fixed": the training part is shortened, and validation and test are what they
        are at 100 percent. "moving", as the authors' code does it: the whole text is shortened,
        and then divided, so that every percentage is tested on another text.
      made_up_length: how many characters are made up.
      seed: of what is made up.
    """

    source: str = "released"
    percent: int = 100
    fraction_test: str = "fixed"
    made_up_length: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_choice("source", "released", "made_up")
        self.check_choice("fraction_test", "fixed", "moving")
        self.check_least(percent=1, made_up_length=40, seed=0)
        if self.percent > 100:
            raise UserError(f"percent is {self.percent}, expected at most 100")

    @property
    def made_up(self) -> bool:
        """Whether no file is read."""
        return self.source == "made_up"

    def unused(self) -> Collection[str]:
        unused = set() if self.made_up else {"made_up_length", "seed"}
        return unused | ({"fraction_test"} if self.percent == 100 else set())


class TextStream(SequenceDataset):
    """A text as three streams of characters; a subclass says where it is from.

    Attributes:
      release: its file, or files.
      size: of the one file, in bytes.
      md5: of the whole file; "" if it is not checked.
      encoding: of the text; by "latin-1", a character is a byte.
      prefix: whether a file may be shorter than that.
    """

    numbers_class = StreamNumbers
    num_classes = 0  # there are no labels: what is asked for is the next character
    release: ClassVar[Release]
    size: ClassVar[int]
    md5: ClassVar[str] = ""
    encoding: ClassVar[str] = "utf-8"
    prefix: ClassVar[bool] = False

    @functools.cached_property
    def vocabulary(self) -> Alphabet:
        """The characters of the training part, the commonest first; 0 is any other."""
        return Alphabet(self.info.metadata["characters"])

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def token_names(self) -> Sequence[str]:
        return self.vocabulary.names

    @property
    def max_length(self) -> int:
        """How many characters of a stream `source` gives at once; fewer at its end."""
        return _PIECE

    @property
    def kind(self) -> str:
        if self.numbers.made_up:
            return "made-up"
        return "prefix" if self._is_prefix else "full"

    @property
    def note(self) -> str:
        remarks = []
        if self._is_prefix:
            read = self.info.metadata["bytes"]
            remarks.append(f"the first {read:,} of the {self.size:,} bytes of {self.name}")
        if (percent := self.numbers.percent) < 100:
            of = "training text" if self.numbers.fraction_test == "fixed" else "text"
            remarks.append(f"trained on the first {percent} % of the {of}")
            if of == "text":
                remarks[-1] += ", validated and tested on its end: on other texts than at 100 %"
        return "; ".join(remarks)

    @property
    def _is_prefix(self) -> bool:
        return self.prefix and self.info.metadata.get("bytes", self.size) < self.size

    def features(self) -> dict[str, Any]:
        return {"inputs": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes")}

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Makes `{"inputs": (n,) int32, "length": int32}`: not padded, the next one goes on."""
        tokens = stored["inputs"]
        return {"inputs": tokens.astype(np.int32), "length": np.int32(len(tokens))}

    def tokens(self, split: str) -> np.ndarray:
        """Returns a whole split, uint8 `(N,)`, for `lru.data.streams.stream_batches`.

        Raises:
          UserError: if there is no such split.
        """
        return np.concatenate([piece["inputs"].astype(np.uint8) for piece in self.source(split)])

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text as one writes it; where a token is a byte, of its UTF-8."""
        return self.vocabulary.encode(text.encode().decode("latin-1") if self.of_bytes else text)

    def as_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yields what tokens stand for, each as soon as it is whole: a character may be bytes."""
        pieces = (self.vocabulary.decode([token]) for token in tokens)
        return bytes_as_text(pieces) if self.of_bytes else pieces

    @property
    def of_bytes(self) -> bool:
        """Whether a token is a byte of UTF-8 instead of a character."""
        return self.encoding == "latin-1" and not self.numbers.made_up

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        numbers = self.numbers
        parts = self._made_up() if numbers.made_up else self.released()
        if numbers.fraction_test == "fixed":
            parts["train"] = _first(parts["train"], numbers.percent)
        for split, text in parts.items():
            if len(text) < 2:
                raise UserError(
                    f"{split} of {self.name} would have {len(text)} characters, expected 2 at "
                    "least: the text, or the percentage of it, is too short"
                )
        found = Alphabet.of(_pieces(parts["train"]))
        if len(found) > 256:
            raise UserError(
                f"{self.name} has {len(found.characters)} different characters, expected 255 at "
                "most: is it the released file?"
            )
        self.info.metadata["characters"] = found.characters
        return {split: self._examples(text) for split, text in parts.items()}

    def _examples(self, text: str) -> Iterator[dict[str, Any]]:
        for piece in _pieces(text):
            yield {"inputs": self.vocabulary.encode(piece).astype(np.uint8)}

    def released(self) -> dict[str, str]:
        """Returns the text of each split, from the released file, or from its three parts."""
        paths = list(self.found.files.values())
        content = b"".join(map(read, paths))
        prefix = self.prefix and len(paths) == 1
        if len(content) > self.size or (len(content) < self.size and not prefix):
            have = "have together" if paths[1:] else "has"
            coded = " (parts written as numbers are not read)" if paths[1:] else ""
            raise UserError(
                f"{', '.join(map(str, paths))} {have} {len(content):,} bytes, expected "
                f"{self.size:,}{coded}: download {self.release.url} again"
            )
        self._check_whole(content, paths[0])
        self.info.metadata["bytes"] = len(content)
        return self.divided(self.decoded(content))

    def _check_whole(self, content: bytes, path: Path) -> None:
        """Raises a UserError where the bytes of the whole file are not the released ones."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self.md5 and len(content) == self.size and digest != self.md5:
            raise UserError(
                f"{path} is not the released file: md5 {digest}, expected {self.md5}\n"
                f"download {self.release.url} again"
            )

    def release_needed(self) -> Release | None:
        return None if self.numbers.made_up else self.release

    def decoded(self, content: bytes) -> str:
        """Returns the text that a file holds, its line ends and its byte order mark kept.

        Raises:
          UserError: if it is not in the encoding that it should be in.
        """
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.name} is not {self.encoding} ({error}): download {self.release.url} again"
            ) from error

    def divided(self, text: str) -> dict[str, str]:
        """Returns the parts of a text, of which there may be less, see `fraction_test`."""
        moving = self.numbers.fraction_test == "moving"
        return by_position(_first(text, self.numbers.percent) if moving else text)

    def _made_up(self) -> dict[str, str]:
        rng = np.random.default_rng(self.numbers.seed)
        return self.divided(made_up.words(rng, self.numbers.made_up_length))


def by_position(text: str) -> dict[str, str]:
    """Returns the last 5 % of a text, rounded down, to test on, as many before, and the rest.

    Example:
      >>> by_position("abcdefghijklmnopqrstuvwxyz")
      {'train': 'abcdefghijklmnopqrstuvwx', 'validation': 'y', 'test': 'z'}
    """
    held = len(text) // 20
    first, second = len(text) - 2 * held, len(text) - held
    return dict(zip(SPLITS, (text[:first], text[first:second], text[second:])))


def read(path: Path) -> bytes:
    """Returns what is in a file.

    Raises:
      UserError: if it cannot be read, or has a hole, as a crash of the system may leave one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if (hole := content.find(bytes(_HOLE))) >= 0:
        raise UserError(f"{path} is damaged: nothing but zeros at byte {hole:,}; download it again")
    return content


def _first(text: str, percent: int) -> str:
    return text[: len(text) * percent // 100]


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]
