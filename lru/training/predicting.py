"""Predicts the targets of new arrays with a run's best checkpoint or with an export."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lru.data.array_files import Part, read_arrays
from lru.data.array_spec import ArraySpec
from lru.errors import UserError
from lru.io.files import write_atomically
from lru.training.best import restore_best
from lru.training.exporting import WEIGHTS, load_standardized

# The most rows of a batch, and the most steps of all its rows, which bound the memory.
_ROWS, _STEPS = 64, 2**20


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model trained on arrays; see `lru.data.arrays`.

    Attributes:
      model: the model as trained: features and predicted real numbers are standardized.
      variables: the model's parameters and batch statistics.
      spec: what the model reads and predicts.
      precision: a function that returns a context manager for the precision of matrix products.
    """

    model: nn.Module
    variables: Any
    spec: ArraySpec
    precision: Callable[[], contextlib.AbstractContextManager[Any]]

    def predict(self, part: Part) -> dict[str, np.ndarray]:
        """Returns the predictions for n examples of at most T steps; the targets are not read.

        Returns:
          A dict with `y`, the predicted labels, `(n,)`, or real numbers, `(n,)` or `(n, k)`, in the
          units of the training data. For classes, also `probability`, `(n, C)`, and `classes`, the
          label of each of the C columns. If the model predicts each step, `y` and `probability`
          have an axis of T steps after the first; at steps of padding, labels are -1, numbers and
          probabilities are NaN, and `valid`, `(n, T)`, is False.

        Raises:
          UserError: the inputs are not those that the model reads.
        """
        with self.precision():
            outputs = np.concatenate(list(self._outputs(part)))
        if not self.spec.per_step:
            return self._decoded(outputs, np.ones(len(outputs), bool))
        valid = np.arange(part.steps) < part.lengths[part.index, None]
        return self._decoded(outputs, valid) | {"valid": valid}

    def _outputs(self, part: Part) -> Iterator[np.ndarray]:
        """Yields the model's outputs for each batch; for classes, the probabilities."""

        @jax.jit
        def apply(variables, x, lengths):
            outputs = self.model.apply(variables, x, seq_lengths=lengths)
            return jax.nn.softmax(outputs) if self.spec.of_classes else outputs

        size = min(_ROWS, len(part), max(_STEPS // part.steps, 1))
        for start in range(0, len(part), size):
            rows = range(start, min(start + size, len(part)))
            x, lengths = self._batch(part, rows, size)
            yield np.asarray(apply(self.variables, x, lengths))[: len(rows)]

    def _batch(self, part: Part, rows: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns encoded inputs, padded to T steps and to `size` rows, and their lengths."""
        encoded = [self.spec.encode_inputs(part.inputs(i), f"x of {part.name(i)}") for i in rows]
        x = np.zeros((size, part.steps, *encoded[0].shape[1:]), encoded[0].dtype)
        lengths = np.ones(size, np.int32)
        for row, inputs in enumerate(encoded):
            x[row, : len(inputs)], lengths[row] = inputs, len(inputs)
        return x, lengths

    def _decoded(self, outputs: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the dict of `predict`, without `valid`, from outputs that may include padding."""
        if not self.spec.of_classes:
            outputs = np.where(valid[..., None], outputs, np.nan)
            return {"y": self.spec.values(outputs)}
        classes = np.array(self.spec.labels)
        return {
            "y": np.where(valid, classes[outputs.argmax(-1)], -1),
            "probability": np.where(valid[..., None], outputs, np.nan),
            "classes": classes,
        }


def load_predictor(source: Path, allow: Sequence[str] = (), **reading: Any) -> Predictor:
    """Loads the model of a run or an export, which must have been trained on arrays.

    Args:
      source: the work directory of a run, of which the best checkpoint is loaded; or an export.
      allow: see `lru.training.best.restore_best`.
      reading: `data_dir` and `manual_dir`, the directories of the training data, which are read
        only if a work directory has no `dataset.json`.

    Raises:
      UserError: there is no model, it cannot be loaded, or it was not trained on arrays.
    """
    if (source / WEIGHTS).exists():
        model, variables, spec = load_standardized(source, allow)
        # An export need not have the settings of training; full precision is at least as precise.
        precision: Callable[[], Any] = functools.partial(jax.default_matmul_precision, "float32")
    else:
        experiment, state, _ = restore_best(source, allow=allow, read_data=False, **reading)
        model, variables = experiment.model, experiment.variables(state)
        spec, precision = experiment.dataset.spec, experiment.precision
    if spec is None:
        raise UserError(
            f"the model in {source} was not trained on arrays; expected a run of configs/arrays.py "
            "or its export"
        )
    return Predictor(model, variables, spec, precision)


def check_paths(given: Path, out: Path) -> None:
    """Checks the path `out` of the predictions, which must not overwrite the input `given`.

    Raises:
      UserError: `out` does not end in `.npz`, is `given` or in it, is a folder, or is in a folder
        that does not exist.
    """
    inputs, outputs = given.resolve(), out.resolve()
    if out.suffix != ".npz":
        raise UserError(f"--out is {out}; expected a name that ends in .npz")
    if inputs == outputs or inputs in outputs.parents:
        raise UserError(f"--out is {out}, which is, or is in, the input {given}; choose another")
    if out.is_dir():
        raise UserError(f"--out is {out}, which is a folder; expected a file")
    if not out.parent.is_dir():
        raise UserError(f"--out is {out}, but there is no folder {out.parent}; create it")


def predict_file(source: Path, given: Path, out: Path, **loading: Any) -> Mapping[str, np.ndarray]:
    """Predicts the targets of saved arrays, and writes the predictions atomically.

    Args:
      source: the work directory of a run, or an export.
      given: an `.npz` file or a folder of `.npy` files with `x` and, for padded examples,
        `lengths`; `y` and `mask`, if present, are not read.
      out: the `.npz` file to write; a file of that name is replaced.
      loading: the other arguments of `load_predictor`.

    Returns:
      The predictions; see `Predictor.predict`.

    Raises:
      UserError: the arrays cannot be read or are not those that the model reads; or see
        `check_paths` and `load_predictor`.
    """
    check_paths(given, out)
    predictor = load_predictor(source, **loading)
    arrays = read_arrays(given, ("x", "lengths"), ignored=("y", "mask"))
    found = predictor.predict(Part.of(arrays, "", given))
    content = io.BytesIO()
    np.savez(content, **found)  # type: ignore[arg-type]
    write_atomically(out, content.getvalue())
    return found
