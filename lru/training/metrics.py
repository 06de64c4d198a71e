"""Metrics of training and evaluation, computed from sums over examples."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from lru.ops.array_typing import Array, Float, Num


class _Sums(struct.PyTreeNode):
    def merge(self, other: Self) -> Self:
        """Returns the metrics over the examples of `self` and `other` together."""
        return jax.tree.map(operator.add, self, other)


class Metrics(_Sums):
    """The sum of the losses and the number of correct predictions over examples.

    Batches are merged before a mean is computed, so every example has the same weight. If there is
    a target at every step, as on a text, every step whose target counts is an example.

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
          logits: the outputs of the model for V classes or tokens, `(B, V)`; with a target at
            every step, `(B, T, V)`.
          batch: a batch with the arrays `label` and `weight`, `(B,)` or `(B, T)`. The weight is 1
            for an example, and 0 where nothing counts, such as in padding.
        """
        label, weight = batch["label"], batch["weight"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        correct = logits.argmax(-1) == label
        weighted = (jnp.sum(x * weight, dtype=jnp.float32) for x in (loss, correct, 1.0))
        return cls(*weighted)

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


class RegressionMetrics(_Sums):
    """Sums over examples with K real targets each.

    Targets and predictions are standardized. If there are targets at every step, every step whose
    targets count is an example.

    Attributes:
      squared_error: the sum of (prediction - target)^2, `(K,)`.
      target: the sum of the targets, `(K,)`.
      squared_target: the sum of the squared targets, `(K,)`.
      count: the number of examples.
    """

    squared_error: Float[Array, "K"]
    target: Float[Array, "K"]
    squared_target: Float[Array, "K"]
    count: Float[Array, ""]

    @classmethod
    def empty(cls, num_outputs: int) -> RegressionMetrics:
        """Returns metrics over zero examples."""
        zeros = jnp.zeros(num_outputs)
        return cls(zeros, zeros, zeros, jnp.zeros(()))

    @classmethod
    def of(
        cls, outputs: Float[Array, "... K"], batch: Mapping[str, Num[Array, "..."]]
    ) -> RegressionMetrics:
        """Computes the metrics of a batch.

        Args:
          outputs: the predictions, `(B, K)`; with targets at every step, `(B, T, K)`.
          batch: a batch with the arrays `label`, with the shape of the outputs, and `weight`,
            `(B,)` or `(B, T)`. The weight is 1 for an example, and 0 where nothing counts, such as
            in padding.
        """
        label, weight = batch["label"], batch["weight"]
        axes = tuple(range(weight.ndim))

        def total(x):
            return jnp.sum(x * weight[..., None], axes, dtype=jnp.float32)

        count = jnp.sum(weight, dtype=jnp.float32)
        return cls(total((outputs - label) ** 2), total(label), total(label**2), count)

    @property
    def loss(self) -> Float[Array, ""]:
        """The squared error, summed over the examples and averaged over the K outputs."""
        return self.squared_error.mean()

    def mean_loss(self) -> Float[Array, ""]:
        """Returns the mean squared error of standardized targets, which training minimizes."""
        return self.loss / self.count

    def compute(self, std: Sequence[float]) -> dict[str, float]:
        """Returns the `loss` (see `mean_loss`), and `rmse` and `r2` as means over the K outputs.

        For two or more examples, `rmse` and `r2` are `root_mean_squared_error` and `r2_score` of
        scikit-learn with their defaults:

            RMSE = sqrt(sum (prediction - target)^2 / n)
            R2 = 1 - sum (prediction - target)^2 / sum (target - mean target)^2

        If all targets of an output are equal, its R2 is 1 if every prediction is exact, else 0.

        Args:
          std: the standard deviation of each output, by which the targets were divided. RMSE is in
            the units of the data; R2 has no units.

        Example:
          >>> batch = {"label": jnp.array([[1.0], [3.0], [9.0]]), "weight": jnp.array([1, 1, 0])}
          >>> RegressionMetrics.of(jnp.array([[1.0], [2.0], [0.0]]), batch).compute([10.0])
          {'loss': 0.5, 'rmse': 7.0710678118654755, 'r2': 0.5}
        """
        error, target, squared = (
            np.asarray(x, np.float64)
            for x in (self.squared_error, self.target, self.squared_target)
        )
        count = float(self.count)
        rmse = np.sqrt(error / count) * np.asarray(std)
        spread = squared - target**2 / count
        constant = spread <= 1e-6 * squared  # the rounding of float32 sums
        r2 = np.where(constant, error == 0, 1 - error / np.where(constant, 1, spread))
        return {
            "loss": float(error.mean() / count), "rmse": float(rmse.mean()), "r2": float(r2.mean())
        }  # fmt: skip
