"""Batches of one long text: B readers of it side by side, each going on where it stopped.

A language model keeps its state from one batch to the next, so their order is that of the text,
and nothing is shuffled. As in `lru.data.pipeline`, a batch is a function of its number alone.
"""

from __future__ import annotations

import grain
import numpy as np

from lru.data.pipeline import Batch
from lru.errors import UserError


def stream_batches(
    tokens: np.ndarray, *, batch_size: int = 100, unroll: int = 50
) -> grain.MapDataset:
    """Returns one pass over a text as batches of B streams, T steps of each at a time.

    Of N tokens, N - 1 have one before them. Each of these is predicted once, from those before it
    in its stream. Stream b of 0 .. B - 1 predicts tokens `1 + b (N - 1) // B` to
    `(b + 1) (N - 1) // B`, so that the lengths of two differ by one at most. `batches[i + 1]` goes
    on where `batches[i]` ends; what is missing in the last batch, and there alone, has weight 0.

    The mean over a text is `sum(weight * loss) / sum(weight)` over all its batches. (The code of
    Ahuja & Morency (2018) leaves out what fills no batch: other B and T score another text there.)

    Args:
      tokens: the text, whole numbers `(N,)`.
      batch_size: B.
      unroll: T, over which gradients go back in time.

    Returns:
      A sequence of as many batches as a pass has: inputs `(B, T)` and label `(B, T)`, int32, the
      latter one token later; and weight `(B, T)`, float32, 1 or 0. Begin with a state of zeros
      where `begins_pass` says so. `batches.repeat()` is passes without end.

    Raises:
      UserError: if B or T is below 1, or the text is too short for a single prediction.

    Example:
      >>> batches = stream_batches(np.arange(12), batch_size=2, unroll=3)
      >>> for batch in batches:
      ...     print(*(batch[key].tolist() for key in ("inputs", "label", "weight")))
      [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]] [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
      [[3, 4, 0], [8, 9, 10]] [[4, 5, 0], [9, 10, 11]] [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if batch_size < 1 or unroll < 1:
        raise UserError(
            f"the batch size is {batch_size} and unroll is {unroll}, expected at least 1 of each"
        )
    bounds = np.arange(batch_size + 1) * max(len(tokens) - 1, 0) // batch_size
    starts, ends = bounds[:-1], bounds[1:]
    num_batches = -(-int(np.max(ends - starts)) // unroll)
    if num_batches < 1:
        raise UserError(
            f"a text of {len(tokens):,} tokens is too short for {batch_size} streams of {unroll} "
            "steps: choose a smaller batch size or unroll, or a longer text"
        )

    def batch(index: int) -> Batch:
        at = starts[:, None] + (index * unroll + np.arange(unroll))
        valid = at < ends[:, None]
        at = np.where(valid, at, 0)
        return {
            "inputs": np.where(valid, tokens[at], 0).astype(np.int32),
            "label": np.where(valid, tokens[at + 1], 0).astype(np.int32),
            "weight": valid.astype(np.float32),
        }

    return grain.MapDataset.range(num_batches).map(batch)


def begins_pass(step: int, batches_per_pass: int) -> bool:
    """Whether a step is the first of a pass over the text, before which a state is set to zeros.

    Args:
      step: 0 for the first of all.
      batches_per_pass: `len(stream_batches(...))`.

    Example:
      >>> [begins_pass(step, batches_per_pass=3) for step in range(5)]
      [True, False, False, True, False]
    """
    return step % batches_per_pass == 0
