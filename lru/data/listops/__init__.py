"""The ListOps task of the Long Range Arena (Tay et al. 2021): evaluate a long expression.

`lru.data.listops.trees` generates expressions from a seed, by the rules of the released data. The
released files can also be read.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lru.data.builder import SequenceDataset
from lru.data.listops import trees as listops_trees
from lru.data.options import Options
from lru.data.released import Release, lra_release, taken_from
from lru.data.text_lines import decode_line
from lru.errors import UserError

_FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
_HEADER = "Source\tTarget"
_SIZES = {"num_train", "num_validation", "num_test"}
_RELEASE = lra_release(
    "listops-1000",
    tuple(_FILES.values()),
    "listops",
    hint="source=generated generates data by the same rules",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListOpsOptions(Options):
    """The options of ListOps; by default, the rules and the sizes of the splits are LRA's.

    Attributes:
      source: "generated"; or "released", LRA's files, for which only `pad_to` and the `num_*`
        options have an effect.
      max_depth: the maximum depth of a tree; a digit alone has depth 1.
      max_args: the maximum number of arguments of an operator; the minimum is 2.
      min_length: every expression has more tokens than this, not counting the end of sequence.
      max_length: every expression has fewer tokens than this, not counting the end of sequence.
      pad_to: T, the length of every input: tokens, end of sequence, padding.
      num_train: the number of training expressions; generated expressions are all different,
        across the splits too.
      num_validation: the number of validation expressions.
      num_test: the number of test expressions.
      seed: the seed of the generator. The validation and test splits are generated first, so
        that a larger `num_train` only extends the training split.
    """

    source: str = "generated"
    max_depth: int = 10
    max_args: int = 10
    min_length: int = 500
    max_length: int = 2000
    pad_to: int = 2048
    num_train: int = 96_000
    num_validation: int = 2_000
    num_test: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_choice("source", "generated", "released")
        self.check_least(max_depth=1, max_args=2, min_length=0, seed=0)
        self.check_least(num_train=1, num_validation=1, num_test=1)
        if self.max_args > 255:
            raise UserError(f"max_args is {self.max_args}; expected at most 255")
        if self.source == "released":
            return
        if self.max_length - self.min_length < 2:
            raise UserError(
                f"no length is above min_length={self.min_length} and below "
                f"max_length={self.max_length}: choose a larger max_length"
            )
        if self.pad_to < self.max_length:
            raise UserError(
                f"pad_to={self.pad_to} cannot hold {self.max_length - 1} tokens and the "
                f"end-of-sequence token: expected pad_to >= max_length={self.max_length}"
            )

    def unused(self) -> Collection[str]:
        if self.source == "generated":
            return ()
        return {"max_depth", "max_args", "min_length", "max_length", "seed"}


class ListOps(SequenceDataset):
    """ListOps expressions, each labeled with its value, a digit.

    An input consists of the tokens of an expression, the end of sequence, and padding up to T. The
    vocabulary has 18 tokens; see `lru.data.listops.trees.VOCABULARY`.
    """

    name = "listops"
    options_class = ListOpsOptions
    num_classes = 10
    vocab_size = len(listops_trees.VOCABULARY)
    token_names = listops_trees.VOCABULARY

    @property
    def max_length(self) -> int:
        return self.options.pad_to

    @property
    def kind(self) -> str:
        if self.options.source == "generated":
            return "generated"
        return "stand-in" if self.options.changed().keys() & _SIZES else "full"

    @property
    def note(self) -> str:
        return taken_from(self.info.metadata) if self.options.source == "released" else ""

    def release_needed(self) -> Release | None:
        return _RELEASE if self.options.source == "released" else None

    def splits(self) -> dict[str, list[dict[str, Any]]]:
        options = self.options
        sizes = {
            "validation": options.num_validation,
            "test": options.num_test,
            "train": options.num_train,
        }
        if options.source == "released":
            rows = {
                split: read_tsv(self.found[_FILES[split]], options.pad_to, size)
                for split, size in sizes.items()
            }
        else:
            rules = listops_trees.Rules(
                options.max_depth, options.max_args, options.min_length, options.max_length
            )
            expressions = listops_trees.generate(options.seed, rules)
            rows = {split: itertools.islice(expressions, size) for split, size in sizes.items()}
        end = np.uint8(listops_trees.EOS)
        return {
            split: [{"inputs": np.append(tokens, end), "label": label} for tokens, label in some]
            for split, some in rows.items()
        }

    def write_tsv(self, directory: str | os.PathLike[str]) -> None:
        """Writes the three splits in LRA's format, which `source="released"` reads.

        Raises:
          UserError: if one of the files already exists.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if existing := [name for name in _FILES.values() if (directory / name).exists()]:
            raise UserError(f"{directory / existing[0]} already exists; give another directory")
        for split, name in _FILES.items():
            rows = (self._row(example) for example in self.source(split))
            with (directory / name).open("x", encoding="utf-8", newline="\r\n") as file:
                file.writelines(itertools.chain([f"{_HEADER}\n"], rows))

    def _row(self, example: dict[str, Any]) -> str:
        tokens = example["inputs"][: example["length"] - 1].tolist()
        return f"{listops_trees.to_text(tokens)}\t{example['label']}\n"


def read_tsv(path: Path, pad_to: int, num_rows: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields `(tokens, label)` for each row of one of LRA's files, and verifies each label.

    The header may be missing. Windows line endings and a byte order mark are allowed.

    Raises:
      UserError: if a row differs from the released form, a label is wrong, an expression is too
        long for `pad_to`, or there are not `num_rows` rows; the message names the file and the
        line.
    """
    number = rows = 0
    with path.open("rb") as lines:
        try:
            for number, encoded in enumerate(lines, 1):
                line = decode_line(encoded, first=number == 1)
                if number == 1 and _is_header(line):
                    continue
                rows += 1
                yield _parse_row(line, pad_to)
            if rows != num_rows:
                raise UserError(f"the file ends after {rows} rows; expected {num_rows}")
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None


def _is_header(line: str) -> bool:
    """Returns whether a line is LRA's header, not a row; raises a UserError if it is neither."""
    if line.startswith(("(", "[")):
        return False
    if line.strip().lower() != _HEADER.lower():
        raise UserError(f"the header is {line[:40]!r}; expected {_HEADER!r}")
    return True


def _parse_row(line: str, pad_to: int) -> tuple[np.ndarray, int]:
    columns = line.split("\t")
    if len(columns) != 2:
        raise UserError(f"{len(columns)} columns; expected an expression and its label")
    tokens, label = listops_trees.parse(columns[0]), columns[1]
    if len(label) != 1 or label not in "0123456789":
        raise UserError(f"the label is {label[:40]!r}; expected a digit")
    if len(tokens) + 1 > pad_to:
        raise UserError(
            f"{len(tokens)} tokens and the end-of-sequence token exceed pad_to={pad_to}"
        )
    if (value := listops_trees.evaluate(tokens.tolist())) != int(label):
        raise UserError(f"the label is {label}, but the expression's value is {value}")
    return tokens, int(label)
