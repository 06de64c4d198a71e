"""Describes a data set, so that a model trained on it can be created without it.

When a run starts, training writes the description, if there is one, into `dataset.json` in the work
directory. Programs that need only the model, such as `lru.export`, read this file instead of the
data set.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from lru.data.array_spec import ArraySpec
from lru.data.characters import Alphabet, bytes_as_text
from lru.data.corpora import TextStream
from lru.errors import UserError
from lru.io.files import read_object, write_atomically

FILE = "dataset.json"
_MOST = 2**31 - 1
_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


@dataclasses.dataclass(frozen=True)
class Description:
    """Replaces the data set of a model that is neither trained nor evaluated.

    Attributes:
      name, kind, remark: the data set's name, provenance and note; see
        `lru.data.builder.SequenceDataset`.
      num_classes: the number of classes; None if the data are a text, or if there is a `spec`.
      vocab_size: the number of different tokens; None if each step is a vector of features.
      shape, dtype: the shape and the type of the model's inputs for one example. The shape is, for
        example, `(1, T)` for tokens, with T = 1 for a text; `(1, T, features)` for vectors of
        features; or `(1, 2, T)` for pairs of sequences of tokens.
      tokens: the readable name of each token; None if there are no names.
      of_bytes: whether each token of a text is a byte of UTF-8 instead of a character.
      steps_per_epoch: the number of training steps in one pass over a text; None if the data are
        not a text.
      spec: what the model reads and predicts, if the data are from `lru.data.arrays`;
        else None.

    Raises:
      ValueError: an attribute is invalid, or does not fit the others.
    """

    name: str
    kind: str
    remark: str
    num_classes: int | None
    vocab_size: int | None
    shape: tuple[int, ...]
    dtype: str
    tokens: tuple[str, ...] | None = None
    of_bytes: bool = False
    steps_per_epoch: int | None = None
    spec: ArraySpec | None = None

    def __post_init__(self):
        _check(self)

    @classmethod
    def of(cls, experiment: Any) -> Self | None:
        """Returns the description of an `Experiment`'s data set.

        Returns None if a description cannot replace the data set: a user's data set may encode
        texts in its own way, or have inputs that a description does not cover.
        """
        dataset, task = experiment.dataset, experiment.task
        if isinstance(dataset, TextStream) and _is_changed(type(dataset)):
            return None
        inputs, tokens = task.example(), dataset.token_names
        try:
            return cls(
                name=dataset.name,
                kind=dataset.kind,
                remark=dataset.note,
                num_classes=None if dataset.spec else task.model_arguments.get("num_classes"),
                vocab_size=task.model_arguments["vocab_size"],
                shape=tuple(inputs.shape),
                dtype=inputs.dtype.name,
                tokens=None if tokens is None else tuple(tokens),
                of_bytes=getattr(dataset, "of_bytes", False),
                steps_per_epoch=task.steps_per_epoch,
                spec=dataset.spec,
            )
        except ValueError:
            return None

    @classmethod
    def load(cls, workdir: Path) -> Self | None:
        """Loads the description in a work directory; returns None if there is none.

        Raises:
          UserError: the description is damaged.
        """
        file = workdir / FILE
        if not file.exists():
            return None
        content = read_object(file, {"shape": list}, _REMEDY)
        try:
            content["shape"] = tuple(content["shape"])
            if content.get("tokens") is not None:
                content["tokens"] = tuple(content["tokens"])
            if content.get("spec") is not None:
                content["spec"] = ArraySpec.from_json(content["spec"])
            return cls(**content)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged ({error}); {_REMEDY}") from error

    def save(self, workdir: Path) -> None:
        """Writes this description into a work directory or, if one is there, compares the two.

        Raises:
          UserError: the run was started with other data, or the existing description is damaged.
        """
        found = self.load(workdir)
        if found is None:
            write_atomically(workdir / FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")
            return
        for name in ("num_classes", "vocab_size", "dtype", "tokens", "of_bytes", "spec"):
            there, here = getattr(found, name), getattr(self, name)
            if there != here:
                raise UserError(
                    f"the run in {workdir} was started with other data: {name} is "
                    f"{_short(there)} there, {_short(here)} here; choose another --workdir"
                )

    @property
    def is_text(self) -> bool:
        return self.num_classes is None and self.spec is None

    @property
    def token_names(self) -> tuple[str, ...] | None:
        return self.tokens

    def example(self) -> Any:
        """Returns zeros as inputs with a batch size of 1, to infer the parameters' shapes."""
        return jnp.zeros(self.shape, self.dtype)

    @functools.cached_property
    def _alphabet(self) -> Alphabet:
        return Alphabet("".join((self.tokens or ())[1:]))

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text, like `lru.data.corpora.TextStream.encode`."""
        return self._alphabet.encode(text.encode().decode("latin-1") if self.of_bytes else text)

    def as_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yields the text of the tokens, like `lru.data.corpora.TextStream.as_text`."""
        texts = (self._alphabet.decode([token]) for token in tokens)
        return bytes_as_text(texts) if self.of_bytes else texts


def _is_changed(dataset: type[TextStream]) -> bool:
    names = ("encode", "as_text", "vocabulary", "token_names")
    return any(getattr(dataset, name) is not getattr(TextStream, name) for name in names)


_REMEDY = "restore it, or delete it to read the data set instead"


def _check(found: Description) -> None:
    """Checks the types and ranges of the fields, because `dataset.json` may be untrusted."""
    for name in ("name", "kind", "remark", "dtype"):
        if not isinstance(getattr(found, name), str):
            raise ValueError(f"{name} is {getattr(found, name)!r}")
    for name in ("num_classes", "vocab_size", "steps_per_epoch"):
        value = getattr(found, name)
        if value is not None and not _is_size(value):
            raise ValueError(f"{name} is {value!r}")
    shape = found.shape
    if not (1 <= len(shape) <= 8 and all(map(_is_size, shape)) and math.prod(shape) <= _MOST):
        raise ValueError(f"shape is {shape!r}")
    if found.dtype not in _DTYPES:
        raise ValueError(f"dtype is {found.dtype!r}")
    if not isinstance(found.of_bytes, bool):
        raise ValueError(f"of_bytes is {found.of_bytes!r}")
    _check_tokens(found)


def _check_tokens(found: Description) -> None:
    tokens, text = found.tokens, found.is_text
    if text and (found.vocab_size is None or tokens is None):
        raise ValueError("neither num_classes nor tokens are given")
    if tokens is None:
        return
    if not all(isinstance(token, str) for token in tokens) or len(tokens) != found.vocab_size:
        raise ValueError(f"tokens are not {found.vocab_size} strings")
    if text and any(len(token) != 1 for token in tokens):
        raise ValueError("a token is not one character")


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
