"""Reads the history in a checkpoint: the run's config, metrics and timing, and digests.

If `config.json`, `metrics.jsonl` or `timing.jsonl` is lost or damaged, it is rewritten from the
history. The digests are those of the files of eigenvalues, and show whether one is lost or damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lru.io.files import parse_object
from lru.training.digests import SUMS, Damaged, digest, read_digests

# The required fields of a row of `metrics.jsonl` or `timing.jsonl`, and of a checkpoint's history.
METRICS = {"step": int, "split": str, "loss": float, "accuracy|rmse": float}
TIMING = {"step": int, "seconds": float, "input_wait_seconds": float}
_FIELDS = {"config": dict, "metrics": list, "timing": list, "spectra": dict}

FILE = "history.json"


def read_history(checkpoint: Path) -> dict[str, Any] | None:
    """Returns the history in a checkpoint; None if the checkpoint was saved without one.

    The history is checked for damage; the arrays beside it are not.

    Raises:
      Damaged: the history or its digest is missing, changed or unreadable.
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
    """Returns whether a checkpoint was saved with digests, which may have been lost since."""
    if (checkpoint / "state" / SUMS).exists() or (checkpoint / "state" / FILE).exists():
        return True
    try:  # Orbax writes the handler's name into this file; our handler adds the digests
        return b"lru.training" in (checkpoint / "_CHECKPOINT_METADATA").read_bytes()
    except OSError:
        return False


def latest_history(
    directory: Path, log: Callable[[str], None] = lambda _: None
) -> tuple[int, dict[str, Any]] | None:
    """Returns the newest history that is not damaged, with the step of its checkpoint.

    Args:
      directory: the directory of a run's checkpoints.
      log: called with a line of text for each damaged history that is skipped.

    Returns:
      `(step, history)`; None if there is no undamaged history, or if a newer checkpoint was saved
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
