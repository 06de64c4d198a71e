"""Takes a trained model away: `python -m lru.export --workdir=DIR --out=FOLDER [--step]`.

FOLDER gets `model.safetensors`, the best checkpoint's parameters and batch statistics, and
`config.json`, all else that `lru.export.load(FOLDER)` needs to make the model anew, without its
data. With `--step` it gets `step.jaxexport` too: a causal model's step as a program that takes JAX
alone to run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lru.command_line import CACHE_HELP, Parser, add_data_arguments, cache_compilations, run
from lru.errors import UserError
from lru.files import read_object

if TYPE_CHECKING:
    import flax.linen as nn

    from lru.training.experiment import Experiment

WEIGHTS, ABOUT, STEP = "model.safetensors", "config.json", "step.jaxexport"


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, exports, says what there is now."""
    parser = Parser(prog="python -m lru.export", description=__doc__, epilog=CACHE_HELP)
    parser.add_argument("--workdir", required=True, type=Path, help="as given to lru.train")
    parser.add_argument("--out", required=True, type=Path, help="a folder that is not there yet")
    parser.add_argument("--step", action="store_true", help="export the model's step as well")
    add_data_arguments(parser)
    known = parser.parse_args(argv)

    cache_compilations()
    about = export_run(
        known.workdir,
        known.out,
        step=known.step,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
    )
    files = ", ".join(sorted(file.name for file in known.out.iterdir()))
    print(f"checkpoint of step {about['step']:,}, in {known.out}: {files}")


def export_run(
    workdir: Path,
    out: Path,
    *,
    step: bool = False,
    data_dir: Path,
    manual_dir: Path | None = None,
) -> dict[str, Any]:
    """Writes a run's best checkpoint into a folder, which is there whole or not at all.

    Args:
      workdir: of the run.
      out: the folder; it must not be there yet, or be empty.
      step: write `step.jaxexport` too, see `lru.streaming.export_step`.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.

    Returns:
      What `config.json` holds: `config`, of the run; `arguments`, what the data say about the
      model; `inputs`, shape and type of one step of one sequence, as the data set's `decode` makes
      them; `tokens`, what each token stands for, where that can be read; `data`, their kind; the
      `step` of the checkpoint; `commit` and `test` of the run's record, None if it has not ended;
      `sha256` of the weights.

    Raises:
      UserError: there is no run, or none that can be exported, or the folder is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already; choose another --out")
    from lru.training.best import restore_best

    experiment, state, best = restore_best(workdir, data_dir=data_dir, manual_dir=manual_dir)
    if step and not getattr(experiment.model, "causal", False):
        raise UserError(
            f"the model of {workdir} is not causal: its mixers look at later steps, so it has no "
            "step of its own; leave out --step"
        )
    about = _about(experiment, workdir, best)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.part.", dir=out.parent) as temporary:
        folder = Path(temporary) / "whole"
        folder.mkdir()
        _write(folder, about, experiment, experiment.variables(state), step)
        load(folder)  # what cannot be read again is not worth having
        os.replace(folder, out)
    return about


def _write(
    folder: Path, about: dict[str, Any], experiment: Experiment, variables: Any, step: bool
) -> None:
    import jax
    import jax.numpy as jnp

    from lru.streaming import export_step
    from lru.weights import write_weights

    variables = jax.tree.map(jnp.asarray, jax.device_get(variables))  # on one device from here on
    write_weights(folder / WEIGHTS, variables, {"model": _identity(about)})
    about["sha256"] = _digest(folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    if step:
        with experiment.precision():
            program = export_step(experiment.model, variables, _one_step(experiment))
        (folder / STEP).write_bytes(program.serialize())


def load(folder: str | os.PathLike[str]) -> tuple[nn.Module, Any]:
    """The model that was exported into a folder, and its variables; no data set is needed.

    What `config.json` names must be installed, and is made only if it is a Flax module.

    Args:
      folder: that `python -m lru.export` has written.

    Returns:
      `(model, variables)`, for `model.apply(variables, inputs)`.

    Raises:
      UserError: a file is missing or damaged, a tensor is missing or of another shape, or the two
        files do not belong together.
    """
    import jax
    import numpy as np

    from lru.weights import read_weights

    weights, file = Path(folder) / WEIGHTS, Path(folder) / ABOUT
    about = _read(file)
    try:
        model = _model(about["config"]["model"], about["arguments"])
        inputs = jax.ShapeDtypeStruct(about["inputs"]["shape"], np.dtype(about["inputs"]["dtype"]))
        shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{file} describes no model ({error}); export it anew") from error
    variables, metadata = read_weights(weights, shapes)
    if metadata.get("model") != _identity(about):
        raise UserError(
            f"{file} is another config than {weights} was exported with; take both from one export"
        )
    if about.get("sha256", digest := _digest(weights)) != digest:
        raise UserError(
            f"{weights} is damaged: it is not as it was exported; export it anew, or, if the "
            f"change is meant, delete sha256 from {file}"
        )
    return model, variables


def _one_step(experiment: Experiment) -> Any:
    """Inputs of one step of one sequence."""
    inputs = experiment.task.example()
    features = experiment.dataset.vocab_size is None
    return inputs[..., :1, :] if features else inputs[..., :1]


def _about(experiment: Experiment, workdir: Path, step: int) -> dict[str, Any]:
    from lru.training.config import recall

    file, dataset, inputs = workdir / "record.json", experiment.dataset, _one_step(experiment)
    record = _read(file) if file.exists() else {}
    tokens = dataset.token_names
    return {
        "config": recall(workdir).to_dict(),
        "arguments": dict(experiment.task.model_arguments),
        "inputs": {"shape": list(inputs.shape), "dtype": inputs.dtype.name},
        **({"tokens": list(tokens)} if tokens else {}),
        "data": dataset.kind,
        "step": step,
        "commit": record.get("commit"),
        "test": record.get("test"),
    }


def _model(section: Mapping[str, Any], arguments: Mapping[str, Any]) -> nn.Module:
    from lru.training.config import build

    maker = build(section, "config.model", later=tuple(arguments))
    _check_modules(maker, "config.model")
    return maker(**arguments)


def _check_modules(maker: Any, where: str) -> None:
    """A config from elsewhere could name anything that Python can call."""
    import flax.linen as nn

    if not (isinstance(maker.func, type) and issubclass(maker.func, nn.Module)):
        raise UserError(f"{where}.type is {maker.func.__qualname__}; expected a Flax module")
    for key, value in maker.keywords.items():
        if isinstance(value, functools.partial):
            _check_modules(value, f"{where}.{key}")


def _identity(about: Mapping[str, Any]) -> str:
    """The part of `config.json` that says which function of its weights the model is."""
    parts = {"model": about["config"]["model"], "arguments": about["arguments"]}
    return json.dumps(parts, sort_keys=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_object(file, {}, "restore it, or make it anew")
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; give a folder that lru.export has written") from error


if __name__ == "__main__":
    sys.exit(run(main))
