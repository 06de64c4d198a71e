"""Exports trained models to folders, and loads them without the run or its data."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lru.errors import UserError
from lru.io.files import Fields, new_folder, read_object

if TYPE_CHECKING:
    import flax.linen as nn

    from lru.data.array_spec import ArraySpec
    from lru.training.experiment import Experiment

_logger = logging.getLogger(__name__)
WEIGHTS, ABOUT, STEP = "model.safetensors", "config.json", "step.jaxexport"
_FIELDS: Fields = {
    "config": {"model": dict},
    "arguments": dict,
    "inputs": {"shape": list, "dtype": str},
}
_REMEDY = "give a folder that lru.export has written, or export it again"


def export_run(
    workdir: Path,
    out: Path,
    *,
    step: bool = False,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Exports a run's best checkpoint into a folder, which is written atomically.

    Args:
      workdir: the work directory of the run.
      out: the folder; it must be missing or empty.
      step: whether to write `step.jaxexport` too; see `lru.models.streaming.export_step`.
      data_dir, manual_dir, allow: see `lru.training.best.restore_best`. The data set is read only
        if the work directory has no `dataset.json`.

    Returns:
      The content of `config.json`:

      - `config`: the run's config.
      - `arguments`: the model's arguments that depend on the data.
      - `inputs`: the shape and type of the model's inputs for one step of one example.
      - `tokens`: the readable name of each token, if the tokens have names.
      - `spec`: the content of the data set's `lru.data.array_spec.ArraySpec`, if it has one.
      - `data`: the provenance of the data.
      - `step`: the step of the checkpoint.
      - `commit` and `test`: these entries of the run's record; None if the record is missing or
        lacks them.
      - `sha256`: the SHA-256 digest of `model.safetensors`.

    Raises:
      UserError: see `check_out`, `restore_best` and `write_export`; or the record is damaged.
    """
    from lru.training.best import restore_best

    check_out(out)

    experiment, state, best = restore_best(
        workdir, data_dir=data_dir, manual_dir=manual_dir, allow=allow, read_data=False
    )
    about = describe_export(experiment, workdir, best)
    write_export(out, about, experiment, experiment.variables(state), step=step, allow=allow)
    return about


