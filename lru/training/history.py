"""Reads the history in a checkpoint: the run's config, rows so far, and digests of its spectra.

A checkpoint alone therefore determines what the run has done. A lost or damaged `metrics.jsonl`,
`timing.jsonl` or `config.json` is rewritten from the history, and a lost spectrum is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lru.io.files import parse_object
from lru.training.digests import SUMS, Damaged, digest, read_digests

# The fields of a row of `metrics.jsonl` and `timing.jsonl`, and of a checkpoint's history.
METRICS = {"step": int, "split": str, "loss": float, "accuracy|rmse": float}
TIMING = {"step": int, "seconds": float, "input_wait_seconds": float}
_FIELDS = {"config": dict, "metrics": list, "timing": list, "spectra": dict}

FILE = "history.json"


def read_history(checkpoint: Path) -> dict[str, Any] | None:
    """Returns the history in a checkpoint; None if none was saved, as by older versions.

    Only the history is checked for damage, not the arrays beside it.

    Raises:
      Damaged: the history or its digest is missing, or has changed since it was saved.
    """
    directory = checkpoint / "state"
    if not is_sealed(checkpoint):
        return None
    try:
        if digest(directory / FILE) != read_digests(directory).get(FILE):
            raise Damaged(f"{FILE} has changed since it was saved")
        text = (directory / FILE).read_text()
        return None if text == "{}" else parse_object(text, _FIELDS)
    except (OSError, ValueError) as error:
        raise Damaged(f"{FILE} cannot be read: {error}") from error


def is_sealed(checkpoint: Path) -> bool:
    """Returns whether a checkpoint was saved with digests, even if they are missing now."""
    if (checkpoint / "state" / SUMS).exists() or (checkpoint / "state" / FILE).exists():
        return True
    try:  # Orbax writes the name of the handler there; ours adds the digests
        return b"lru.training" in (checkpoint / "_CHECKPOINT_METADATA").read_bytes()
    except OSError:
        return False


def latest_history(
    directory: Path, log: Callable[[str], None] = lambda _: None
) -> tuple[int, dict[str, Any]] | None:
    """Returns the newest step whose history can be read, and that history.

    Args:
      directory: the directory of a run's checkpoints.
      log: called with a line of text for each newer checkpoint that is damaged.

    Returns:
      `(step, history)`; None if no checkpoint can be read, or if the newest readable one was saved
      without a history.
    """
    for step in reversed(checkpoint_steps(directory)):
        try:
            history = read_history(directory / str(step))
        except Damaged as error:
            log(f"checkpoint {directory / str(step)} cannot be read ({error})")
            continue
        return None if history is None else (step, history)
    return None


def checkpoint_steps(directory: Path) -> list[int]:
    """Returns the steps of the checkpoints in a directory, in order, without opening them."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
