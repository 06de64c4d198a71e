"""The base class of data sets that consist of one long text, divided into three splits.

These data sets are for language models that read characters, or bytes, and predict the next one, as
in Ahuja & Morency (2018). `lru.data.streams` makes batches of a split.
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

from lru.data import synthetic
from lru.data.builder import SPLITS, SequenceDataset
from lru.data.characters import Alphabet, bytes_as_text
from lru.data.options import Options
from lru.data.released import Release
from lru.errors import UserError

_CHUNK = 1_000_000
_HOLE = 512  # consecutive zero bytes that show that a file is damaged


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions(Options):
    """The options of a data set that consists of one text.

    Attributes:
      source: "released", a text from files; or "made_up", a synthetic text of random words.
      percent: the percentage of the text to use, taken from its beginning, as in the figure on
        statistical efficiency of Ahuja & Morency (2018); see `fraction_test`.
      fraction_test: the text that `percent` shortens. "fixed": only the training split; the
        validation and test splits stay the same as at 100 percent. "moving", as in the code of that
        paper: the whole text, before it is divided, so that each percentage is tested on a
        different text.
      made_up_length: the number of characters of the synthetic text.
      seed: the seed of the synthetic text.
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
            raise UserError(f"percent is {self.percent}; expected at most 100")

    @property
    def synthetic(self) -> bool:
        """Whether the text is synthetic, so that no file is read."""
        return self.source == "made_up"

    def unused(self) -> Collection[str]:
        unused = set() if self.synthetic else {"made_up_length", "seed"}
        return unused | ({"fraction_test"} if self.percent == 100 else set())


