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
from ml_collections import ConfigDict

from lru.analysis.modes import noted_layers
from lru.data.pipeline import prefetch, stacked
from lru.errors import UserError
from lru.ops.array_typing import Array
from lru.ops.platform import product_precision
from lru.training.build import build, check_arguments
from lru.training.description import Description
from lru.training.devices import Devices
from lru.training.gradient_norms import mean_norms, record_gradient_norms
from lru.training.metrics import Metrics, RegressionMetrics
from lru.training.optimizer import OptimizerSettings, make_optimizer
from lru.training.overrides import DATA_ARGUMENTS, MODEL_ARGUMENTS
from lru.training.ranges import check_ranges
from lru.training.run_config import section
from lru.training.settings import Settings
from lru.training.step import Call, State, Steps, init_variables
from lru.training.tasks import make_task

# By default, XLA schedules a CPU program for concurrency: it recomputes all rematerialized values
# early and at once, instead of late and layer by layer. This takes three times the memory.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}

SECTIONS = ("seed", "data", "model", "optimizer", "train")


def _check_sections(config: ConfigDict) -> None:
    for name in SECTIONS[1:]:
        if not isinstance(config[name], ConfigDict):
            raise UserError(f"config.{name} is {config[name]!r}; expected a section with keys")


def _try_mixers(create_model: Callable[..., Any]) -> None:
    """Traces a model's mixer or stack on one step, to raise its errors before data are prepared.

    Skips a mixer or stack that is not in `lru` or has a `sequence_axis`, and a model that has no
    `d_model`.
    """
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
            raise UserError(f"config.model.{key} is invalid: {error}") from error


def _check_time_devices(config: ConfigDict) -> None:
    """Checks that the mixer divides time among devices if and only if `time_devices` is above 1."""
    axis = section(config.model, "mixer").get("sequence_axis")
    number = config.train.get("time_devices", 1)
    if (axis or None) != ("time" if number > 1 else None):
        raise UserError(
            f"config.train.time_devices is {number} and config.model.mixer.sequence_axis is "
            f"{axis!r}; expected sequence_axis='time' if time_devices is above 1, else None"
        )


@functools.cache
def compiler_options(platform: str) -> dict[str, Any] | None:
    """Returns a platform's compiler options; None if it has none, or if XLA rejects them."""
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
        raise UserError(f"config.model is invalid: {error}") from error


