"""The Retrieval task of the Long Range Arena: does one of two papers cite the other?

The papers are read as characters. They are from the ACL Anthology Network, Radev et al. (2013).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from lru.data import synthetic
from lru.data.characters import CharacterDataset
from lru.data.options import ReleasedOptions
from lru.data.released import Release, lra_release, taken_from
from lru.data.text_lines import decode_line
from lru.errors import UserError

_FILES = {
    "train": "new_aan_pairs.train.tsv",
    "validation": "new_aan_pairs.eval.tsv",
    "test": "new_aan_pairs.test.tsv",
}
_ROWS = {"train": 147_086, "validation": 18_090, "test": 17_437}  # in LRA's release
_RELEASE = lra_release(
    "tsv_data",
    tuple(_FILES.values()),
    "aan",
    "retrieval",
    hint="https://huggingface.co/datasets/OpenNLPLab/lra has files of these names in data/aan",
)
_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalOptions(ReleasedOptions):
    """The options of Retrieval, in addition to those of `ReleasedOptions`.

    Attributes:
      release: "lra", LRA's files, whose numbers of rows are checked; or "stand_in", other pairs in
        files of the same form and names. Results on a stand-in are marked, because they cannot be
        compared with results on LRA's files.
      literals: LRA's texts are Python byte literals, `b'...'`, with escapes such as `\\n` or
        `\\xc3`. "kept": a model sees the literals, with their 95 different characters, as in LRA,
        S4 and S5. "decoded": it sees the decoded text. Texts that are not literals are the same in
        both cases.
      pad_to: T, the length of each of the two inputs: characters, end of sequence, padding. Longer
        texts are cut to their first T - 1 characters.
    """

    release: str = "lra"
    literals: str = "kept"
    pad_to: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("release", "lra", "stand_in")
        self.check_choice("literals", "kept", "decoded")
        self.check_least(pad_to=2)

    def unused(self) -> Collection[str]:
        here = {"release", "literals"} if self.synthetic else {"seed"}
        return {*super().unused(), *here}


class Pair(NamedTuple):
    """Two texts, and whether one cites the other."""

    first: str
    second: str
    label: int


class Retrieval(CharacterDataset):
    """Pairs of papers, labeled 1 if one cites the other and 0 otherwise."""

    name = "retrieval"
    options_class = RetrievalOptions
    num_classes = 2

    @property
    def kind(self) -> str:
        if self.options.synthetic:
            return "made-up"
        return "full" if self.options.release == "lra" else "stand-in"

    @property
    def note(self) -> str:
        return taken_from(self.info.metadata) if self.kind == "full" else ""

    def release_needed(self) -> Release | None:
        return None if self.options.synthetic else _RELEASE

    def features(self) -> dict[str, Any]:
        # Two bytes per character: decoded texts may have over 256 different characters.
        text = tfds.features.Tensor(shape=(None,), dtype=np.uint16, encoding="bytes")
        return {"first": text, "second": text, "label": tfds.features.Scalar(np.int32)}

    def example(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns `{"inputs": (2, T) int32, "length": (2,) int32, "label": int32}`."""
        texts = stored["first"], stored["second"]
        return {
            "inputs": np.stack([self.padded(tokens) for tokens in texts]),
            "length": np.array([len(tokens) for tokens in texts], np.int32),
            "label": np.int32(stored["label"]),
        }

    def splits(self) -> Mapping[str, Iterator[dict[str, Any]]]:
        # The training file is read twice, because LRA's training pairs may not fit into memory.
        splits = self._synthetic() if self.options.synthetic else self._released()
        self.learn_vocabulary(
            text for first, second, _ in splits["train"]() for text in (first, second)
        )
        return {split: self._examples(read()) for split, read in splits.items()}

    def _examples(self, pairs: Iterable[Pair]) -> Iterator[dict[str, Any]]:
        for first, second, label in pairs:
            yield {
                "first": self.vocabulary.encode(first, self.max_length),
                "second": self.vocabulary.encode(second, self.max_length),
                "label": label,
            }

    def _released(self) -> dict[str, Callable[[], Iterable[Pair]]]:
        decode = self.options.literals == "decoded"
        rows = _ROWS if self.options.release == "lra" else {}
        return {
            # The small files are converted first, so that their errors are found early.
            split: functools.partial(read_pairs, self.found[_FILES[split]], rows.get(split), decode)
            for split in ("validation", "test", "train")
        }

    def _synthetic(self) -> dict[str, Callable[[], Iterable[Pair]]]:
        options, rng, splits = self.options, np.random.default_rng(self.options.seed), {}
        for split, size in options.synthetic_sizes.items():
            topics, labels = rng.integers(2, size=(2, size))
            first = synthetic.texts(rng, topics.tolist(), options.pad_to)
            second = synthetic.texts(rng, (topics ^ 1 ^ labels).tolist(), options.pad_to)
            splits[split] = list(map(Pair, first, second, labels.tolist()))
        return {split: functools.partial(iter, pairs) for split, pairs in splits.items()}


def read_pairs(path: Path, num_rows: int | None, decode: bool) -> Iterator[Pair]:
    """Yields a pair for each row of a file, whose first line may be a header.

    The columns are a label, two names and two texts.

    Args:
      path: the file.
      num_rows: the expected number of rows without the header; None for any number above 0.
      decode: whether to decode byte literals as UTF-8.

    Raises:
      UserError: if a row differs from the released form, or the number of rows is wrong; the
        message names the file and the line.
    """
    number = rows = 0
    with path.open("rb") as lines:
        try:
            for number, encoded in enumerate(lines, 1):
                line = decode_line(encoded, first=number == 1)
                if number == 1 and _is_header(line):
                    continue
                rows += 1
                yield _parse_row(line, decode)
            if rows != (expected := num_rows or max(rows, 1)):
                hint = "; use release=stand_in to read other pairs than LRA's" if num_rows else ""
                raise UserError(f"the file ends after {rows:,} rows; expected {expected:,}{hint}")
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None


def _is_header(line: str) -> bool:
    """Returns whether a line names the five columns; LRA's files have no such header."""
    columns = line.split("\t")
    return len(columns) == 5 and columns[0].strip().lower() in ("label", "labels", "target")


def _parse_row(line: str, decode: bool) -> Pair:
    columns = line.split("\t")
    if len(columns) != 5:
        raise UserError(f"{len(columns)} columns; expected a label, two names and two texts")
    label, _, _, first, second = columns
    if label not in _LABELS:
        raise UserError(f"the label is {label[:40]!r}; expected 0.0 or 1.0")
    return Pair(_text(first, decode), _text(second, decode), _LABELS[label])


def _text(column: str, decode: bool) -> str:
    if column[:2] not in ("b'", 'b"'):
        return column
    if len(column) < 3 or column[-1] != column[1]:
        raise UserError(f"a text begins with {column[:2]} and does not end with {column[1]}")
    if not decode:
        return column
    try:
        value = ast.literal_eval(column)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, bytes):
        raise UserError(f"the text {column[:40]}... is not a bytes literal")
    return value.decode("utf-8", errors="replace")  # some texts end within a character
