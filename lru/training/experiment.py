"""Builds what a run needs from its config: data, model, initial state and compiled steps."""

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

from lru.analysis.modes import noted_layers
from lru.data.pipeline import prefetch, stacked
from lru.errors import UserError
from lru.ops.array_typing import Array, Int
from lru.ops.platform import product_precision
from lru.training.config import build, check_arguments
from lru.training.description import Description
from lru.training.gradient_norms import mean_norms, record_gradient_norms
from lru.training.metrics import Metrics
from lru.training.optimizer import OptimizerSettings, make_optimizer
from lru.training.overrides import DATA_ARGUMENTS, MODEL_ARGUMENTS
from lru.training.ranges import check_ranges
from lru.training.settings import Settings
from lru.training.tasks import make_task


class Call(struct.PyTreeNode):
    """The batches of one call of the compiled program, K = `steps_per_call`.

    Attributes:
      stop: the index after the last batch to train on, at most K.
      examples: K batches `(K, B, ...)`; or the whole split, if `rows` is given.
      rows: the indices of each batch's examples, `(K, B)`.
      start: the index of the first batch to train on.
    """

    stop: int
    examples: Mapping[str, Array]
    rows: Int[Array, "K B"] | None = None
    start: int = 0

    @property
    def count(self) -> int:
        """The number of steps."""
        return self.stop - self.start

    def chunks(self, most: Callable[[], int]) -> Iterator[Call]:
        """Yields the same steps in calls of at most `most()` steps, evaluated for each call."""
        stop = self.start
        while stop < self.stop:
            start, stop = stop, min(stop + most(), self.stop)
            yield self.replace(start=start, stop=stop)

    def batch(self, i: Int[Array, ""]) -> dict[str, Array]:
        """Returns the batch of step i, with its integers widened to int32."""
        found = i if self.rows is None else self.rows[i]
        return {key: _widen(values[found]) for key, values in self.examples.items()}