def check_out(out: Path) -> None:
    """Checks that the folder to write is missing or empty.

    Raises:
      UserError: `out` is a file, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already; choose another --out")


def write_export(
    out: Path,
    about: dict[str, Any],
    experiment: Experiment,
    variables: Any,
    *,
    step: bool = False,
    allow: Sequence[str] = (),
) -> None:
    """Writes an export atomically, and adds the digest of its weights to `about`.

    Logs a warning if float32 is too imprecise for the units of the user's arrays, in which the
    exported model reads features and returns real numbers.

    Args:
      out: the folder; see `check_out`.
      about: the content of `config.json`; see `describe_export`.
      experiment: the experiment of the config in `about`.
      variables: the variables of the experiment's model.
      step, allow: see `export_run`.

    Raises:
      UserError: `step` is True and the model is not causal, or the export cannot be loaded.
    """
    if step and not getattr(experiment.model, "causal", False):
        raise UserError(
            "the model is not causal: its mixers read later steps, so it cannot run step by step; "
            "leave out --step"
        )
    _warn_if_imprecise(experiment.dataset.spec)
    with new_folder(out) as folder:
        _write(folder, about, experiment, variables, step)
        load(folder, allow)  # an export that cannot be loaded must not be written


def _write(
    folder: Path, about: dict[str, Any], experiment: Experiment, variables: Any, step: bool
) -> None:
    import jax
    import jax.numpy as jnp

    from lru.models.streaming import export_step
    from lru.models.weights import write_weights

    variables = jax.tree.map(jnp.asarray, jax.device_get(variables))  # on one device
    write_weights(folder / WEIGHTS, variables, {"model": _identity(about)})
    about["sha256"] = _digest(folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    if step:
        with experiment.precision():
            model = _in_units(experiment.model, experiment.dataset.spec)
            program = export_step(model, variables, _one_step(experiment))
        (folder / STEP).write_bytes(program.serialize())


def _warn_if_imprecise(spec: ArraySpec | None) -> None:
    for name, scaling in (("x", spec and spec.inputs), ("y", spec and spec.outputs)):
        if scaling and not scaling.suits_float32:
            _logger.warning(
                f"{name} has a mean too large for its standard deviation, or values too large "
                f"for float32, so the export is imprecise in the units of {name}; lru.predict is "
                "precise, because it converts units in float64"
            )


def load(folder: str | os.PathLike[str], allow: Sequence[str] = ()) -> tuple[nn.Module, Any]:
    """Loads an exported model and its variables; no data set is needed.

    For a model trained on arrays (see `lru.data.arrays`), features and predicted real numbers are
    in the units of these arrays, and logits are in the order of `spec.labels` in `config.json`.

    The source of the folder may be untrusted: only Flax modules of `lru`, `flax.linen` and the
    packages in `allow` are created. A model that names another package is rejected before any
    package that it names is imported.

    Args:
      folder: the folder of an export.
      allow: more packages whose Flax modules the model may name, such as `("my_package",)`.

    Returns:
      `(model, variables)`, for `model.apply(variables, inputs)`.

    Raises:
      UserError: `config.json` or `model.safetensors` is missing or damaged, the two files do not
        belong together, a tensor does not fit the model, or a named package is not allowed.
    """
    model, variables, spec = load_standardized(folder, allow)
    return _in_units(model, spec), variables


def load_standardized(
    folder: str | os.PathLike[str], allow: Sequence[str] = ()
) -> tuple[nn.Module, Any, ArraySpec | None]:
    """Loads an exported model as it was trained.

    For the arguments and the errors, see `load`.

    Returns:
      `(model, variables, spec)`. If the training data are from `lru.data.arrays`, `spec` is their
      `ArraySpec`, and the model expects standardized features and returns standardized real
      numbers; otherwise, `spec` is None.
    """
    import jax
    import numpy as np

    from lru.data.array_spec import ArraySpec
    from lru.models.weights import read_weights
    from lru.training.names import check_allow

    if not os.fspath(folder):
        raise UserError("the folder is empty; give one that lru.export has written")
    weights, file = Path(folder) / WEIGHTS, Path(folder) / ABOUT
    if not file.exists():
        raise UserError(f"{file} is missing; {_REMEDY}")
    about, allow = read_object(file, _FIELDS, _REMEDY), check_allow(allow)
    for name, value in about["arguments"].items():
        if type(value) not in (bool, type(None)) and not (type(value) is int and 0 < value < 2**31):
            raise UserError(f"{file} is damaged (arguments.{name} is {value!r}); {_REMEDY}")
    try:
        maker = _maker(about["config"]["model"], about["arguments"], allow)
        model = maker(**about["arguments"])
        inputs = jax.ShapeDtypeStruct(about["inputs"]["shape"], np.dtype(about["inputs"]["dtype"]))
        shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
        spec = None if about.get("spec") is None else ArraySpec.from_json(about["spec"])
        if spec is not None:
            _check_spec(spec, about, maker)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{file} does not describe a model ({reason}); export the run again"
        ) from error
    variables, metadata = read_weights(weights, shapes)
    if metadata.get("model") != _identity(about):
        raise UserError(
            f"{file} is not the config that {weights} was exported with; take both from one export"
        )
    if about.get("sha256", digest := _digest(weights)) != digest:
        raise UserError(
            f"{weights} is damaged: it has changed since the export; export it again, or, if the "
            f"change is intended, delete sha256 from {file}"
        )
    return model, variables, spec


def _check_spec(spec: ArraySpec, about: Mapping[str, Any], maker: Callable[..., Any]) -> None:
    """Checks that an export's model reads and predicts what `spec` says.

    Raises:
      ValueError: the model has other arguments, or reads another number of features.
      UserError: the model does not fit the target of `spec`.
    """
    from lru.training.tasks import array_arguments

    wanted = array_arguments(spec, inspect.signature(maker).parameters)
    if about["arguments"] != wanted:
        raise ValueError(f"its spec expects the arguments {wanted}")
    if spec.inputs and len(spec.inputs.mean) != about["inputs"]["shape"][-1]:
        raise ValueError(f"its spec has {len(spec.inputs.mean)} features")


def _in_units(model: nn.Module, spec: ArraySpec | None) -> nn.Module:
    """Returns the model, wrapped if necessary to read and return values in the arrays' units."""
    from lru.models.scaled import Scaled

    if spec is None or (spec.inputs is None and spec.outputs is None):
        return model
    inputs, outputs = (
        None if scaling is None else (scaling.mean, scaling.std)
        for scaling in (spec.inputs, spec.outputs)
    )
    return Scaled(model, inputs, outputs)


