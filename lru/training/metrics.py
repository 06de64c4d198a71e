"""Loss and accuracy, weighted by example: sums that are divided once, at the end."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import optax
from flax import struct

from lru.ops.array_typing import Array, Float, Num


class Metrics(struct.PyTreeNode):
    """Sums over examples, so that a short batch counts for what it holds and no more.

    Attributes:
      loss: the sum of the examples' cross entropies, in nats.
      correct: how many were classified right.
      count: how many there were.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def empty(cls) -> Metrics:
        """Of no example."""
        return cls(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    @classmethod
    def of(cls, logits: Float[Array, "... V"], batch: Mapping[str, Num[Array, "..."]]) -> Metrics:
        """Of a batch with `label` and `weight`: 1 for what counts, 0 for filling.

        All are `(B,)`, and logits `(B, V)`; of texts, whose characters are scored one by one, they
        are `(B, T)` and `(B, T, V)`.
        """
        label, weight = batch["label"], batch["weight"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        correct = logits.argmax(-1) == label
        weighted = (jnp.sum(x * weight, dtype=jnp.float32) for x in (loss, correct, 1.0))
        return cls(*weighted)

    def merge(self, other: Metrics) -> Metrics:
        """Of both parts together."""
        return Metrics(
            self.loss + other.loss, self.correct + other.correct, self.count + other.count
        )

    def mean_loss(self) -> Float[Array, ""]:
        """What training minimises: nats per example, or per character."""
        return self.loss / self.count

    def compute(self) -> dict[str, float]:
        """`loss` in nats and `accuracy` between 0 and 1, per example.

        Example:
          >>> logits = jnp.array([[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]])
          >>> batch = {"label": jnp.array([1, 1, 0]), "weight": jnp.array([1.0, 1.0, 0.0])}
          >>> Metrics.of(logits, batch).compute()["accuracy"]
          0.5
        """
        count = float(self.count)
        return {"loss": float(self.loss) / count, "accuracy": float(self.correct) / count}