class State(struct.PyTreeNode):
    """The state of training: what a step needs besides its batch, and what a checkpoint holds.

    Attributes:
      seed: the config's seed, for dropout. It is an array, so runs that differ in it alone share
        their compiled programs.
      step: the number of optimiser steps done.
      params: the model's parameters.
      batch_stats: the running statistics of batch normalisation.
      opt_state: the state of the optimiser.
      carry: what one batch passes to the next: on a text, the model's state.
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
    metrics: Metrics
    diverged_at: Int[Array, ""]


def _widen(x: Array) -> Array:
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x


# By default XLA schedules a CPU program for concurrency: it recomputes everything that is
# rematerialised early and at once, instead of late and layer by layer, in three times the memory.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}

SECTIONS = ("seed", "data", "model", "optimizer", "train")


def _check_sections(config: ConfigDict) -> None:
    for name in SECTIONS[1:]:
        if not isinstance(config[name], ConfigDict):
            raise UserError(f"config.{name} is {config[name]!r}; expected a section with keys")


def _try_mixers(create_model: Callable[..., Any]) -> None:
    """Traces the mixers of `lru` on one step, so that they raise before data are prepared."""
    arguments = getattr(create_model, "keywords", {})
    width = arguments.get("d_model")
    for key, make in arguments.items():
        made = getattr(make, "func", None)
        ours = str(getattr(made, "__module__", "")).partition(".")[0] == "lru"
        if not (ours and width) or make.keywords.get("sequence_axis"):
            continue
        try:
            mixer = make(parent=None)
            jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, width)))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise UserError(f"config.model.{key} does not work: {error}") from error


@functools.cache
def compiler_options(platform: str) -> dict[str, Any] | None:
    """Returns the compiler options of a platform; None if this version of XLA lacks them."""
    options = _COMPILER_OPTIONS.get(platform)
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def _create(create_model: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return create_model(**arguments)
    except (TypeError, ValueError) as error:  # the model checks its options itself
        raise UserError(f"config.model does not work: {error}") from error


class Experiment:
    """The data, model and optimiser of a config, ready to train and to evaluate.

    Batches are split over all local devices. Parameters are replicated on each of them.

    Args:
      config: a config with the keys `seed data model optimizer train`.
      data_dir: the directory of prepared data sets.
      manual_dir: the directory with files of official releases.
      devices: the devices to split batches over; by default all local ones.
      description: a description that replaces the data set. The data set is then not read, and the
        experiment can neither train nor evaluate.
      allow: see `lru.training.config.build`; None for a config that the user wrote.

    Attributes:
      settings: the section `train`.
      dataset: the data set.
      task: the task to learn on the data set.
      model: the model.
      layers: the model's layers that define their modes, by path.
      schedule: the base learning rate, a function of the step.
      groups: the table of parameter groups.
      origin: the source of the initial weights, see `set_initial_variables`; None if they are
        drawn.

    Raises:
      UserError: the config is wrong.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_dir: Path | None,
        manual_dir: Path | None = None,
        devices: Sequence[jax.Device] | None = None,
        *,
        description: Description | None = None,
        allow: Sequence[str] | None = None,
    ):
        if set(config) != set(SECTIONS):
            odd = ", ".join(sorted(set(config) ^ set(SECTIONS)))
            raise UserError(f"the config has or lacks {odd}; expected {', '.join(SECTIONS)}")
        _check_sections(config)
        check_arguments(Settings, config.train, "config.train")
        check_ranges(Settings, config.train, "config.train")
        settings = Settings(**config.train)
        self._seed = config.seed
        if type(self._seed) is not int or not 0 <= self._seed < 2**32:
            raise UserError(
                f"config.seed is {self._seed!r}; expected a whole number from 0 to 2**32 - 1"
            )
        devices = list(devices or jax.local_devices())
        if settings.batch_size % len(devices):
            raise UserError(
                f"config.train.batch_size is {settings.batch_size}; expected a multiple of "
                f"{len(devices)}, the number of devices"
            )
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        self._initial: dict[str, Any] | None = None
        self.origin: Mapping[str, Any] | None = None
        self._compiler_options = compiler_options(devices[0].platform)
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec("data"))
        self._split_calls = NamedSharding(mesh, PartitionSpec(None, "data"))
        check_arguments(OptimizerSettings, config.optimizer, "config.optimizer")
        optimizer = OptimizerSettings(**config.optimizer)
        create_model = build(config.model, "config.model", MODEL_ARGUMENTS, allow)
        _try_mixers(create_model)
        if description is None:
            create_dataset = build(config.data, "config.data", DATA_ARGUMENTS, allow)
            if data_dir is None:
                raise UserError("the data set has to be read; give --data_dir")
            self.dataset = create_dataset(data_dir=data_dir, manual_dir=manual_dir)
        else:
            self.dataset = description
        self.task = make_task(self.dataset, create_model, settings)
        self.settings = self.task.settings
        self.model = _create(create_model, self.task.model_arguments)
        self._optimizer, self.schedule, self.groups = make_optimizer(
            self._parameter_shapes(), self.settings.steps, optimizer
        )
        if settings.record_gradient_norms:
            self._optimizer = optax.chain(record_gradient_norms(), self._optimizer)

    def init_state(self) -> State:
        """Returns the state before the first step, a function of the config's seed alone.

        After `set_initial_variables`, parameters and batch statistics are the given ones.
        """
        state = self._compiled_init(np.uint32(self._seed))
        if self._initial is None:
            return state
        # A new copy each time, because `train_steps` donates the state.
        return state.replace(**jax.device_put(self._initial, self._replicated))

    @functools.cached_property
    def _compiled_init(self) -> Callable[[Any], State]:
        return jax.jit(self._init, out_shardings=self._sharding)

    def set_initial_variables(
        self, variables: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> None:
        """Replaces the initial weights.

        Args:
          variables: parameters and batch statistics, as `variables` returns them.
          origin: the source of the weights, for the record.
        """
        self._initial, self.origin = jax.device_get(dict(variables)), origin

    def state_shapes(self) -> State:
        """Returns a state's shapes, types and shardings, as a target to restore a checkpoint."""

        def with_sharding(sharding, subtree):
            return jax.tree.map(lambda x: x.update(sharding=sharding), subtree)

        shapes = jax.eval_shape(self._init, np.uint32(self._seed))
        return jax.tree.map(with_sharding, self._sharding, shapes)

    @property
    def _sharding(self) -> State:
        """The sharding of each field of a state; the carry is split as batches are."""
        fields: dict[str, Any] = {f.name: self._replicated for f in dataclasses.fields(State)}
        return State(**fields | {"carry": self._split})

    def empty_metrics(self) -> Metrics:
        """Returns metrics over zero examples, on the devices."""
        return jax.device_put(Metrics.empty(), self._replicated)

    @functools.cached_property
    def _on_device(self) -> Mapping[str, Array] | None:
        """The training split on every device; None if the host reads it."""
        split = self.task.on_device()
        return None if split is None else jax.device_put(split, self._replicated)

    def training_calls(self, first_step: int) -> Iterator[Call]:
        """Yields the calls from a step to the end, with their batches on the devices.

        The examples in the batch of a step are a function of seed and step alone.
        """
        split, spans = self._on_device, self.settings.spans(first_step)
        batches = self.task.batches(self._seed, indices=split is not None)
        # In chunks, because a list of all calls would take hours and memory for 10**9 steps.
        while some := list(itertools.islice(spans, 10_000)):
            calls = stacked(batches, some, self.settings.most_steps_per_call).map(self._put)
            for (_, count), given in zip(some, prefetch(calls)):
                yield Call(count, given) if split is None else Call(count, split, given)

    def _put(self, given: Any) -> Any:
        return jax.device_put(given, self._split_calls)

    @functools.cached_property
    def train_steps(self) -> Any:
        """`(state, call) -> state`, compiled once for any count; it donates its input state."""
        return jax.jit(
            self._train_steps,
            donate_argnums=0,
            out_shardings=self._sharding,
            compiler_options=self._compiler_options,
        )

    @staticmethod
    def variables(state: State) -> dict[str, Any]:
        """Returns the variables in a state to apply the model with."""
        return {"params": state.params, "batch_stats": state.batch_stats}

    def report(self, metrics: Metrics) -> dict[str, float]:
        """Returns loss and accuracy as they are logged."""
        return self.task.report(metrics.compute())

    def take_metrics(self, state: State) -> tuple[State, dict[str, float]]:
        """Returns the state with its sums over training steps cleared, and the logged metrics."""
        found = self.report(state.metrics)
        state = state.replace(metrics=self.empty_metrics())
        if self.settings.record_gradient_norms:
            norms, *others = state.opt_state
            found |= mean_norms(norms)
            cleared = jax.device_put(norms.cleared(), self._replicated)
            state = state.replace(opt_state=(cleared, *others))
        return state, found

    def evaluate(self, state: State, split: str) -> dict[str, float]:
        """Returns loss and accuracy over a whole split, weighted by example or by character."""
        devices = self._split.num_devices  # rows that pad the last batch have weight 0
        size = self.settings.eval_batch_size or self.settings.batch_size
        size = -(-size // devices) * devices
        variables = self.variables(state)
        carry = jax.device_put(self.task.initial_carry(self.model, variables, size), self._split)
        metrics = self.empty_metrics()
        for batch in self.task.evaluation(split, size):
            batch = jax.device_put(batch, self._split)
            carry, metrics = self._eval_step(variables, carry, metrics, batch)
        return self.report(metrics)

    @functools.cached_property
    def _eval_step(self):
        def step(variables, carry, metrics, batch):
            batch = jax.tree.map(_widen, batch)  # as in training
            with self.precision():
                (carry, logits), _ = self.task.apply(
                    self.model, variables, carry, batch, mutable=[]
                )
            return carry, metrics.merge(Metrics.of(logits, batch))

        return jax.jit(step, out_shardings=(self._split, self._replicated))

    def _parameter_shapes(self):
        try:
            with noted_layers() as self.layers:
                return jax.eval_shape(self._init_variables, np.uint32(self._seed))["params"]
        except (ArithmeticError, TypeError, ValueError) as error:  # from the model's own checks
            raise UserError(f"config.model does not work: {error}") from error

    def _init_variables(self, seed):
        return self.model.init(jax.random.key(seed), self.task.example())

    def _init(self, seed: Array) -> State:
        variables = self._init_variables(seed)
        return State(
            seed=seed,
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=self._optimizer.init(variables["params"]),
            carry=self.task.initial_carry(self.model, variables, self.settings.batch_size),
            metrics=Metrics.empty(),
            diverged_at=jnp.full((), -1, jnp.int32),
        )

    def precision(self):
        return jax.default_matmul_precision(product_precision(self.settings.matmul_precision))

    def _train_steps(self, state: State, call: Call) -> State:
        # A step reads its batch from the loop's carry, as if it were an argument. If the batch were
        # gathered within the step, XLA would fuse the two differently for each K and each source,
        # so the last bits of the results would depend on settings that concern speed alone.
        def batch(i):
            return lax.with_sharding_constraint(call.batch(i), self._split)

        def step(i, carry):
            state, now = carry
            return self._train_step(state, now), batch(jnp.minimum(i + 1, call.stop - 1))

        with self.precision():
            return lax.fori_loop(call.start, call.stop, step, (state, batch(call.start)))[0]

    def _train_step(self, state: State, batch: Mapping[str, Array]) -> State:
        initial_carry = self.task.step_carry(state.carry, state.step)

        def loss_function(params):
            (carry, logits), updated = self.task.apply(
                self.model,
                {"params": params, "batch_stats": state.batch_stats},
                initial_carry,
                batch,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(jax.random.key(state.seed), state.step)},
            )
            metrics = Metrics.of(logits, batch)
            return metrics.mean_loss(), (carry, metrics, updated.get("batch_stats", {}))

        gradient = jax.value_and_grad(loss_function, has_aux=True)
        (loss, (carry, metrics, batch_stats)), grads = gradient(state.params)
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(loss + optax.tree.norm((params, batch_stats)))
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