class TextStream(SequenceDataset):
    """A text of characters or bytes in three splits; a subclass defines where the text is from.

    Attributes:
      release: the released file or files, if the text is released.
      size: the size of the whole released text in bytes.
      md5: the MD5 digest of the whole released text; "" if it is not verified.
      encoding: the encoding of the text; with "latin-1", each byte is one character.
      prefix: whether a file that holds only the beginning of the text is accepted.
      token_dtype: the type of the stored tokens, which limits the size of the alphabet.
    """

    options_class = StreamOptions
    num_classes = 0  # there are no classes: a model predicts the next character
    release: ClassVar[Release]
    size: ClassVar[int]
    md5: ClassVar[str] = ""
    encoding: ClassVar[str] = "utf-8"
    prefix: ClassVar[bool] = False
    token_dtype: ClassVar[type[np.unsignedinteger[Any]]] = np.uint8

    @functools.cached_property
    def vocabulary(self) -> Alphabet:
        """The training split's characters, most common first; token 0 is any other character."""
        return Alphabet(self.info.metadata["characters"])

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def token_names(self) -> Sequence[str]:
        return self.vocabulary.names

    @property
    def max_length(self) -> int:
        """The number of tokens in an example; the last example of a split may have fewer."""
        return _CHUNK

    @property
    def kind(self) -> str:
        if self.options.synthetic:
            return "made-up"
        return "prefix" if self._is_prefix else "full"

    @property
    def note(self) -> str:
        notes = []
        if self._is_prefix:
            read = self.info.metadata["bytes"]
            notes.append(f"the first {read:,} of the {self.size:,} bytes of {self.name}")
        if (percent := self.options.percent) < 100:
            of = "training text" if self.options.fraction_test == "fixed" else "text"
            notes.append(f"trained on the first {percent} % of the {of}")
            if of == "text":
                notes[-1] += (
                    ", and validated and tested on the end of that part, not on the texts used "
                    "at 100 %"
                )
        return "; ".join(notes)

    @property
    def _is_prefix(self) -> bool:
        return self.prefix and self.info.metadata.get("bytes", self.size) < self.size

    def features(self) -> dict[str, Any]:
        tokens = tfds.features.Tensor(shape=(None,), dtype=self.token_dtype, encoding="bytes")
        return {"inputs": tokens}

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns `{"inputs": (n,) int32, "length": int32}`, without padding.

        Consecutive examples are consecutive parts of the text.
        """
        tokens = stored["inputs"]
        return {"inputs": tokens.astype(np.int32), "length": np.int32(len(tokens))}

    def tokens(self, split: str) -> np.ndarray:
        """Returns all tokens of a split, `(N,)` of `token_dtype`, for `stream_batches`.

        Raises:
          UserError: if there is no such split.
        """
        return np.concatenate(
            [chunk["inputs"].astype(self.token_dtype) for chunk in self.source(split)]
        )

    def encode(self, text: str) -> np.ndarray:
        """Returns one token for each character of a text, or for each UTF-8 byte if `of_bytes`."""
        return self.vocabulary.encode(text.encode().decode("latin-1") if self.of_bytes else text)

    def as_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yields, for each token, the text that it completes; "" if it completes no character."""
        chunks = (self.vocabulary.decode([token]) for token in tokens)
        return bytes_as_text(chunks) if self.of_bytes else chunks

    @property
    def of_bytes(self) -> bool:
        """Whether tokens are bytes of UTF-8 instead of characters."""
        return self.encoding == "latin-1" and not self.options.synthetic

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        options = self.options
        texts = self._synthetic() if options.synthetic else self.released()
        if options.fraction_test == "fixed":
            texts["train"] = _first(texts["train"], options.percent)
        for split, text in texts.items():
            if len(text) < 2:
                raise UserError(
                    f"the split {split} of {self.name} would have {len(text)} characters; expected "
                    "at least 2: choose a longer text or a larger percent"
                )
        found = Alphabet.of(_chunks(texts["train"]))
        most = np.iinfo(self.token_dtype).max
        if len(found.characters) > most:
            raise UserError(
                f"the training text of {self.name} has {len(found.characters)} different "
                f"characters; expected at most {most}: check that it is the right file"
            )
        self.info.metadata["characters"] = found.characters
        return {split: self._examples(text) for split, text in texts.items()}

    def _examples(self, text: str) -> Iterator[dict[str, Any]]:
        for chunk in _chunks(text):
            yield {"inputs": self.vocabulary.encode(chunk).astype(self.token_dtype)}

    def released(self) -> dict[str, str]:
        """Returns the text of each split, read from the released file or files.

        Raises:
          UserError: if a file cannot be read, or the size, digest or encoding of the text is wrong.
        """
        paths = list(self.found.files.values())
        content = b"".join(map(read, paths))
        prefix = self.prefix and len(paths) == 1
        if len(content) > self.size or (len(content) < self.size and not prefix):
            have = "together have" if paths[1:] else "has"
            coded = " (files that list bytes as numbers are not supported)" if paths[1:] else ""
            raise UserError(
                f"{', '.join(map(str, paths))} {have} {len(content):,} bytes; expected "
                f"{self.size:,}{coded}: download {self.release.url} again"
            )
        self._check_whole(content, paths)
        self.info.metadata["bytes"] = len(content)
        return self.divided(self.decoded(content))

    def _check_whole(self, content: bytes, paths: Sequence[Path]) -> None:
        """Raises a UserError if content of the released size has another MD5 digest than `md5`.

        There is no check if `md5` is not set.
        """
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self.md5 and len(content) == self.size and digest != self.md5:
            are = "together are" if paths[1:] else "is"
            raise UserError(
                f"{', '.join(map(str, paths))} {are} not the released text: md5 {digest}; expected "
                f"{self.md5}\n"
                f"download {self.release.url} again"
            )

    def release_needed(self) -> Release | None:
        return None if self.options.synthetic else self.release

    def decoded(self, content: bytes) -> str:
        """Decodes the bytes of the text; keeps line ends and a byte order mark.

        Raises:
          UserError: if the content is not valid in `encoding`.
        """
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.name} is not {self.encoding} ({error}): download {self.release.url} again"
            ) from error

    def divided(self, text: str) -> dict[str, str]:
        """Divides a text into splits; if `fraction_test` is "moving", shortens the text first."""
        moving = self.options.fraction_test == "moving"
        return by_position(_first(text, self.options.percent) if moving else text)

    def _synthetic(self) -> dict[str, str]:
        rng = np.random.default_rng(self.options.seed)
        return self.divided(synthetic.words(rng, self.options.made_up_length))


def by_position(text: str) -> dict[str, str]:
    """Divides a text into the training split, then 5 percent each for validation and test.

    The lengths of the validation and test splits are rounded down.

    Example:
      >>> by_position("abcdefghijklmnopqrstuvwxyz")
      {'train': 'abcdefghijklmnopqrstuvwx', 'validation': 'y', 'test': 'z'}
    """
    held = len(text) // 20
    first, second = len(text) - 2 * held, len(text) - held
    return dict(zip(SPLITS, (text[:first], text[first:second], text[second:])))


def read(path: Path) -> bytes:
    """Returns the content of a file.

    Raises:
      UserError: if the file cannot be read, or contains a long run of zero bytes, as a crash may
        leave behind.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if (hole := content.find(bytes(_HOLE))) >= 0:
        raise UserError(
            f"{path} is damaged: it has {_HOLE} or more zero bytes in a row from byte {hole:,}; "
            "replace it with an intact copy"
        )
    return content


def _first(text: str, percent: int) -> str:
    return text[: len(text) * percent // 100]


def _chunks(text: str) -> Iterator[str]:
    for start in range(0, len(text), _CHUNK):
        yield text[start : start + _CHUNK]
