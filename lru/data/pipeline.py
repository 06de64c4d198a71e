"""Batches: which examples stand in one is a function of seed and step, and of nothing else.

So a run that stops after a step goes on with `training_batches(...)[step]`, and needs to remember
no more of the pipeline than that number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from lru.errors import UserError

Batch = Mapping[str, np.ndarray]


def training_batches(
    source: Sequence[Mapping[str, Any]], *, batch_size: int, seed: int
) -> grain.MapDataset:
    """Returns shuffled batches without end; `batches[step]` is a function of seed and step.

    Every epoch is a new permutation of all examples. A batch may hold the end of one epoch and
    the start of the next, so that no example is left out.

    Args:
      source: B examples or fewer or more, each a dict of arrays of fixed shapes.
      batch_size: B.
      seed: of the shuffling, 0 .. 2**32 - 1.

    Returns:
      Batches: an example's arrays stacked, such as inputs `(B, T)`, length `(B,)` and label
      `(B,)`; and weight `(B,)`, float32 ones.

    Raises:
      UserError: if the batch size or the seed is out of range, or the source is empty.

    Example:
      >>> source = [{"inputs": np.full(3, i), "length": 3, "label": i} for i in range(5)]
      >>> batches = training_batches(source, batch_size=4, seed=0)
      >>> sorted(int(label) for step in range(5) for label in batches[step]["label"])
      [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    """
    _check(source, batch_size)
    if not 0 <= seed < 2**32:
        raise UserError(f"the shuffling's seed is {seed}, expected 0 .. 2**32 - 1")
    # The indices are batched, not the examples: a source that can reads a whole batch at once.
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().batch(batch_size)
    return indices.map(functools.partial(_gather, source))


def evaluation_batches(
    source: Sequence[Mapping[str, Any]], *, batch_size: int
) -> grain.IterDataset:
    """Returns every example once, in order, as batches of one shape; iterate as often as needed.

    The last batch is filled up with rows of weight 0: zeros, but of length 1, so that a mean over
    a row's valid steps is finite. Metrics weight by example: `sum(weight * x) / sum(weight)`.

    Args:
      source: examples, as in `training_batches`.
      batch_size: B.

    Returns:
      Batches, as in `training_batches`; weight is 0 in the rows that are filled in.

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
    return _read_ahead(indices.map(functools.partial(_gather, source)))


def prefetch(batches: grain.MapDataset, first_step: int = 0) -> Iterator[Batch]:
    """Yields `batches[first_step]` and all that follow it, in order, read ahead by two threads.

    Example:
      >>> next(prefetch(grain.MapDataset.range(10).repeat(), first_step=12))
      2
    """
    return iter(_read_ahead(batches[first_step:]))


def _read_ahead(batches: grain.MapDataset) -> grain.IterDataset:
    # By its own defaults grain would keep 500 batches in memory.
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def _gather(source: Sequence[Mapping[str, Any]], indices: np.ndarray) -> Batch:
    """Reads a batch; an index beyond the end stands for a row of weight 0."""
    valid = indices < len(source)
    read = getattr(source, "__getitems__", lambda found: [source[index] for index in found])
    examples = read(indices[valid].tolist())
    batch = {key: _stack(key, examples, len(indices)) for key in examples[0]}
    return batch | {"weight": valid.astype(np.float32)}


def _stack(key: str, examples: Sequence[Mapping[str, Any]], batch_size: int) -> np.ndarray:
    rows = np.stack([example[key] for example in examples])
    filler = np.ones if key == "length" else np.zeros
    return np.concatenate([rows, filler((batch_size - len(rows), *rows.shape[1:]), rows.dtype)])


def _check(source: Sequence[Mapping[str, Any]], batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}, expected at least 1")
    if len(source) == 0:
        raise UserError("there is no example to make a batch of")
