"""Reduces the Linear Recurrent Units of a trained model to fewer modes; see `lru.reduce`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lru.analysis.reduction import find_lrus, pad_modes
from lru.errors import UserError
from lru.layers.linear import LRU, DiagonalDirection, lru_directions
from lru.layers.mixers import over_time, with_defaults
from lru.ops.arguments import as_lengths
from lru.training.best import build_experiment, restore_best
from lru.training.experiment import Experiment, State
from lru.training.exporting import describe_export, write_export
from lru.training.names import resolve
from lru.training.run_config import load_run_config

_logger = logging.getLogger(__name__)
_BATCH, _REPEATS = 8, 10  # sequences in a timed forward pass, and passes to time
_MOMENT_BATCHES = 16


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run's best checkpoint, and the Linear Recurrent Units in it.

    Attributes:
      workdir: the work directory of the run.
      experiment, state, step: the values that `lru.training.best.restore_best` returns.
      layers: the parameters of every LRU, by path.
      split: the split to evaluate on; None for no evaluation.
      reading: `data_dir`, `manual_dir` and `allow`, as passed to `restore_run`.
    """

    workdir: Path
    experiment: Experiment
    state: State
    step: int
    layers: Mapping[str, Any]
    split: str | None
    reading: Mapping[str, Any]

    @property
    def d_state(self) -> int:
        """N, the number of modes of each LRU."""
        return len(next(iter(self.layers.values()))["nu_log"])

    def evaluate(self, layers: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Evaluates the model on `split`, which must not be None, and returns the metrics.

        Args:
          layers: parameters of layers with at most N modes, by path, which replace those of the
            run; None to keep the run's layers.
        """
        padded = {path: pad_modes(layer, self.d_state) for path, layer in (layers or {}).items()}
        params = replace_layers(self.state.params, padded)
        assert self.split is not None
        return self.experiment.evaluate(self.state.replace(params=params), self.split)


def restore_run(workdir: Path, split: str | None, **reading: Any) -> TrainedRun:
    """Restores the best checkpoint of a run whose layers are to be reduced.

    If the data set is needed for `split` and cannot be read, but is described in `dataset.json`,
    logs a note.

    Args:
      workdir: the work directory of the run.
      split: the split to evaluate on; None for no evaluation.
      reading: `data_dir`, `manual_dir` and `allow`; see `lru.training.best.restore_best`.

    Returns:
      The run. Its `split` is the given one, or None if the note was logged.

    Raises:
      UserError: see `lru.training.best.restore_best`; or the model has no LRU, or LRUs with
        different numbers of modes.
    """
    try:
        found = restore_best(workdir, **reading, read_data=split is not None)
    except UserError as error:
        if split is None:
            raise
        # Raises the error again if the data set was not the cause.
        found = restore_best(workdir, **reading, read_data=False)
        _logger.warning(
            "note: no score is reported, because the data set cannot be read: %s", error
        )
        split = None
    layers = find_lrus(jax.device_get(found[1].params))
    sizes = sorted({len(layer["nu_log"]) for layer in layers.values()})
    if not sizes:
        raise UserError(
            f"the run in {workdir} has no Linear Recurrent Unit, so there are no modes to reduce; "
            "give the --workdir of a run that has one"
        )
    if len(sizes) > 1:
        raise UserError(
            f"the layers of the run in {workdir} have {' and '.join(map(str, sizes))} modes; "
            "expected one number for all"
        )
    return TrainedRun(workdir, *found, layers, split, reading)


def each_layer(
    function: Callable[..., Any], run: TrainedRun, moments: Mapping[str, Any], **options: Any
) -> dict[str, Any]:
    """Applies a function of `lru.analysis.reduction` to every layer; returns the results by path.

    Args:
      function: a function that takes `moments`, such as `balanced_truncation` or `enough_modes`.
      run: the run.
      moments: the second moments of each layer's states, by path; see `state_moments`. {} stands
        for white noise.
      options: the function's other arguments.

    Raises:
      UserError: an option is out of range, or a layer cannot be reduced.
    """
    found = {}
    for path, layer in run.layers.items():
        try:
            found[path] = function(layer, moments=moments.get(path), **options)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    return found


def state_moments(run: TrainedRun) -> dict[str, np.ndarray]:
    """Returns the second moments E[s s^T] `(2N, 2N)` of every layer's states, by path.

    Here s = [Re h, Im h]. The moments are means over the valid steps of 16 training batches, and
    over the directions of the layer.

    Raises:
      UserError: the data set was not read, or the states of a layer cannot be measured, because the
        model does not call the layer as a Flax module.
    """
    if run.split is None:
        raise UserError(
            "--inputs=measured reads the data set; expected a --split other than none, and a data "
            "set that can be read"
        )
    experiment, task = run.experiment, run.experiment.task
    model, variables = experiment.model, experiment.variables(run.state)
    if hasattr(model, "remat"):  # rematerialized layers are functions without a path
        model = model.clone(remat=False)

    @jax.jit
    def totals(carry, batch):
        with noted_moments(run.layers) as found, experiment.precision():
            (carry, _), _ = task.apply(model, variables, carry, batch, mutable=[])
        return carry, dict(found)

    carry = task.initial_carry(model, variables, run.experiment.settings.batch_size)
    batches, sums = task.batches(0, indices=False, rows=slice(None)), []
    for i in range(_MOMENT_BATCHES):
        carry, found = totals(task.step_carry(carry, i), batches[i])
        sums.append(jax.device_get(found))
    if missing := sorted(run.layers.keys() - sums[0].keys()):
        raise UserError(f"the inputs of {missing[0]} cannot be measured; use --inputs=white")
    return {
        path: sum(np.float64(x[path][0]) for x in sums) / sum(float(x[path][1]) for x in sums)
        for path in sums[0]
    }


class _States(DiagonalDirection):
    """A direction that outputs its states [Re h, Im h], `(..., 2N)`."""

    def output_projection(self, h: Any, u: Any) -> Any:
        return h


@contextlib.contextmanager
def noted_moments(layers: Mapping[str, Any]) -> Iterator[dict[str, tuple[Any, Any]]]:
    """Intercepts calls of `LRU` modules, and yields a dict of the moments of their states.

    The dict has, by the path of each module, the sum of s s^T over the valid steps of its calls and
    over its directions, and the number of these terms.

    Args:
      layers: the parameters of the modules, by path.
    """
    found: dict[str, tuple[Any, Any]] = {}

    def record(call, args, kwargs, context):
        module, path = context.module, "/".join(context.module.path)
        if context.method_name == "__call__" and isinstance(module, LRU) and path in layers:
            names = ("time_major", "reverse")
            flags = with_defaults(module, **{name: kwargs.get(name) for name in names})
            steps = {name: kwargs.get(name) for name in ("seq_lengths", "reset", "timesteps")}
            inputs = args[0] if args else kwargs["inputs"]
            carry = kwargs.get("initial_carry")
            more = _moments(layers[path], inputs, carry, steps | flags)
            found[path] = jax.tree.map(operator.add, found.get(path, (0, 0)), more)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        yield found


def _moments(params: Any, inputs: Any, initial_carry: Any, call: dict[str, Any]) -> tuple[Any, Any]:
    """Returns the sum of s s^T over the valid states in a call of an LRU, and their number."""
    directions = lru_directions(jax.tree.map(jnp.asarray, params))
    carries = (initial_carry,) if len(directions) == 1 else initial_carry or (None, None)
    orders = (call["reverse"], not call["reverse"])
    sums = []
    for direction, carry, reverse in zip(directions, carries, orders):
        reader = _States(**vars(direction))
        s = over_time([reader], inputs, initial_carry=carry, **(call | {"reverse": reverse}))
        s = s if call["time_major"] else jnp.moveaxis(s, -2, 0)
        valid = as_lengths(call["seq_lengths"], s.shape[1:-1], len(s))
        rows = s.reshape(-1, s.shape[-1])
        sums.append((rows.T @ rows, len(rows) if valid is None else jnp.sum(valid)))
    total, count = map(sum, zip(*sums))
    return total, count


def replace_layers(params: Any, layers: Mapping[str, Any], prefix: str = "") -> Any:
    """Returns a tree of parameters in which the subtree at each path in `layers` is replaced.

    Example:
      >>> replace_layers({"blocks_0": {"mixer": {"D": 1}}, "head": 2}, {"blocks_0/mixer": {"D": 3}})
      {'blocks_0': {'mixer': {'D': 3}}, 'head': 2}
    """
    if prefix in layers:
        return layers[prefix]
    if not isinstance(params, Mapping):
        return params
    return {
        name: replace_layers(child, layers, f"{prefix}/{name}".lstrip("/"))
        for name, child in params.items()
    }


def reduced_experiment(run: TrainedRun, modes: int) -> Experiment:
    """Returns the run's experiment with K = `modes` modes in every LRU.

    Raises:
      UserError: no section of `config.model` describes an LRU and has the key `d_state`; see also
        `lru.training.best.build_experiment`.
    """
    config = load_run_config(run.workdir)
    allow = run.reading.get("allow", ())
    if not _set_modes(config.model, modes, allow):
        raise UserError(
            f"config.model of the run in {run.workdir} has no lru:LRU with a d_state, so its "
            "number of modes cannot be changed"
        )
    data = (run.reading.get("data_dir"), run.reading.get("manual_dir"))
    return build_experiment(config, run.workdir, *data, allow, False)


def _set_modes(section: ConfigDict, modes: int, allow: Sequence[str]) -> bool:
    """Sets each `d_state` of an LRU, at any depth of a section; returns whether there is any."""
    inner = [value for value in section.values() if isinstance(value, ConfigDict)]
    found = [_set_modes(value, modes, allow) for value in inner]
    if "d_state" not in section or not _is_lru(section.get("type"), allow):
        return any(found)
    section.d_state = modes
    return True


def _is_lru(name: Any, allow: Sequence[str]) -> bool:
    made = resolve(name, "config.model", allow)
    return isinstance(made, type) and issubclass(made, LRU)


def export_reduced(
    run: TrainedRun,
    layers: Mapping[str, Any],
    out: Path,
    *,
    step: bool = False,
    about: Mapping[str, Any],
) -> Experiment:
    """Writes an export of the run with reduced layers, and returns the reduced experiment.

    Args:
      run: the run.
      layers: the parameters of every LRU, reduced to K modes, by path.
      out: the folder to write; it must be missing or empty.
      step: see `lru.training.exporting.export_run`.
      about: entries to add to `config.json`, or to replace there.

    Raises:
      UserError: see `reduced_experiment` and `lru.training.exporting.write_export`.
    """
    modes = len(next(iter(layers.values()))["nu_log"])
    experiment = reduced_experiment(run, modes)
    params = replace_layers(run.state.params, layers)
    variables = Experiment.variables(run.state.replace(params=params))
    content = describe_export(experiment, run.workdir, run.step) | dict(about)
    allow = run.reading.get("allow", ())
    write_export(out, content, experiment, variables, step=step, allow=allow)
    return experiment


def forward_seconds(models: Sequence[tuple[Any, Any]], inputs: Any) -> list[float]:
    """Returns the shortest time of a forward pass of each model, in seconds.

    Each model is timed in 10 passes, in turn with the others, after one pass for compilation.

    Args:
      models: pairs `(model, variables)`.
      inputs: the inputs of every model.
    """
    passes = [(jax.jit(model.apply), variables) for model, variables in models]
    seconds = np.full((_REPEATS + 1, len(passes)), np.inf)
    for row in seconds:
        for i, (apply, variables) in enumerate(passes):
            start = time.perf_counter()
            jax.block_until_ready(apply(variables, inputs))
            row[i] = time.perf_counter() - start
    return seconds[1:].min(axis=0).tolist()  # the first row includes compilation


def timed_inputs(experiment: Experiment) -> Any:
    """Returns inputs of zeros for 8 examples, each of the length used in training."""
    inputs = experiment.task.example()
    steps = experiment.settings.unroll or 1
    return jnp.zeros((_BATCH, inputs.shape[1] * steps, *inputs.shape[2:]), inputs.dtype)