def evaluate_export(
    folder: Path,
    split: str,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluates an export on a split of its data set.

    For the arguments and the result, see `lru.training.best.evaluate_best`; `folder` contains the
    export. If the step of the checkpoint is unknown, the result has step 0.

    Raises:
      UserError: the export cannot be loaded (see `load`), the config or the split is invalid, or
        the data set cannot be read or does not fit the model.
    """
    from lru.training.experiment import Experiment
    from lru.training.names import check_allow, check_config
    from lru.training.run_config import load_run_config

    about, allow = read_object(folder / ABOUT, _FIELDS, _REMEDY), check_allow(allow)
    check_config(about["config"], allow)
    _, variables, spec = load_standardized(folder, allow)
    config = load_run_config(folder).config
    experiment = Experiment(config, data_dir, manual_dir, allow=allow)
    _check_same_data(folder, about["arguments"] | {"spec": spec}, experiment)
    experiment.set_initial_variables(variables, {})
    step = about.get("step")
    row = {"step": step if type(step) is int else 0, "split": split}
    return row | experiment.evaluate(experiment.init_state(), split)


def _check_same_data(folder: Path, there: Mapping[str, Any], experiment: Experiment) -> None:
    """Raises a UserError unless an experiment's data give the arguments and `spec` in `there`."""
    here = dict(experiment.task.model_arguments) | {"spec": experiment.dataset.spec}
    for name, value in here.items():
        if there.get(name) != value:
            what = f"{name} was {there.get(name)}, and is now {value}"
            what = "their scaling or labels differ" if name == "spec" else what
            raise UserError(
                f"the model in {folder} was trained on other data than config.data gives now "
                f"({what}); restore the former data"
            )


def _one_step(experiment: Experiment) -> Any:
    """Returns the model's inputs for one step of one example."""
    inputs = experiment.task.example()
    features = experiment.dataset.vocab_size is None
    return inputs[..., :1, :] if features else inputs[..., :1]


def describe_export(experiment: Experiment, workdir: Path, step: int) -> dict[str, Any]:
    """Returns the content of `config.json` except `sha256`; see `export_run`.

    `commit` and `test` come from the record in `workdir`, if there is one.

    Raises:
      UserError: the record is damaged.
    """
    file, dataset, inputs = workdir / "record.json", experiment.dataset, _one_step(experiment)
    record = read_object(file, {}, "restore it, or delete it") if file.exists() else {}
    tokens = dataset.token_names
    return {
        "config": experiment.config.to_dict(),
        "arguments": dict(experiment.task.model_arguments),
        "inputs": {"shape": list(inputs.shape), "dtype": inputs.dtype.name},
        **({"tokens": list(tokens)} if tokens else {}),
        **({"spec": dataset.spec.to_json()} if dataset.spec else {}),
        "data": dataset.kind,
        "step": step,
        "commit": record.get("commit"),
        "test": record.get("test"),
    }


def _maker(
    section: Mapping[str, Any], arguments: Mapping[str, Any], allow: Sequence[str]
) -> Callable[..., nn.Module]:
    """Returns a function that creates a model from the arguments that depend on the data."""
    from lru.training.build import build

    maker = build(section, "config.model", tuple(arguments), allow)
    _check_modules(maker, "config.model")
    return maker


def _check_modules(maker: Any, where: str) -> None:
    """Checks that a model is made of Flax modules only.

    Functions are rejected, because a function of an allowed package could do more than create a
    module.

    Raises:
      UserError: the model, or one of its parts, is not a Flax module.
    """
    import flax.linen as nn

    if not (isinstance(maker.func, type) and issubclass(maker.func, nn.Module)):
        raise UserError(f"{where}.type is {maker.func.__qualname__}; expected a Flax module")
    for key, value in maker.keywords.items():
        if isinstance(value, functools.partial):
            _check_modules(value, f"{where}.{key}")


def _identity(about: Mapping[str, Any]) -> str:
    """Returns the entries of `config.json` that define the model, as JSON."""
    entries = {"model": about["config"]["model"], "arguments": about["arguments"]}
    if about.get("spec") is not None:
        entries["spec"] = about["spec"]
    return json.dumps(entries, sort_keys=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
