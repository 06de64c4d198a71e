"""A run's record: the information needed to check the run's results and to repeat the run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import lru
from lru.io.files import Fields, read_object
from lru.training.gradient_norms import norms_in_row

_RECORD: Fields = {"config": dict, "steps": int, "steps_planned": int}
_RESULT: Fields = {"step": int, "loss": float, "accuracy|rmse": float}


def make_record(
    config: ConfigDict,
    experiment: Any,
    rows: Sequence[Mapping[str, Any]],
    steps: int,
    validation: Mapping[str, Any] | None,
    test: Mapping[str, Any] | None,
    timing: Sequence[Mapping[str, Any]],
    eigenvalues: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns a run's record: config, seed, commit, hardware, data, steps, seconds and results.

    Args:
      config: the config of the run.
      experiment: the `Experiment` of the run.
      rows: the lines of `metrics.jsonl`.
      steps: the number of optimizer steps done.
      validation: the validation line of the selected checkpoint; None if there is none yet.
      test: the test line of that checkpoint; None if it has not been tested.
      timing: the lines of `timing.jsonl`, at least one. Each has the seconds of the run so far,
        over all restarts, with evaluation and compilation; the seconds spent waiting for input; the
        speed, or None; and the speed settings, if they are new.
      eigenvalues: the eigenvalues of the model's layers, by step and then by the layer's path;
        None to record none.
    """
    found = {"validation": validation, "test": test}
    note, epoch = experiment.dataset.note, experiment.task.steps_per_epoch
    return {
        "config": config.to_dict(),
        "seed": config.seed,
        **environment(),
        "data": experiment.dataset.kind,
        **({"remark": note} if note else {}),
        **({"init_from": experiment.origin} if experiment.origin else {}),
        "parameters": sum(group.parameters for group in experiment.groups),
        "steps": steps,
        "steps_planned": experiment.settings.steps,
        **({"steps_per_epoch": epoch} if epoch else {}),
        "seconds": round(timing[-1]["seconds"], 1),
        "steps_per_second": _median(row["steps_per_second"] for row in timing),
        "input_wait_share": round(timing[-1]["input_wait_seconds"] / timing[-1]["seconds"], 4),
        **({"speed_settings": used} if (used := _settings(timing)) else {}),
        **{
            split: {name: value for name, value in row.items() if name != "split"}
            for split, row in found.items()
            if row is not None
        },
        "validation_curve": [
            (row["step"], row["loss"], row["rmse" if "rmse" in row else "accuracy"])
            for row in rows
            if row["split"] == "validation"
        ],
        **({"curves": _curves(rows)} if experiment.settings.test_curve else {}),
        **({"gradient_norms": norms} if (norms := _gradient_norms(rows)) else {}),
        **({"eigenvalues": _real_and_imaginary(eigenvalues)} if eigenvalues else {}),
    }


def _real_and_imaginary(eigenvalues: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the real and imaginary parts of eigenvalues, because JSON has no complex numbers."""
    return {
        str(step): {name: [lam.real.tolist(), lam.imag.tolist()] for name, lam in layers.items()}
        for step, layers in eigenvalues.items()
    }


def read_record(file: Path, advice: str = "restore it, or delete it") -> dict[str, Any]:
    """Reads and checks a record that was returned by `make_record` and saved.

    Args:
      file: the path of the record.
      advice: what the user can do if the file is damaged; the end of the error message.

    Raises:
      UserError: the file is damaged.
      OSError: the file cannot be read.
    """
    record = read_object(file, _RECORD, advice)
    results: Fields = {split: _RESULT for split in ("validation", "test") if split in record}
    return read_object(file, results, advice)


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Returns a list of pairs (step, loss) for each of the splits validation and test."""
    return {
        split: [(row["step"], row["loss"]) for row in rows if row["split"] == split]
        for split in ("validation", "test")
    }


def _gradient_norms(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Sequence[float]]]:
    """Returns pairs (step, mean gradient norms by layer) from the lines that have norms."""
    found = [(row["step"], norms_in_row(row)) for row in rows if row["split"] == "train"]
    return [(step, norms) for step, norms in found if norms]


def _settings(timing: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Returns pairs (step, speed settings) from the lines that have speed settings."""
    return [(row["step"], row["settings"]) for row in timing if "settings" in row]


def _median(speeds: Iterable[float | None]) -> float | None:
    known = [speed for speed in speeds if speed is not None]
    return float(f"{statistics.median(known):.3g}") if known else None


def environment() -> dict[str, Any]:
    """Returns the version and commit of the code, the hardware and software, and the date."""
    return {
        "version": lru.__version__,
        "commit": _commit(),
        "hardware": _hardware(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def format_score(row: Mapping[str, Any]) -> str:
    """Formats the score of a model.

    The score is the accuracy; on a text, bits per character; for real numbers, RMSE and R2.

    Example:
      >>> format_score({"loss": 0.5, "accuracy": 0.75})
      'accuracy 75.00 %'
      >>> format_score({"loss": 1.0, "bits_per_character": 1.4427, "accuracy": 0.75})
      '1.443 bits per character'
      >>> format_score({"loss": 0.04, "rmse": 12.3456, "r2": 0.96})
      'RMSE 12.35, R2 0.9600'
    """
    if "rmse" in row:
        r2 = f", R2 {row['r2']:.4f}" if "r2" in row else ""
        return f"RMSE {row['rmse']:.4g}{r2}"
    if "bits_per_character" in row:
        return f"{row['bits_per_character']:.3f} bits per character"
    return f"accuracy {100 * row['accuracy']:.2f} %"


def format_result(row: Mapping[str, Any]) -> str:
    """Formats an evaluation as the line of text that training and `lru.evaluate` print."""
    return (
        f"{row['split']} {format_score(row)}  loss {row['loss']:.6f}  "
        f"(checkpoint of step {row['step']:,})"
    )


def format_model(model: Mapping[str, Any]) -> str:
    """Describes the size of a model, given the section `model` of its config.

    Example:
      >>> mixer = {"type": "lru:LRU", "d_state": 256}
      >>> model = {"type": "lru.models:SequenceClassifier", "num_layers": 6, "d_model": 128}
      >>> format_model(model | {"mixer": mixer})
      'SequenceClassifier, 6 layers of LRU, d_model 128, d_state 256'
    """
    mixer = model.get("mixer", {})
    sizes = {**mixer, **model}
    layers, both = sizes.get("num_layers"), "bidirectional " if mixer.get("bidirectional") else ""
    words = [model["type"].rpartition(":")[2]]
    if mixer:
        count = {None: "", 1: "1 layer of "}.get(layers, f"{layers} layers of ")
        words.append(f"{count}{both}{mixer['type'].rpartition(':')[2]}")
    names = [name for name in ("d_model", "d_state", "features") if name in sizes]
    return ", ".join([*words, *(f"{name} {sizes[name]}" for name in names)])


def _commit() -> str | None:
    """Returns the commit of the checkout that this code runs from; None if it is unknown.

    The commit is named as by `git describe --always --abbrev=40`; if tracked files have changed,
    `-dirty` is appended. The environment variable `LRU_COMMIT` takes precedence: it names the
    commit of a copy whose Git history is missing or incomplete.
    """
    if named := os.environ.get("LRU_COMMIT"):
        return named
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware() -> dict[str, Any]:
    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "cpu": platform.machine(),
        "cpu_cores": _cpu_cores(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


def _cpu_cores() -> int | None:
    """Returns the number of CPU cores that this process may use or, if unknown, of all cores."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count()
