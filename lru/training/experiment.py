"""A config turned into the four things a run needs: data, model, initial state, compiled steps."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lru.array_typing import Array, Int
from lru.data.pipeline import (
    evaluation_batches,
    prefetch,
    read_all,
    stacked,
    training_batches,
    training_indices,
)
from lru.errors import UserError
from lru.training.config import build, check_arguments
from lru.training.metrics import Metrics
from lru.training.optimizer import make_optimizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """The section `train` of a config.

    Attributes:
      steps: optimiser steps of the whole training.
      batch_size: examples a step, over all devices together.
      log_every: steps between two lines of training metrics.
      eval_every: steps between two evaluations on the validation split, each saved.
      checkpoint_every: steps between two checkpoints.
      eval_batch_size: examples an evaluation step; the training batch size if 0.
      tensorboard: write TensorBoard's event files as well.
      steps_per_call: steps at most that are made in one go, without the host: a call ends sooner
        where there is something to log, to evaluate or to save. A signal waits for its end.
      device_data_mb: a training split of no more megabytes is kept on every device, and batches
        are gathered there; a larger one is read by the host, batch by batch. 0: always so.
      matmul_precision: of products of float32 numbers, where a device has faster, coarser ones:
        "float32" is exact; "tensorfloat32", "bfloat16" name the coarsest that may be used.
    """

    steps: int
    batch_size: int
    log_every: int = 100
    eval_every: int = 1000
    checkpoint_every: int = 1000
    eval_batch_size: int = 0
    tensorboard: bool = False
    steps_per_call: int = 10
    device_data_mb: int = 1024
    matmul_precision: str = "float32"

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = int(name not in ("eval_batch_size", "device_data_mb"))
            if type(value) is int and value < least:
                raise UserError(f"config.train.{name} is {value}; expected at least {least}")
        if self.matmul_precision not in PRECISIONS:
            raise UserError(
                f"config.train.matmul_precision is {self.matmul_precision!r}; expected one of "
                f"{', '.join(PRECISIONS)}"
            )

    def spans(self, first_step: int) -> list[tuple[int, int]]:
        """The calls from a step to the end: (step, count), none across a border.

        Example:
          >>> train = Settings(steps=9, batch_size=1, log_every=6, steps_per_call=4)
          >>> train.spans(first_step=1)
          [(1, 4), (5, 1), (6, 3)]
        """
        borders = {step for n in self._every for step in range(n, self.steps, n)} | {self.steps}
        edges = [first_step, *sorted(step for step in borders if step > first_step)]
        most = self.most_steps_per_call
        return [
            (step, min(most, end - step))
            for start, end in itertools.pairwise(edges)
            for step in range(start, end, most)
        ]

    @property
    def most_steps_per_call(self) -> int:
        """`steps_per_call`, or what there is at most from one border to the next."""
        return min(self.steps_per_call, self.steps, *self._every)

    @property
    def _every(self) -> tuple[int, ...]:
        return self.log_every, self.eval_every, self.checkpoint_every


class Call(struct.PyTreeNode):
    """What one call of the compiled program trains on, K = `steps_per_call`.

    Attributes:
      count: of steps, K at most.
      examples: K batches `(K, B, ...)`; or the whole split, if `rows` is given.
      rows: the examples of each batch, `(K, B)`.
    """

    count: int
    examples: Mapping[str, Array]
    rows: Int[Array, "K B"] | None = None

    def batch(self, i: Int[Array, ""]) -> dict[str, Array]:
        """The batch of step i, its whole numbers int32 however narrow they are kept."""
        found = i if self.rows is None else self.rows[i]
        return {key: _widened(values[found]) for key, values in self.examples.items()}


class State(struct.PyTreeNode):
    """All that a training step needs beside its batch: what a checkpoint holds.

    Attributes:
      seed: of dropout: the config's. Runs that differ in it alone share their compiled programs.
      step: optimiser steps done.
      params: the model's parameters.
      batch_stats: batch normalisation's running statistics.
      opt_state: the optimiser's.
      metrics: of the training steps since they were last logged.
      diverged_at: the first step whose loss, or whose new parameters or batch statistics, were
        not finite; -1 if there was none.
    """

    seed: Array
    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    metrics: Metrics
    diverged_at: Int[Array, ""]


def _widened(x: Array) -> Array:
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x


# Left to itself, XLA orders a CPU program for concurrency, and computes again early and all at once
# what rematerialisation would compute late and layer by layer: in three times the memory.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
SECTIONS = ("seed", "data", "model", "optimizer", "train")


@functools.cache
def compiler_options(platform: str) -> dict[str, Any] | None:
    """The options above, where this version of XLA knows them."""
    options = _COMPILER_OPTIONS.get(platform)
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


class Experiment:
    """What a config describes, ready to train and to evaluate.

    Batches are split over all local devices, parameters are on each of them.

    Args:
      config: with the keys `seed data model optimizer train`.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.
      devices: the devices to split batches over; by default all local ones.

    Attributes:
      settings: the section `train`.
      dataset: the data set.
      schedule: the base learning rate, a function of the step.
      groups: the table of parameter groups.

    Raises:
      UserError: something in the config is wrong.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_dir: Path,
        manual_dir: Path | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        if set(config) != set(SECTIONS):
            odd = ", ".join(sorted(set(config) ^ set(SECTIONS)))
            raise UserError(f"the config has or lacks {odd}; expected {', '.join(SECTIONS)}")
        check_arguments(Settings, config.train, "config.train")
        self.settings = Settings(**config.train)
        self._seed = config.seed
        if not 0 <= self._seed < 2**32:
            raise UserError(f"config.seed is {self._seed}; expected a number from 0 to 2**32 - 1")
        devices = list(devices or jax.local_devices())
        if self.settings.batch_size % len(devices):
            raise UserError(
                f"config.train.batch_size is {self.settings.batch_size}; expected a multiple of "
                f"{len(devices)}, the number of devices"
            )
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        self._compiler_options = compiler_options(devices[0].platform)
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec("data"))
        self._split_calls = NamedSharding(mesh, PartitionSpec(None, "data"))
        check_arguments(
            make_optimizer, config.optimizer, "config.optimizer", later=("params", "steps")
        )
        create_model = build(config.model, "config.model", later=("num_classes", "vocab_size"))
        create_dataset = build(config.data, "config.data", later=("data_dir", "manual_dir"))
        self.dataset = create_dataset(data_dir=data_dir, manual_dir=manual_dir)
        self._model = create_model(
            num_classes=self.dataset.num_classes, vocab_size=self.dataset.vocab_size
        )
        self._optimizer, self.schedule, self.groups = make_optimizer(
            self._parameter_shapes(), self.settings.steps, **config.optimizer
        )

    @functools.cached_property
    def init_state(self) -> Callable[[], State]:
        """`() -> state` before the first step, compiled; a function of the config's seed alone."""
        init = jax.jit(self._init, out_shardings=self._replicated)
        return functools.partial(init, np.uint32(self._seed))

    def state_shapes(self) -> State:
        """A state's shapes, types and shardings, for a checkpoint to be restored into."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated),
            jax.eval_shape(self._init, np.uint32(self._seed)),
        )

    def empty_metrics(self) -> Metrics:
        """Metrics of no example, on the devices."""
        return jax.device_put(Metrics.empty(), self._replicated)

    @functools.cached_property
    def _resident(self) -> Mapping[str, Array] | None:
        """The training split on every device, if the setting lets it; None if not."""
        most_bytes = self.settings.device_data_mb * 1_000_000
        if not most_bytes:
            return None
        split = read_all(self.dataset.source("train"), most_bytes)
        return None if split is None else jax.device_put(split, self._replicated)

    def training_calls(self, first_step: int) -> Iterator[Call]:
        """What to train on from a step to the end, on the devices.

        Which examples stand in the batch of a step is a function of seed and step alone.
        """
        source, spans = self.dataset.source("train"), self.settings.spans(first_step)
        split = self._resident
        order = training_batches if split is None else training_indices
        batches = order(source, batch_size=self.settings.batch_size, seed=self._seed)
        calls = stacked(batches, spans, self.settings.most_steps_per_call).map(self._put)
        for (_, count), given in zip(spans, prefetch(calls)):
            yield Call(count, given) if split is None else Call(count, split, given)

    def _put(self, given: Any) -> Any:
        return jax.device_put(given, self._split_calls)

    @functools.cached_property
    def train_steps(self) -> Any:
        """`(state, call) -> state`, compiled, once for any count; the state given is used up."""
        return jax.jit(
            self._train_steps,
            donate_argnums=0,
            out_shardings=self._replicated,
            compiler_options=self._compiler_options,
        )

    def evaluate(self, state: State, split: str) -> dict[str, float]:
        """Loss and accuracy over a whole split, weighted by example."""
        metrics = self.empty_metrics()
        devices = self._split.num_devices  # rows that fill up the last batch weigh nothing
        size = self.settings.eval_batch_size or self.settings.batch_size
        size = -(-size // devices) * devices
        for batch in evaluation_batches(self.dataset.source(split), batch_size=size):
            batch = jax.device_put(batch, self._split)
            metrics = self._eval_step(state.params, state.batch_stats, metrics, batch)
        return metrics.compute()

    @functools.cached_property
    def _eval_step(self):
        def step(params, batch_stats, metrics, batch):
            variables = {"params": params, "batch_stats": batch_stats}
            batch = jax.tree.map(_widened, batch)  # as in training
            with self._precision():
                inputs = self.dataset.decode(batch["inputs"])
                logits = self._model.apply(variables, inputs, seq_lengths=batch["length"])
            return metrics.merge(Metrics.of(logits, batch))

        return jax.jit(step, out_shardings=self._replicated)

    def _parameter_shapes(self):
        try:
            return jax.eval_shape(self._init_variables, np.uint32(self._seed))["params"]
        except (TypeError, ValueError) as error:  # a model's own word on its arguments
            raise UserError(f"config.model does not work: {error}") from error

    def _init_variables(self, seed):
        example = self.dataset.source("train")[0]
        inputs = self.dataset.decode(jnp.asarray(example["inputs"])[None])
        return self._model.init(jax.random.key(seed), inputs)

    def _init(self, seed: Array) -> State:
        variables = self._init_variables(seed)
        return State(
            seed=seed,
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=self._optimizer.init(variables["params"]),
            metrics=Metrics.empty(),
            diverged_at=jnp.full((), -1, jnp.int32),
        )

    def _precision(self):
        return jax.default_matmul_precision(self.settings.matmul_precision)

    def _train_steps(self, state: State, call: Call) -> State:
        # A step finds its batch in the loop's carry, as it would find an argument. Gathered within
        # the step, a batch would be fused into it, in other ways for other K and other sources: so
        # a result's last bit would hang on settings that are about speed alone.
        def batch(i):
            return lax.with_sharding_constraint(call.batch(i), self._split)

        def step(i, carry):
            state, now = carry
            return self._train_step(state, now), batch(jnp.minimum(i + 1, call.count - 1))

        with self._precision():
            return lax.fori_loop(0, call.count, step, (state, batch(0)))[0]

    def _train_step(self, state: State, batch: Mapping[str, Array]) -> State:
        def loss_function(params):
            logits, updated = self._model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                self.dataset.decode(batch["inputs"]),
                seq_lengths=batch["length"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(jax.random.key(state.seed), state.step)},
            )
            metrics = Metrics.of(logits, batch)
            return metrics.mean_loss(), (metrics, updated.get("batch_stats", {}))

        gradient = jax.value_and_grad(loss_function, has_aux=True)
        (loss, (metrics, batch_stats)), grads = gradient(state.params)
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(loss + optax.tree.norm((params, batch_stats)))
        step = state.step + 1
        return state.replace(
            step=step,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            metrics=state.metrics.merge(metrics),
            diverged_at=jnp.where((state.diverged_at < 0) & ~finite, step, state.diverged_at),
        )
