"""What a checkpoint carries of its run: its config, and what its files held when it was saved.

So a checkpoint alone decides what the run has done. A lost or damaged `metrics.jsonl`,
`timing.jsonl` or `config.json` is written again from it, and a lost spectrum is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lru.io.files import parse_object
from lru.training.digests import SUMS, Damaged, digest, read_digests

# Of a row of each file, and of a checkpoint's history. A row of metrics has a loss and an accuracy.
METRICS = {"step": int, "split": str, "loss": float, "accuracy": float}
TIMING = {"step": int, "seconds": float, "input_wait_seconds": float}
_FIELDS = {"config": dict, "metrics": list, "timing": list, "spectra": dict}

FILE = "history.json"


def read_history(checkpoint: Path) -> dict[str, Any] | None:
    """Returns the history in a checkpoint; None in one of an older version, which has none.

    Only the history itself is checked for damage, not the arrays beside it.

    Raises:
      Damaged: it is missing, or has changed since it was saved.
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
    """Whether a checkpoint was saved with digests, even if they are missing now."""
    if (checkpoint / "state" / SUMS).exists() or (checkpoint / "state" / FILE).exists():
        return True
    try:  # Orbax notes there which handler saved it: ours, which adds the digests
        return b"lru.training" in (checkpoint / "_CHECKPOINT_METADATA").read_bytes()
    except OSError:
        return False


def latest_history(
    directory: Path, log: Callable[[str], None] = lambda _: None
) -> tuple[int, dict[str, Any]] | None:
    """Returns the newest step whose history can be read, and that history.

    Args:
      directory: of the checkpoints of a run.
      log: called with a line of text for each newer checkpoint that is damaged.

    Returns:
      None if there is no checkpoint, or none that has a history.
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
    """Returns the steps that there are checkpoints of, in order, without opening them."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
