"""Metrics of training and evaluation: loss and accuracy, as sums and as means over examples."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import optax
from flax import struct

from lru.ops.array_typing import Array, Float, Num


class Metrics(struct.PyTreeNode):
    """Sums of the loss and of the correct predictions over examples.

    A mean over several batches therefore gives every example the same weight. On a text, every
    predicted character is an example.

    Attributes:
      loss: the sum of the examples' cross entropies, in nats.
      correct: the number of examples classified correctly.
      count: the number of examples.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def empty(cls) -> Metrics:
        """Returns metrics over zero examples."""
        return cls(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    @classmethod
    def of(cls, logits: Float[Array, "... V"], batch: Mapping[str, Num[Array, "..."]]) -> Metrics:
        """Computes the metrics of a batch.

        Args:
          logits: the outputs of the model, `(B, V)`; on a text, `(B, T, V)`.
          batch: a batch with the arrays `label` and `weight`, `(B,)`; on a text, `(B, T)`. The
            weight is 1 for an example and 0 for padding.
        """
        label, weight = batch["label"], batch["weight"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        correct = logits.argmax(-1) == label
        weighted = (jnp.sum(x * weight, dtype=jnp.float32) for x in (loss, correct, 1.0))
        return cls(*weighted)

    def merge(self, other: Metrics) -> Metrics:
        """Returns the metrics over the examples of `self` and `other` together."""
        return Metrics(
            self.loss + other.loss, self.correct + other.correct, self.count + other.count
        )

    def mean_loss(self) -> Float[Array, ""]:
        """Returns the loss that training minimizes, in nats per example."""
        return self.loss / self.count

    def compute(self) -> dict[str, float]:
        """Returns the mean `loss` in nats per example, and the `accuracy` between 0 and 1.

        Example:
          >>> logits = jnp.array([[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]])
          >>> batch = {"label": jnp.array([1, 1, 0]), "weight": jnp.array([1.0, 1.0, 0.0])}
          >>> Metrics.of(logits, batch).compute()["accuracy"]
          0.5
        """
        count = float(self.count)
        return {"loss": float(self.loss) / count, "accuracy": float(self.correct) / count}
