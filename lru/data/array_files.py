"""Reads a user's own arrays from an `.npz` file or from a folder of `.npy` files.

Pickled objects are rejected, because loading them may run code.
"""

from __future__ import annotations

import dataclasses
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lru.errors import UserError, did_you_mean

Arrays = Mapping[str, np.ndarray]
_FORM = "an .npz file, or a folder of .npy files"
# Exceptions that NumPy, and the modules with which it reads archives, raise for damaged files.
_DAMAGED = (
    ArithmeticError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_INTEGERS, _NUMBERS = "iub", "iubf"  # `dtype.kind`; booleans count as integers


def read_arrays(path: Path, names: Collection[str], ignored: Collection[str] = ()) -> Arrays:
    """Returns arrays by name; those of a folder are memory-mapped.

    Args:
      path: an `.npz` file, or a folder with a file `NAME.npy` for each array.
      names: the names that the arrays may have.
      ignored: names of arrays that are not read.

    Raises:
      UserError: if a file cannot be read; if an array has another name, or values that are neither
        real numbers nor booleans; or if there are no arrays and `ignored` is empty.
    """
    try:
        with np.errstate(over="ignore"):  # a damaged header may give a huge shape
            found = _read_folder(path, ignored) if path.is_dir() else _read_npz(path, ignored)
    except _DAMAGED as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(f"{path} holds pickled Python objects; expected numbers only") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read ({reason}); expected {_FORM}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not (found or ignored):
        raise UserError(f"{path} has no arrays; expected {_FORM}")
    for name, array in found.items():
        if name not in names:
            raise UserError(f"{path} has an unknown array {name!r}; {did_you_mean(name, names)}")
        if array.dtype.kind not in _NUMBERS:
            raise UserError(f"{name} of {path} has the type {array.dtype}; expected numbers")
    return found


def source_files(path: Path) -> Sequence[Path]:
    """Returns the files of the arrays at a path: the file itself, or the folder's `.npy` files.

    Hidden files, such as those that macOS adds, are left out.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.glob("*.npy") if not file.name.startswith("."))


def _read_folder(path: Path, ignored: Collection[str]) -> Arrays:
    return {
        file.stem: np.load(file, mmap_mode="r", allow_pickle=False)
        for file in source_files(path)
        if file.stem not in ignored
    }


def _read_npz(path: Path, ignored: Collection[str]) -> Arrays:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is a single array")
        return {name: _member(loaded, name) for name in loaded.files if name not in ignored}


def _member(loaded: Any, name: str) -> np.ndarray:
    if not isinstance(array := loaded[name], np.ndarray):  # NumPy returns the bytes of other files
        raise ValueError(f"{name} is not an array")
    return array


@dataclasses.dataclass(frozen=True)
class Part:
    """A selection of the n examples in the arrays `x`, `y`, `lengths` and `mask`.

    Attributes:
      x: the inputs of n examples: real numbers `(n, T, features)`, or tokens, integers `(n, T)`.
      lengths: the number of valid steps of each of the n examples, `(n,)`.
      y: the targets of the n examples; None if there are none.
      mask: whether the target of each valid step counts, `(n, T)` bool; None if all of them count.
      index: the indices, among the n examples, of the examples in this part.
      where: the name of the arrays, for messages.
    """

    x: np.ndarray
    lengths: np.ndarray
    y: np.ndarray | None
    mask: np.ndarray | None
    index: np.ndarray
    where: str

    @classmethod
    def of(cls, arrays: Arrays, split: str, path: Path) -> Part:
        """Returns all examples of a split.

        Args:
          arrays: the arrays by name.
          split: the split, as in the name `x_train`; "" for names without a split, such as `x`.
          path: the path of the arrays, for messages.

        Raises:
          UserError: if `x` is missing, the shape of an array is invalid, or `lengths` or `mask` has
            an invalid type or value.
        """
        end = f"_{split}" if split else ""
        x, y, lengths, mask = (arrays.get(name + end) for name in ("x", "y", "lengths", "mask"))
        if x is None:
            raise UserError(
                f"{path} has no array {'x' + end!r}; expected the inputs of the examples there"
            )
        if x.ndim == 2 and x.dtype.kind == "f":
            x = x[..., None]  # one feature
        if x.ndim not in (2, 3) or not x.size:
            raise UserError(
                f"x{end} of {path} has shape {x.shape}; expected numbers (n, T, features), or "
                "tokens, integers (n, T), with n, T and features above 0"
            )
        _check_rows(y, f"y{end} of {path}", len(x))
        lengths = _lengths(lengths, f"lengths{end} of {path}", *x.shape[:2])
        mask = None if mask is None else _mask(mask, f"mask{end} of {path}", x.shape[:2])
        where = f"{path}, split {split}" if split else str(path)
        return cls(x, lengths, y, mask, np.arange(len(x)), where)

    @property
    def of_tokens(self) -> bool:
        """Whether the inputs are tokens."""
        return self.x.ndim == 2

    @property
    def steps(self) -> int:
        """T, the number of steps of the inputs, including padding."""
        return self.x.shape[1]

    def __len__(self) -> int:
        return len(self.index)

    def inputs(self, i: int) -> np.ndarray:
        """Returns the valid steps of an example's inputs, `(t, features)`, or `(t,)` for tokens."""
        at = self.index[i]
        return self.x[at, : self.lengths[at]]

    def target(self, i: int, per_step: bool) -> np.ndarray:
        """Returns the target of an example; if `per_step`, the targets of its valid steps."""
        assert self.y is not None
        at = self.index[i]
        return self.y[at, : self.lengths[at]] if per_step else self.y[at]

    def counts(self, i: int) -> np.ndarray:
        """Returns which of an example's valid steps have a target that counts, `(t,)` bool."""
        at = self.index[i]
        length = self.lengths[at]
        return np.ones(length, bool) if self.mask is None else self.mask[at, :length]

    def name(self, i: int) -> str:
        """Returns the name of an example, for messages."""
        return f"example {self.index[i]} of {self.where}"


def _check_rows(array: np.ndarray | None, where: str, number: int) -> None:
    if array is not None and (array.ndim == 0 or len(array) != number):
        raise UserError(
            f"{where} has shape {array.shape}; expected {number} examples on the first axis, as in "
            "x"
        )


def _lengths(given: np.ndarray | None, where: str, number: int, steps: int) -> np.ndarray:
    if given is None:
        return np.full(number, steps, np.int32)
    if given.shape != (number,) or given.dtype.kind not in _INTEGERS:
        raise UserError(
            f"{where} has shape {given.shape} and type {given.dtype}; expected integers ({number},)"
        )
    if given.min() < 1 or given.max() > steps:
        raise UserError(
            f"{where} has values from {given.min()} to {given.max()}; expected 1 to {steps}, the "
            "number of steps of x"
        )
    return np.asarray(given, np.int32)


def _mask(given: np.ndarray, where: str, shape: tuple[int, ...]) -> np.ndarray:
    fits = given.shape == shape and given.dtype.kind in _INTEGERS
    if not (fits and np.isin(given, (0, 1)).all()):
        raise UserError(
            f"{where} has shape {given.shape} and type {given.dtype}; expected integers or "
            f"booleans {shape}, 1 or True where the target of a step counts, and 0 or False "
            "elsewhere"
        )
    return given.astype(bool)
