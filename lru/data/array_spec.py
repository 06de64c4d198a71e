"""The specification of a user's own arrays: what a model reads and predicts, and in which units."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from lru.errors import UserError

TARGETS = ("classes", "values", "step_classes", "step_values")
_MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Standardizes features, which are on the last axis of arrays: (x - mean) / std.

    Attributes:
      mean: the mean of each feature.
      std: the standard deviation of each feature; 1 for a constant feature.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, chunks: Iterable[np.ndarray], where: str = "the data") -> Self:
        """Returns the scaling of some data, computed in float64; a constant feature has a std of 1.

        Args:
          chunks: arrays `(m, features)` that together contain all values.
          where: the name of the values, for messages.

        Raises:
          UserError: if a value is not finite, or the computation overflows float64.

        Example:
          >>> Scaling.of([np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([[5.0, 7.0]])])
          Scaling(mean=(3.0, 7.0), std=(1.632993161855452, 1.0))
        """
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for chunk in chunks:  # merged as in Chan et al. (1979), accurate for large means
            values = np.asarray(chunk, np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # reported below
                here, more = values.mean(0), len(values)
                away, total = here - mean, count + more
                squares = squares + ((values - here) ** 2).sum(0) + away**2 * count * more / total
                mean, count = mean + away * more / total, total
        std = np.sqrt(squares / count)
        if not np.isfinite([mean, std]).all():
            raise UserError(f"{where} has values too large to standardize; scale them down first")
        std = np.where(std > 1e-14 * np.abs(mean), std, 1.0)  # rounding of a constant is no spread
        return cls(tuple(map(float, mean)), tuple(map(float, std)))

    def apply(self, x: np.ndarray, where: str = "the data") -> np.ndarray:
        """Standardizes values in float64; returns them as float32.

        Args:
          x: values `(..., features)`.
          where: the name of the values, for messages.

        Raises:
          UserError: if a value is not finite, or its standardized value is not finite in float32.
        """
        check_finite(x, where)
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            standardized = ((x - np.array(self.mean)) / np.array(self.std)).astype(np.float32)
        if not np.isfinite(standardized).all():
            raise UserError(
                f"{where} has values too far from the mean of the training data for float32; "
                "expected values like those in training"
            )
        return standardized

    @property
    def suits_float32(self) -> bool:
        """Whether float32 can apply this scaling: |mean| < 1e5 std, both in float32's range.

        At this limit, float32 rounds values to about a hundredth of their standard deviation.

        Example:
          >>> Scaling((20.0,), (5.0,)).suits_float32, Scaling((1.7e9,), (5.0,)).suits_float32
          (True, False)
        """
        mean, std, limits = np.abs(self.mean), np.array(self.std), np.finfo(np.float32)
        finite = mean.max() <= limits.max and limits.tiny <= std.min() <= std.max() <= limits.max
        return bool(finite and (mean < 1e5 * std).all())

    def undo(self, x: Any) -> np.ndarray:
        """Converts standardized values to the units of the data, float64."""
        return np.asarray(x, np.float64) * np.array(self.std) + np.array(self.mean)


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """What a model of arrays reads and predicts; saved as JSON with runs and exported models.

    Attributes:
      target: "classes" or "values", which are predicted for each sequence; or "step_classes" or
        "step_values", which are predicted for each step.
      num_outputs: the number of classes, or of real numbers in one target.
      inputs: the scaling of the features; None if the inputs are tokens.
      vocab_size: V, the size of the vocabulary (tokens 0 .. V - 1); None for features.
      outputs: the scaling of the targets; None if they are classes.
      labels: the labels in the arrays, in increasing order; `labels[i]` becomes class i. None if
        the targets are real numbers.
      last_axis: whether each target is an array of `num_outputs` real numbers, not a scalar; False
        for classes.

    Raises:
      ValueError: if an attribute is invalid, or does not fit the others.
    """

    target: str
    num_outputs: int
    inputs: Scaling | None = None
    vocab_size: int | None = None
    outputs: Scaling | None = None
    labels: tuple[int, ...] | None = None
    last_axis: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @property
    def per_step(self) -> bool:
        """Whether there is a target for each step."""
        return self.target.startswith("step_")

    @property
    def of_classes(self) -> bool:
        """Whether the targets are classes, not real numbers."""
        return self.target.endswith("classes")

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as a dict that can be written as JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Returns the specification from which `to_json` made `content`.

        Raises:
          ValueError: if `content`, which may be untrusted, is not a valid specification.
        """
        try:
            fields = dict(content)
            for name in ("inputs", "outputs"):
                if (found := fields.get(name)) is not None:
                    fields[name] = Scaling(*(tuple(found[key]) for key in ("mean", "std")))
            if fields.get("labels") is not None:
                fields["labels"] = tuple(fields["labels"])
            return cls(**fields)
        except (LookupError, OverflowError, TypeError) as error:
            raise ValueError(f"not a specification of arrays: {error}") from error

    def encode_inputs(self, x: np.ndarray, where: str) -> np.ndarray:
        """Returns the inputs of the model: standardized features, float32, or tokens, int32.

        Args:
          x: the valid steps of one example, `(t, features)` or `(t,)`.
          where: the name of `x`, for messages.

        Raises:
          UserError: if the model cannot read the inputs, or a feature is not finite, before or
            after it is standardized.
        """
        if self.inputs is None:
            return _checked_tokens(x, self.vocab_size or 0, where)
        features = len(self.inputs.mean)
        if x.ndim == 1:
            raise UserError(
                f"{where} has integers (T,), which are tokens; the model reads features: give "
                f"x as (n, T, {features})" + ", or as real numbers (n, T)" * (features == 1)
            )
        if x.shape[1] != features:
            raise UserError(f"{where} has {x.shape[1]} features; the model reads {features}")
        return self.inputs.apply(x, where)

    def encode_target(self, y: np.ndarray, where: str) -> np.ndarray:
        """Converts labels to classes, int32, or standardizes real numbers, float32.

        Args:
          y: labels that are in `labels`, or real numbers `(..., k)`.
          where: the name of `y`, for messages.

        Raises:
          UserError: if a real number is not finite, before or after it is standardized.
        """
        if self.outputs is None:
            return np.searchsorted(np.array(self.labels), y).astype(np.int32)
        return self.outputs.apply(y, where)

    def values(self, outputs: Any) -> np.ndarray:
        """Converts standardized outputs `(..., k)` to the units and axes of the targets."""
        assert self.outputs is not None
        found = self.outputs.undo(outputs)
        return found if self.last_axis else found[..., 0]


