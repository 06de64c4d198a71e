"""The steps of training and evaluation, as pure functions; `Experiment` compiles them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from lru.ops.array_typing import Array, Int
from lru.training.metrics import Metrics, RegressionMetrics
from lru.training.tasks import Task


class State(struct.PyTreeNode):
    """The state of training: what a step needs besides its batch.

    A checkpoint contains a state and the run's history; see `lru.training.history`.

    Attributes:
      seed: the config's seed, for dropout. It is an array, so runs that differ only in their seed
        share their compiled programs.
      step: the number of optimizer steps done.
      params: the model's parameters.
      batch_stats: the running statistics of batch normalization.
      opt_state: the state of the optimizer.
      carry: what one batch passes to the next: the model's state on a text, otherwise `()`.
      metrics: the sums over the training steps since the last log.
      diverged_at: the first step at which the loss, the new parameters or the batch statistics were
        not finite; -1 if there is none.
    """

    seed: Array
    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    carry: Any
    metrics: Metrics | RegressionMetrics
    diverged_at: Int[Array, ""]


class Call(struct.PyTreeNode):
    """The batches of one call of the compiled program.

    K is `Settings.most_steps_per_call`.

    Attributes:
      stop: one more than the index of the last batch to train on, at most K.
      examples: K batches `(K, B, ...)`; or the whole split, if `rows` is given.
      rows: the indices of each batch's examples, `(K, B)`; None if `examples` are batches.
      start: the index of the first batch to train on.
    """

    stop: int
    examples: Mapping[str, Array]
    rows: Int[Array, "K B"] | None = None
    start: int = 0

    @property
    def count(self) -> int:
        """The number of steps in this call."""
        return self.stop - self.start

    def chunks(self, most: Callable[[], int]) -> Iterator[Call]:
        """Yields chunks of this call, of at most `most()` steps each; calls `most` before each."""
        stop = self.start
        while stop < self.stop:
            start, stop = stop, min(stop + most(), self.stop)
            yield self.replace(start=start, stop=stop)

    def batch(self, i: Int[Array, ""] | int) -> dict[str, Array]:
        """Returns the batch with index i, with its integers widened to int32."""
        found = i if self.rows is None else self.rows[i]
        return {key: _widen(values[found]) for key, values in self.examples.items()}


def _widen(x: Array) -> Array:
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x


def init_variables(model: nn.Module, task: Task, seed: Any) -> Any:
    """Returns the model's initial variables: parameters drawn from a seed, and batch statistics."""
    return model.init(jax.random.key(seed), task.example())


class Steps(NamedTuple):
    """The training and evaluation steps of a model on a task.

    Attributes:
      task: the task, which applies the model to a batch.
      model: the model.
      optimizer: the optimizer, which turns gradients into updates.
      accumulate: the number of parts of a batch whose gradients are computed one after another.
    """

    task: Task
    model: nn.Module
    optimizer: optax.GradientTransformation
    accumulate: int = 1

    def init(self, seed: Array, batch_size: int) -> State:
        """Returns the state before the first step, with parameters drawn from the seed."""
        variables = init_variables(self.model, self.task, seed)
        return State(
            seed=seed,
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=self.optimizer.init(variables["params"]),
            carry=self.task.initial_carry(self.model, variables, batch_size),
            metrics=self.task.empty_metrics(),
            diverged_at=jnp.full((), -1, jnp.int32),
        )

    def train_step(self, state: State, batch: Mapping[str, Array]) -> State:
        """Returns the state after one step on a batch."""
        state = state.replace(carry=self.task.step_carry(state.carry, state.step))
        gradients = self._gradients if self.accumulate == 1 else self._accumulated
        value, grads, (carry, metrics, batch_stats) = gradients(state, batch)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(value + optax.tree.norm((params, batch_stats)))
        step = state.step + 1
        return state.replace(
            step=step,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            carry=carry,
            metrics=state.metrics.merge(metrics),
            diverged_at=jnp.where((state.diverged_at < 0) & ~finite, step, state.diverged_at),
        )

    def _gradients(self, state: State, batch: Mapping[str, Array], part: Any = None) -> Any:
        """Returns the mean loss, its gradient, and `(carry, metrics, batch_stats)`.

        The loss of a part is its share of the whole batch's mean loss, so the losses of all parts
        add up to that mean.

        Args:
          state: the state, whose parameters are differentiated.
          batch: a batch, or a part of it.
          part: the index of the part, and the sum of the weights of the whole batch; None if
            `batch` is a whole batch.
        """
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        rngs = {"dropout": key if part is None else jax.random.fold_in(key, part[0])}

        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            options = dict(train=True, mutable=["batch_stats"], rngs=rngs)
            (carry, logits), updated = self.task.apply(
                self.model, variables, state.carry, batch, **options
            )
            metrics = self.task.metrics(logits, batch)
            value = metrics.mean_loss() if part is None else metrics.loss / part[1]
            return value, (carry, metrics, updated.get("batch_stats", {}))

        (value, others), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return value, grads, others

    def _accumulated(self, state: State, batch: Mapping[str, Array]) -> Any:
        """Returns the results of `_gradients`, computed on one part of the batch after another."""
        parts, total = self.accumulate, batch["weight"].sum()

        def split(x):  # part i has rows i, i + parts, ..., so each device keeps its rows
            return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

        def join(x):
            return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

        def add(sums, inputs):
            value, grads, metrics, batch_stats = sums
            number, carry, part = inputs
            now = state.replace(carry=carry, batch_stats=batch_stats)
            more, more_grads, (carry, found, batch_stats) = self._gradients(
                now, part, (number, total)
            )
            grads = jax.tree.map(jnp.add, grads, more_grads)
            return (value + more, grads, metrics.merge(found), batch_stats), carry

        params, empty = state.params, self.task.empty_metrics()
        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params), empty
        inputs = jnp.arange(parts), *jax.tree.map(split, (state.carry, dict(batch)))
        (value, grads, metrics, stats), carry = lax.scan(add, (*zero, state.batch_stats), inputs)
        return value, grads, (jax.tree.map(join, carry), metrics, stats)

    def run_call(self, state: State, call: Call, sharding: Any) -> State:
        """Returns the state after all steps of a call, each on a batch with the given sharding."""

        # A step reads its batch from the loop's carry, like an argument. If the batch were gathered
        # within the step, XLA would fuse the gathering and the step differently for each K and each
        # source, so the last bits of the results would depend on settings that concern speed alone.
        def batch(i):
            return lax.with_sharding_constraint(call.batch(i), sharding)

        def step(i, state_and_batch):
            state, now = state_and_batch
            return self.train_step(state, now), batch(jnp.minimum(i + 1, call.stop - 1))

        return lax.fori_loop(call.start, call.stop, step, (state, batch(call.start)))[0]

    def evaluation_step(
        self, variables: Any, carry: Any, metrics: Any, batch: Mapping[str, Array]
    ) -> tuple[Any, Any]:
        """Returns the carry after a batch, and the metrics with those of the batch added."""
        batch = jax.tree.map(_widen, batch)  # as in training
        (carry, logits), _ = self.task.apply(self.model, variables, carry, batch, mutable=[])
        return carry, metrics.merge(self.task.metrics(logits, batch))
