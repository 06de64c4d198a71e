"""Starts a run with the weights of another run or of an export: `config.train.init_from`.

The weights are read once, when the run starts, and saved in its work directory as
`initial.safetensors`. Afterwards, the source may change or be deleted. The source may be untrusted:
nothing that its config names is imported.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.io.files import read_object
from lru.models.weights import array_type, by_path, read_tensors, read_weights, write_weights
from lru.training.best import evaluated_rows
from lru.training.checkpoint import Checkpoints
from lru.training.description import Description
from lru.training.experiment import Experiment
from lru.training.recovery import best_available
from lru.training.run_config import load_run_config

FILE = "initial.safetensors"
_logger = logging.getLogger(__name__)
_MOST_LISTED = 4


class Source(NamedTuple):
    """The weights of another run or of an export.

    Attributes:
      tensors: the arrays, by path.
      step: the step of the checkpoint with the arrays; None if an export does not give it.
      tokens: the readable name of each token of the source's data; None if no names are known.
    """

    tensors: Mapping[str, np.ndarray]
    step: int | None
    tokens: Sequence[str] | None


def check_source(config: ConfigDict, workdir: Path) -> None:
    """Checks that the source of the initial weights exists, before data are prepared.

    Checks nothing if the config names no source, or if the run has saved its initial weights.

    Raises:
      UserError: `config.train.init_from` is not the directory of another run or of an export.
    """
    name = config.get("train", {}).get("init_from")
    if not name or not isinstance(name, str) or (workdir / FILE).exists():
        return
    source = Path(name)
    if source.resolve() == workdir.resolve():
        raise UserError(
            f"--init_from={name} is the --workdir itself; expected the --workdir of another run"
        )
    if not source.is_dir():
        raise UserError(
            f"--init_from={name} is not a directory; expected the directory of a run or an export"
        )
    if not any((source / file).exists() for file in ("model.safetensors", "config.json")):
        raise UserError(
            f"--init_from={name} holds neither a run nor an export; expected the --workdir of "
            "lru.train, or the --out of lru.export"
        )


def read_initial(config: ConfigDict, workdir: Path, experiment: Experiment) -> Any:
    """Reads the initial weights of a new run, before anything is written.

    Returns:
      The argument `found` of `set_initial_weights`: the arrays that fit the model, by path, and
      their origin. None if the run draws its initial weights at random, or has already saved them.

    Raises:
      UserError: the weights cannot be read or do not fit the model, or the run has checkpoints but
        has lost its initial weights.
    """
    name = config.train.get("init_from")
    if not name or (workdir / FILE).exists():
        return None
    check_source(config, workdir)
    if any((workdir / "checkpoints").glob("[0-9]*")):
        raise UserError(f"{workdir / FILE}, the run's initial weights, is missing; restore it")
    source = _read(Path(name))
    shapes = Experiment.variables(experiment.state_shapes())
    new = _check_fit(source.tensors, by_path(shapes), f"--init_from={name}")
    origin = {"from": str(name), "step": source.step, "new": new}
    here = experiment.dataset.token_names
    if source.tokens and here and list(source.tokens) != list(here):
        origin["note"] = "its tokens stand for other symbols than the tokens of this run"
    taken = {name: value for name, value in source.tensors.items() if name not in new}
    return taken, origin


def set_initial_weights(
    config: ConfigDict, workdir: Path, experiment: Experiment, found: Any = None
) -> None:
    """Sets the initial weights of an experiment to those saved in the work directory of its run.

    Does nothing if the config has no `train.init_from`.

    Args:
      config, workdir, experiment: the config, work directory and experiment of the run.
      found: the result of `read_initial`. If it is not None, the initial weights are first written
        into the work directory; arrays that are not in `found` are drawn at random.

    Raises:
      UserError: the file with the weights is missing or damaged, or belongs to another model.
    """
    if not config.train.get("init_from"):
        return
    shapes, file = Experiment.variables(experiment.state_shapes()), workdir / FILE
    if found is not None:
        taken, origin = found
        own = by_path(Experiment.variables(experiment.init_state()))
        whole = {name: np.asarray(taken.get(name, own[name])) for name in own}
        metadata = {"init_from": json.dumps(origin | {"sha256": _digest(whole)})}
        write_weights(file, whole, metadata)
        _log_origin(origin)
    variables, metadata = read_weights(file, shapes)
    try:
        origin = json.loads(metadata["init_from"])
        intact = origin["sha256"] == _digest(by_path(variables))
    except (LookupError, TypeError, ValueError):
        intact = False
    if not intact:
        raise UserError(f"{file} is damaged: it has changed since it was written; restore it")
    experiment.set_initial_variables(variables, origin)


def _log_origin(origin: Mapping[str, Any]) -> None:
    step = "" if origin["step"] is None else f", checkpoint of step {origin['step']:,}"
    new = f"; not taken: {', '.join(origin['new'])}" if origin["new"] else ""
    note = f"; note: {origin['note']}" if "note" in origin else ""
    _logger.info("starting with the weights of %s%s%s%s", origin["from"], step, new, note)


def _read(source: Path) -> Source:
    from lru.training.exporting import ABOUT, WEIGHTS

    if (source / WEIGHTS).exists():
        return _read_export(source / WEIGHTS, source / ABOUT)
    return _read_run(source)


def _read_export(weights: Path, about: Path) -> Source:
    tensors, _ = read_tensors(weights)
    remedy = "restore it, or export it again"
    if not about.exists():
        raise UserError(f"{about} is missing; {remedy}")
    content = read_object(about, {}, remedy)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if content.get("sha256", digest) != digest:
        raise UserError(f"{weights} is damaged: it has changed since the export; {remedy}")
    step, tokens = content.get("step"), content.get("tokens")
    return Source(
        tensors,
        step if type(step) is int else None,
        tokens if isinstance(tokens, list) else None,
    )


def _read_run(workdir: Path) -> Source:
    train = load_run_config(workdir).get("train")
    select = train.get("select", "accuracy") if isinstance(train, ConfigDict) else "accuracy"
    if select not in ("accuracy", "loss", "rmse"):
        raise UserError(
            f"{workdir / 'config.json'} is damaged (train.select is {select!r}); restore it"
        )
    description = Description.load(workdir)
    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        rows, _ = evaluated_rows(workdir, checkpoints)
        best = best_available(rows, checkpoints, select, _logger.warning)
        assert best is not None  # one of the rows has a checkpoint
        state = checkpoints.restore(best["step"], checkpoints.shapes(best["step"]))
    variables = {key: state[key] for key in ("params", "batch_stats") if state.get(key)}
    tensors = {name: np.asarray(value) for name, value in by_path(variables).items()}
    return Source(tensors, best["step"], description.tokens if description else None)


def _check_fit(there: Mapping[str, Any], here: Mapping[str, Any], given: str) -> list[str]:
    """Returns the paths of the head's arrays that differ between the source and the model.

    Such an array is missing in one of the two, or has another type or shape. If the model has it,
    it is drawn at random.

    Raises:
      UserError: an array outside the head does not fit.
    """
    kinds = {
        name: tuple(array_type(tree[name]) if name in tree else "missing" for tree in (there, here))
        for name in sorted(there.keys() | here.keys())
    }
    odd = {name: pair for name, pair in kinds.items() if pair[0] != pair[1]}
    if wrong := [name for name in odd if name.split("/")[1:2] != ["head"]]:
        listed = "; ".join(
            f"{name} is {odd[name][0]} there, {odd[name][1]} here" for name in wrong[:_MOST_LISTED]
        )
        more = f"; and {len(wrong) - _MOST_LISTED} more" if len(wrong) > _MOST_LISTED else ""
        raise UserError(
            f"{given} does not fit: {listed}{more}; only the head may differ: change config.model"
        )
    return sorted(odd)


def _digest(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + np.asarray(tensors[name]).tobytes())
    return digest.hexdigest()