def check_finite(x: np.ndarray, where: str) -> None:
    """Raises a UserError if a value is not finite."""
    if not np.isfinite(x).all():
        raise UserError(f"{where} has values that are not finite; expected finite numbers")


def _checked_tokens(x: np.ndarray, vocab_size: int, where: str) -> np.ndarray:
    if x.ndim != 1:
        raise UserError(
            f"{where} has steps of shape {x.shape[1:]}; the model reads tokens: give x as integers "
            "(n, T)"
        )
    if x.min() < 0 or x.max() >= vocab_size:
        raise UserError(
            f"{where} has tokens from {x.min()} to {x.max()}; expected 0 to {vocab_size - 1}"
        )
    return x.astype(np.int32)


def resolve_target(given: str, y: np.ndarray, steps: int, where: str) -> tuple[str, bool]:
    """Returns the kind of the targets, and whether each is an array of real numbers.

    Args:
      given: one of `TARGETS`, or "auto": "classes" if `y` has integers or booleans, else "values",
        with the prefix "step_" if the second axis of `y` has the length `steps`. The number of
        different integers is checked by `lru.data.array_examples.spec_of`.
      y: the targets of all examples.
      steps: T, the number of steps of the inputs.
      where: the name of `y`, for messages.

    Raises:
      UserError: if the type or shape of the targets does not fit the kind, or `y` is empty.

    Example:
      >>> resolve_target("auto", np.zeros((8, 50, 2)), 50, "y")
      ('step_values', True)
      >>> resolve_target("auto", np.zeros(8, int), 50, "y")
      ('classes', False)
      >>> resolve_target("values", np.zeros(8, int), 50, "y")
      ('values', False)
    """
    integers, axes = y.dtype.kind in "iub", y.ndim
    with_steps = axes > 1 and y.shape[1] == steps
    if given == "auto":
        given = ("step_" if with_steps else "") + ("classes" if integers else "values")
    per_step = given.startswith("step_")
    least = 2 if per_step else 1
    most = least if given.endswith("classes") else least + 1
    fits = least <= axes <= most and (with_steps or not per_step) and y.size
    if not fits or (given.endswith("classes") and not integers):
        raise UserError(
            f"{where} has shape {y.shape} and type {y.dtype}; expected {_EXPECTED[given]} for the "
            f"target {given!r}, with T={steps}; or give another --config.data.target"
        )
    return given, axes > least


_EXPECTED = {
    "classes": "integers (n,)",
    "values": "numbers (n,) or (n, k)",
    "step_classes": "integers (n, T)",
    "step_values": "numbers (n, T) or (n, T, k)",
}


def _check(spec: ArraySpec) -> None:
    """Raises an error, such as a ValueError, if a specification is invalid."""
    if spec.target not in TARGETS:
        raise ValueError(f"target is {spec.target!r}")
    for name in ("num_outputs", "vocab_size"):
        value = getattr(spec, name)
        if value is not None and not (type(value) is int and 1 <= value <= _MOST):
            raise ValueError(f"{name} is {value!r}")
    if (spec.inputs is None) == (spec.vocab_size is None):
        raise ValueError("expected the inputs to be either features or tokens")
    if (spec.labels is None) == spec.of_classes or (spec.outputs is None) != spec.of_classes:
        raise ValueError(f"labels or outputs do not belong to the target {spec.target!r}")
    for name in ("inputs", "outputs"):
        if (scaling := getattr(spec, name)) is not None:
            _check_scaling(scaling, name)
    size = len(spec.labels or ()) if spec.outputs is None else len(spec.outputs.mean)
    if size != spec.num_outputs or (size > 1 and not (spec.last_axis or spec.of_classes)):
        raise ValueError(f"num_outputs is {spec.num_outputs!r}")
    if spec.labels is not None and not _increase(spec.labels):
        raise ValueError("labels are not increasing whole numbers")


def _check_scaling(scaling: Scaling, name: str) -> None:
    numbers = [*scaling.mean, *scaling.std]
    if not numbers or len(scaling.mean) != len(scaling.std):
        raise ValueError(f"{name} have no mean and std of equal lengths")
    real = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
    if not real or min(scaling.std) <= 0:
        raise ValueError(
            f"{name} have a mean that is not finite, or a std that is not finite and above 0"
        )


def _increase(labels: Sequence[Any]) -> bool:
    whole = all(type(label) is int for label in labels)
    return whole and all(a < b for a, b in zip(labels, labels[1:]))