class Experiment:
    """The data, model and optimizer of a config, ready to train and to evaluate.

    Batches are divided among the devices, and parameters are copied to every device.

    Args:
      config: a config with exactly the keys `seed`, `data`, `model`, `optimizer` and `train`.
      data_dir: the directory of prepared data sets; may be None if there is a `description`.
      manual_dir: the directory with files of official releases.
      devices: the devices to use; by default the devices of all processes.
      description: a description that replaces the data set. The data set is then not read, and the
        experiment can neither train nor evaluate.
      allow: see `lru.training.build.build`; None for a config that the user wrote.

    Attributes:
      config: the config.
      settings: the section `train`, with epochs converted to steps.
      dataset: the data set, or the description that replaces it.
      task: the task to learn on the data set.
      model: the model.
      layers: the model's layers that have a method `modes`, by path.
      base_schedule: the base learning rate as a function of the step; see `make_optimizer`.
      groups: the parameter groups; see `lru.training.optimizer.Group`.
      origin: the source of the initial weights (see `set_initial_variables`); None if the weights
        are drawn at random.

    Raises:
      UserError: the config is invalid, or the data set cannot be read.
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
            keys, known = ", ".join(sorted(config)), ", ".join(SECTIONS)
            raise UserError(f"the keys of the config are {keys}; expected {known}")
        _check_sections(config)
        check_arguments(Settings, config.train, "config.train")
        check_ranges(Settings, config.train, "config.train")
        given, self.config = Settings(**config.train), config
        self._seed = config.seed
        if type(self._seed) is not int or not 0 <= self._seed < 2**32:
            raise UserError(
                f"config.seed is {self._seed!r}; expected a whole number from 0 to 2**32 - 1"
            )
        self._devices = Devices(devices, given)
        self._initial: dict[str, Any] | None = None
        self.origin: Mapping[str, Any] | None = None
        self._compiler_options = compiler_options(self._devices.platform)
        check_arguments(OptimizerSettings, config.optimizer, "config.optimizer")
        options = OptimizerSettings(**config.optimizer)
        create_model = build(config.model, "config.model", MODEL_ARGUMENTS, allow)
        _try_mixers(create_model)
        _check_time_devices(config)
        if description is None:
            create_dataset = build(config.data, "config.data", DATA_ARGUMENTS, allow)
            if data_dir is None:
                raise UserError("the data set must be read; give --data_dir")
            self.dataset = create_dataset(data_dir=data_dir, manual_dir=manual_dir)
        else:
            self.dataset = description
        self.task = make_task(self.dataset, create_model, given)
        self.settings = given.in_steps(self.task.steps_per_epoch)
        self.model = _create(create_model, self.task.model_arguments)
        optimizer, self.base_schedule, self.groups = make_optimizer(
            self._parameter_shapes(), self.settings.steps, options
        )
        if self.settings.record_gradient_norms:
            optimizer = optax.chain(record_gradient_norms(), optimizer)
        self._steps = Steps(self.task, self.model, optimizer, self.settings.accumulate)

    def init_state(self) -> State:
        """Returns the state before the first step.

        Its parameters and batch statistics are those given to `set_initial_variables`, if any.
        Otherwise, the parameters are drawn from the config's seed.
        """
        state = self._compiled_init(np.uint32(self._seed))
        if self._initial is None:
            return state
        # A new copy each time, because `train_steps` donates the state.
        return state.replace(**self._devices.replicate(self._initial))

    @functools.cached_property
    def _compiled_init(self) -> Callable[[Any], State]:
        return jax.jit(self._init, out_shardings=self._sharding)

    def _init(self, seed: Any) -> State:
        with self._devices.mesh():
            return self._steps.init(seed, self.settings.batch_size)

    def set_initial_variables(
        self, variables: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> None:
        """Replaces the initial weights.

        Args:
          variables: parameters and batch statistics, as returned by the method `variables`.
          origin: the source of the weights, as written into the run's record.
        """
        self._initial, self.origin = jax.device_get(dict(variables)), origin

    def state_shapes(self) -> State:
        """Returns a state's shapes, types and shardings, as a target for `Checkpoints.restore`."""

        def with_sharding(sharding, subtree):
            return jax.tree.map(lambda x: x.update(sharding=sharding), subtree)

        shapes = jax.eval_shape(self._init, np.uint32(self._seed))
        return jax.tree.map(with_sharding, self._sharding, shapes)

    @property
    def _sharding(self) -> State:
        """The sharding of each field of a state: only the carry is divided, like a batch."""
        fields: dict[str, Any] = {
            f.name: self._devices.replicated for f in dataclasses.fields(State)
        }
        return State(**fields | {"carry": self._devices.split})

    def empty_metrics(self) -> Metrics | RegressionMetrics:
        """Returns metrics over zero examples, on the devices."""
        shapes = jax.eval_shape(self.task.empty_metrics)
        return self._devices.replicate(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))

    @functools.cached_property
    def _on_device(self) -> Mapping[str, Array] | None:
        """The training split on every device; None if the host reads batches instead."""
        split = self.task.on_device()
        return None if split is None else self._devices.replicate(split)

    def training_calls(self, first_step: int) -> Iterator[Call]:
        """Yields every `Call` from a step to the end of training, with its arrays on the devices.

        A step has the same examples whatever `first_step` is, so a resumed run trains on the same
        batches as an uninterrupted one.
        """
        split, spans = self._on_device, self.settings.spans(first_step)
        rows = self._devices.rows(self.settings.batch_size)
        put = functools.partial(self._devices.put, sharding=self._devices.split_calls)
        batches = self.task.batches(self._seed, indices=split is not None, rows=rows)
        # In chunks, because a list of all spans would take hours and much memory for 10**9 steps.
        while some := list(itertools.islice(spans, 10_000)):
            calls = stacked(batches, some, self.settings.most_steps_per_call).map(put)
            for (_, count), given in zip(some, prefetch(calls)):
                yield Call(count, given) if split is None else Call(count, split, given)

    @functools.cached_property
    def train_steps(self) -> Any:
        """The compiled function `(state, call) -> state`, which donates its input state.

        It is compiled once, for calls of any number of steps.
        """

        def steps(state, call):
            with self.precision(), self._devices.mesh():
                return self._steps.run_call(state, call, self._devices.split)

        return jax.jit(
            steps,
            donate_argnums=0,
            out_shardings=self._sharding,
            compiler_options=self._compiler_options,
        )

    @staticmethod
    def variables(state: State) -> dict[str, Any]:
        """Returns a state's parameters and batch statistics, as variables for `model.apply`."""
        return {"params": state.params, "batch_stats": state.batch_stats}

    def report(self, metrics: Metrics | RegressionMetrics) -> dict[str, float]:
        """Returns the metrics to log; see `lru.training.tasks.Task.report`."""
        return self.task.report(metrics)

    def take_metrics(self, state: State) -> tuple[State, dict[str, float]]:
        """Returns the state with its sums over training steps cleared, and the metrics to log."""
        found = self.report(state.metrics)
        state = state.replace(metrics=self.empty_metrics())
        if self.settings.record_gradient_norms:
            norms, *others = state.opt_state
            found |= mean_norms(norms)
            cleared = self._devices.replicate(
                jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), norms)
            )
            state = state.replace(opt_state=(cleared, *others))
        return state, found

    def evaluate(self, state: State, split: str) -> dict[str, float]:
        """Returns the metrics over a whole split; see `lru.training.tasks.Task.report`."""
        size = self.settings.eval_batch_size or self.settings.batch_size
        size = self._devices.next_multiple(size)  # rows that pad the last batch have weight 0
        variables = self.variables(state)
        carry = self._initial_carry(variables, size)
        metrics = self.empty_metrics()
        for batch in self.task.evaluation(split, size, self._devices.rows(size)):
            batch = self._devices.put(batch, self._devices.split)
            carry, metrics = self._eval_step(variables, carry, metrics, batch)
        return self.report(metrics)

    @functools.cached_property
    def _initial_carry(self):
        carry = functools.partial(self.task.initial_carry, self.model)
        return jax.jit(carry, static_argnums=1, out_shardings=self._devices.split)

    @functools.cached_property
    def _eval_step(self):
        def step(*arguments):
            with self.precision(), self._devices.mesh():
                return self._steps.evaluation_step(*arguments)

        return jax.jit(step, out_shardings=(self._devices.split, self._devices.replicated))

    def _parameter_shapes(self):
        try:
            with noted_layers() as self.layers, self._devices.mesh():
                draw = functools.partial(init_variables, self.model, self.task)
                return jax.eval_shape(draw, np.uint32(self._seed))["params"]
        except (ArithmeticError, TypeError, ValueError) as error:  # from the model's own checks
            raise UserError(f"config.model is invalid: {error}") from error

    def precision(self):
        return jax.default_matmul_precision(product_precision(self.settings.matmul_precision))
