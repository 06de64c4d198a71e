"""Makes batches of examples; a training batch can be made without the batches before it.

Therefore an interrupted run resumes with `training_batches(...)[step]`, and the step is the only
state of the pipeline that has to be saved.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from lru.errors import UserError

Batch = Mapping[str, np.ndarray]


ALL = slice(None)


def training_batches(
    source: Sequence[Mapping[str, Any]], *, batch_size: int, seed: int, rows: slice = ALL
) -> grain.MapDataset:
    """Returns endless shuffled batches; the arguments and `step` determine `batches[step]`.

    The examples are reshuffled in every epoch. A batch may contain the end of one epoch and the
    start of the next, so that no example is left out.

    Args:
      source: at least one example; each example is a dict of arrays of fixed shapes.
      batch_size: B, the number of rows of a batch, over all processes.
      seed: the seed of shuffling, 0 .. 2**32 - 1.
      rows: the rows of each batch to return; with several processes, those of this process.

    Returns:
      Batches of the examples' stacked arrays, such as inputs `(B, T)`, length `(B,)` and label
      `(B,)`; and weight `(B,)`, float32, all ones, unless the examples have weights themselves. Of
      the B rows, only the given `rows` are returned.

    Raises:
      UserError: if the batch size or the seed is out of range, or the source is empty.

    Example:
      >>> source = [{"inputs": np.full(3, i), "length": 3, "label": i} for i in range(5)]
      >>> batches = training_batches(source, batch_size=4, seed=0)
      >>> sorted(int(label) for step in range(5) for label in batches[step]["label"])
      [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    """
    # Batches of indices, not of examples: sources with `__getitems__` read a whole batch at once.
    indices = training_indices(source, batch_size=batch_size, seed=seed, rows=rows)
    return indices.map(functools.partial(_gather, source))


def training_indices(
    source: Sequence[Mapping[str, Any]], *, batch_size: int, seed: int, rows: slice = ALL
) -> grain.MapDataset:
    """Returns the indices of the examples in each batch of `training_batches`, int32 `(B,)`.

    For the arguments and the errors, see `training_batches`.

    Example:
      >>> indices = training_indices(range(5), batch_size=4, seed=0)
      >>> batches = training_batches([{"label": i} for i in range(5)], batch_size=4, seed=0)
      >>> all((batches[step]["label"] == indices[step]).all() for step in range(5))
      True
    """
    _check(source, batch_size)
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed for shuffling is {seed}; expected a number from 0 to 2**32 - 1")
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().batch(batch_size)
    return indices.map(lambda batch: batch[rows].astype(np.int32))


def stacked(
    batches: grain.MapDataset, spans: Sequence[tuple[int, int]], most: int
) -> grain.MapDataset:
    """Returns stacks of consecutive batches, all with the shape `(most, B, ...)`.

    Args:
      batches: batches of arrays, or of dicts of arrays.
      spans: a pair (step, count) for each stack, which consists of `count` batches, starting with
        `batches[step]`.
      most: the maximum count; a shorter stack is padded with copies of its last batch.

    Example:
      >>> indices = training_indices(range(8), batch_size=2, seed=0)
      >>> first, second = stacked(indices, [(0, 3), (3, 1)], most=3)
      >>> bool((first[2] == indices[2]).all() and (second == indices[3]).all())
      True
    """

    def join(span: tuple[int, int]) -> Any:
        step, count = span
        found = [batches[step + i] for i in range(count)]
        found += [found[-1]] * (most - count)
        if isinstance(found[0], Mapping):
            return {key: np.stack([batch[key] for batch in found]) for key in found[0]}
        return np.stack(found)

    return grain.MapDataset.source(spans).map(join)


def read_all(source: Sequence[Mapping[str, Any]], most_bytes: float = float("inf")) -> Batch | None:
    """Reads a whole split as one batch; integers are converted to a small type that fits.

    Args:
      source: examples, as in `training_batches`.
      most_bytes: the maximum size of the batch in bytes; the size is estimated from the first
        thousand examples, so that rejecting a split that is too large takes little time.

    Returns:
      The batch, as in `training_batches` except for the types; None if its estimated size exceeds
      `most_bytes`.

    Raises:
      UserError: if the source is empty.

    Example:
      >>> split = read_all([{"inputs": np.full(3, i), "label": i} for i in range(5)])
      >>> split["inputs"].shape, split["inputs"].dtype.name, split["label"].tolist()
      ((5, 3), 'uint8', [0, 1, 2, 3, 4])
      >>> read_all([{"label": 1}, {"label": 2}], most_bytes=9) is None
      True
    """
    _check(source, 1)
    chunks: list[Batch] = []
    for start in range(0, len(source), 1000):
        chunk = _gather(source, np.arange(start, min(start + 1000, len(source))))
        chunks.append({key: _narrow(value) for key, value in chunk.items()})
        if start == 0:
            each = sum(value[0].nbytes for value in chunks[0].values())
            if each * len(source) > most_bytes:
                return None
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


def _narrow(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iu" or not values.size:
        return values
    least, most = (np.min_scalar_type(value) for value in (values.min(), values.max()))
    return values.astype(np.result_type(least, most))


def evaluation_batches(
    source: Sequence[Mapping[str, Any]], *, batch_size: int, rows: slice = ALL
) -> grain.IterDataset:
    """Returns a reusable iterable over all examples, in order, in batches of one shape.

    If necessary, the last batch is padded with rows of weight 0. These rows are zeros with length
    1, so that a mean over the valid steps of a row is finite. The mean of a metric x over the
    targets is `sum(weight * x) / sum(weight)` over all batches.

    Args:
      source: examples, as in `training_batches`.
      batch_size: B, the number of rows of a batch, over all processes.
      rows: the rows of each batch to return; with several processes, those of this process.

    Returns:
      Batches, as in `training_batches`; weight is 0 in the padding rows.

    Raises:
      UserError: if the batch size is below 1, or the source is empty.

    Example:
      >>> source = [{"inputs": np.full(3, i), "length": 3, "label": i} for i in range(5)]
      >>> [batch["weight"].tolist() for batch in evaluation_batches(source, batch_size=3)]
      [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    """
    _check(source, batch_size)
    num_batches = -(-len(source) // batch_size)
    indices = grain.MapDataset.range(num_batches * batch_size).batch(batch_size)
    return read_ahead(indices.map(lambda batch: _gather(source, batch[rows])))


def prefetch(batches: grain.MapDataset, first_step: int = 0) -> Iterator[Any]:
    """Yields the batches in order, starting with `batches[first_step]`; two threads read ahead.

    Example:
      >>> next(prefetch(grain.MapDataset.range(10).repeat(), first_step=12))
      2
    """
    return iter(read_ahead(batches[first_step:]))


def read_ahead(batches: grain.MapDataset) -> grain.IterDataset:
    """Returns an iterable over the batches, in order; two threads read ahead."""
    # By default, grain would hold 500 batches in memory.
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def _gather(source: Sequence[Mapping[str, Any]], indices: np.ndarray) -> Batch:
    """Reads a batch; an index beyond the end gives a row of weight 0."""
    valid = indices < len(source)
    read = getattr(source, "__getitems__", lambda items: [source[index] for index in items])
    examples = read(indices[valid].tolist() or [0])  # at least one, for the shapes
    batch = {key: _stack(key, examples, valid) for key in examples[0]}
    return {"weight": valid.astype(np.float32)} | batch


def _stack(key: str, examples: Sequence[Mapping[str, Any]], valid: np.ndarray) -> np.ndarray:
    rows = np.stack([example[key] for example in examples])
    filler = np.ones if key == "length" else np.zeros
    batch = filler((len(valid), *rows.shape[1:]), rows.dtype)
    batch[valid] = rows[: valid.sum()]
    return batch


def _check(source: Sequence[Mapping[str, Any]], batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; expected at least 1")
    if len(source) == 0:
        raise UserError("the source is empty; expected at least one example")
