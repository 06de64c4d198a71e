"""Checkpoints on disk, by Orbax: the latest two and the best, each whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from lru.errors import UserError


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Higher accuracy first, then lower loss."""
    return metrics["accuracy"], -metrics["loss"]


class Checkpoints:
    """The checkpoints of one run, a directory a step.

    A checkpoint becomes visible by a rename, once all of it is written: a run killed while
    saving goes on from the one before. The latest two are kept, and the one with the best
    validation metrics.

    Args:
      directory: where they are, or will be.
      say: called with a line of text when a damaged checkpoint is passed over.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = print):
        self._directory, self._say = directory.absolute(), say
        policies = [
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(
                get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False
            ),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Begins to save in the background; `metrics` are validation's, if there are any."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def restore_latest(self, target: Any) -> Any | None:
        """The newest checkpoint that can be read, in the shape of `target`; None if there is none.

        One that cannot be read is said, and moved aside into `damaged/`.
        """
        while (step := self._manager.latest_step()) is not None:
            try:
                return self.restore(step, target)
            except UserError as error:
                self._move_aside(step)
                before = self._manager.latest_step()
                instead = "the beginning" if before is None else f"step {before}"
                self._say(f"{error}; going on from {instead}")
        return None

    def best_step(self) -> int | None:
        """The step with the best validation metrics; None if none were saved."""
        return self._manager.best_step()

    def latest_step(self) -> int | None:
        """The newest step."""
        return self._manager.latest_step()

    def path(self, step: int) -> Path:
        """The directory of a step's checkpoint."""
        return self._directory / str(step)

    def restore(self, step: int, target: Any) -> Any:
        """The state saved at a step, in the shape of `target`.

        Raises:
          UserError: it cannot be read.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
            reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else ""
            raise UserError(
                f"checkpoint {self.path(step)} cannot be read ({type(error).__name__}: {reason})"
            ) from error

    def wait(self) -> None:
        """Returns once everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        self._manager.close()

    def _move_aside(self, step: int) -> None:
        damaged = self._directory.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        shutil.rmtree(damaged / str(step), ignore_errors=True)
        shutil.move(self.path(step), damaged / str(step))
        self._manager.reload()
