"""Batches of one long text, divided into B streams; each batch continues the previous one.

A language model carries its state from one batch to the next, so batches follow the order of the
text and are not shuffled. As in `lru.data.pipeline`, any batch can be made without the batches
before it.
"""

from __future__ import annotations

import grain
import numpy as np

from lru.data.pipeline import Batch
from lru.errors import UserError


def stream_batches(
    tokens: np.ndarray, *, batch_size: int = 100, unroll: int = 50, rows: slice = slice(None)
) -> grain.MapDataset:
    """Returns one pass over a text as batches of B streams and T steps.

    Each of the N tokens except the first is predicted once, from the tokens before it in its
    stream. Stream b, from 0 to B - 1, predicts tokens `1 + b (N - 1) // B` to
    `(b + 1) (N - 1) // B`, so the lengths of two streams differ by at most one. `batches[i + 1]`
    continues `batches[i]`. Only the last batch may have unused steps, with weight 0.

    The mean loss over a text is `sum(weight * loss) / sum(weight)` over all batches. (The code
    of Ahuja & Morency (2018) drops tokens that do not fill a batch, so the text that it scores
    depends on B and T.)

    Args:
      tokens: the text, integers `(N,)`.
      batch_size: B, the number of streams, over all processes.
      unroll: T, the number of steps in a batch, through which gradients flow back in time.
      rows: the streams to return; with several processes, those of this process.

    Returns:
      The batches of one pass: inputs `(B, T)` and label `(B, T)`, int32, where each label is the
      token after its input; and weight `(B, T)`, float32, 1 or 0. Set the state to zeros before a
      step for which `begins_pass` is true. `batches.repeat()` repeats the pass endlessly.

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
            f"the batch size is {batch_size} and unroll is {unroll}; expected at least 1 for both"
        )
    bounds = np.arange(batch_size + 1) * max(len(tokens) - 1, 0) // batch_size
    starts, ends = bounds[:-1], bounds[1:]
    num_batches = -(-int(np.max(ends - starts)) // unroll)
    if num_batches < 1:
        raise UserError(
            f"the number of tokens in the text is {len(tokens):,}; expected at least 2, one to "
            "read and one to predict"
        )

    starts, ends = starts[rows], ends[rows]

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
    """Returns whether a step begins a pass over the text; set the state to zeros before it.

    Args:
      step: the index of the training step, from 0.
      batches_per_pass: `len(stream_batches(...))`.

    Example:
      >>> [begins_pass(step, batches_per_pass=3) for step in range(5)]
      [True, False, False, True, False]
    """
    return step % batches_per_pass == 0
