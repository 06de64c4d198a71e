"""Saves and restores the checkpoints of a run with Orbax: the latest two and the best."""

from __future__ import annotations

import gc
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from lru.errors import UserError
from lru.training import processes
from lru.training.digests import Damaged, check_digests
from lru.training.handler import SealedHandler, SealedRestore, SealedSave
from lru.training.history import is_sealed, read_history


class _PreservationPolicy:
    """An Orbax preservation policy that keeps the latest two checkpoints and the best."""

    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        latest = {info.step for info in checkpoints[-2:]}
        return [info.step in latest or info.step == self.best for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run, each in a directory named after its step.

    `STEP/state/` holds the arrays of a state as Orbax writes them, `history.json` with the run's
    history (see `lru.training.history`), and `SHA256SUMS` with the digests of these files. A
    checkpoint with digests is called *sealed*. A checkpoint is written under a temporary name and
    renamed once it is complete, so an interrupted save does not leave an incomplete checkpoint.

    Args:
      directory: the directory of the checkpoints; created if it is missing.
      log: called with a line of text for each unreadable checkpoint that `restore_latest` skips.

    Raises:
      UserError: the directory cannot be created.
    """

    def __init__(self, directory: Path, log: Callable[[str], None] = print):
        self._directory, self._log, self._policy = directory.absolute(), log, _PreservationPolicy()
        self._failed = False
        options = ocp.CheckpointManagerOptions(preservation_policy=self._policy)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {directory}: {error.strerror}") from error
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_names=("state",),
            item_handlers={"state": SealedHandler()},
        )

    def save(
        self, step: int, state: Any, best: int | None, history: Mapping[str, Any] | None = None
    ) -> None:
        """Starts saving a state in the background, unless its step already has a checkpoint.

        Args:
          step: the step of the state.
          state: the state, a tree of arrays.
          best: the step of the best checkpoint, which is kept; None if there is none.
          history: the history of the run, see `lru.training.history`; None to save none.

        Raises:
          UserError: this checkpoint or the previous one cannot be written.
        """
        self._policy.best = best
        if step in self.steps():
            return
        args = ocp.args.Composite(state=SealedSave(state, history=history or {}))
        self._writing(lambda: self._manager.save(step, args=args))

    def wait(self) -> None:
        """Waits until all pending checkpoints are on disk.

        Raises:
          UserError: a checkpoint cannot be written.
        """
        self._writing(self._manager.wait_until_finished)

    def close(self) -> None:
        """Waits until all pending checkpoints are on disk, and ends the background threads.

        After a failed write, this method does nothing.

        Raises:
          UserError: a checkpoint cannot be written.
        """
        if not self._failed:  # Orbax would wait minutes for a write that has failed
            self._writing(self._manager.close)

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def path(self, step: int) -> Path:
        """Returns the directory of a step's checkpoint."""
        return self._directory / str(step)

    def restore_latest(self, target: Any) -> Any | None:
        """Restores the newest readable checkpoint's state; returns None if there is no checkpoint.

        Logs the newer checkpoints that cannot be read, and moves them into `damaged/`, beside the
        directory of the checkpoints.

        Args:
          target: the structure of the state: a tree of `jax.ShapeDtypeStruct`s with shardings.

        Raises:
          UserError: there are checkpoints, but none can be read. In this case nothing is moved.
        """
        reasons: dict[int, UserError] = {}
        for step in reversed(self.steps()):
            try:
                state = self._restore(step, target)
            except UserError as error:
                reasons[step] = error
                continue
            for damaged, reason in reasons.items():
                self._move_aside(damaged)
                self._log(f"{reason}; resuming from step {step}")
            return state
        if reasons:
            first = next(iter(reasons.values()))
            raise UserError(
                f"{first}, and no earlier checkpoint can be read; restore one from a "
                "copy, or train in a new --workdir"
            )
        return None

    def restore(self, step: int, target: Any) -> Any:
        """Restores the state saved at a step. For `target`, see `restore_latest`.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        try:
            return self._restore(step, target)
        except UserError as error:
            raise UserError(f"{error}; move it elsewhere to use the next best checkpoint") from None

    def history(self, step: int) -> dict[str, Any] | None:
        """Returns the history in the checkpoint of a step; None if it was saved without one.

        Raises:
          Damaged: see `lru.training.history.read_history`.
        """
        return read_history(self.path(step))

    def shapes(self, step: int) -> Any:
        """Returns the shapes and types in a checkpoint's metadata, as a target for `restore`.

        The target has dicts and lists in place of the classes of a state, so no model is needed.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            found = ocp.StandardCheckpointHandler().metadata(self.path(step) / "state")
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
                getattr(found, "tree", found),
            )
        except Exception as error:
            reason = _reason(error)
        raise UserError(f"checkpoint {self.path(step)} cannot be read ({reason})")

    def _restore(self, step: int, target: Any) -> Any:
        args = ocp.args.Composite(state=SealedRestore(target))
        try:
            if is_sealed(self.path(step)):
                check_digests(self.path(step) / "state")
            return self._manager.restore(step, args=args).state
        except Damaged as error:
            raise self._unreadable(step, str(error)) from None
        except Exception as error:  # Orbax and TensorStore raise many types for a damaged file
            reason = _reason(error)
        _collect_quietly()
        raise self._unreadable(step, reason)

    def _unreadable(self, step: int, reason: str) -> UserError:
        return UserError(f"checkpoint {self.path(step)} cannot be read ({reason})")

    def _writing(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # many types, for a full or missing disk
            self._failed = True
            if message := processes.lost(error):
                raise UserError(message) from error
            raise UserError(
                f"a checkpoint cannot be written to {self._directory} ({_reason(error)}). "
                "Earlier checkpoints are complete: fix the cause, for example by freeing disk "
                "space, and run the same command again"
            ) from error

    def _move_aside(self, step: int) -> None:
        def move():
            damaged = self._directory.parent / "damaged"
            damaged.mkdir(exist_ok=True)
            shutil.rmtree(damaged / str(step), ignore_errors=True)
            shutil.move(self.path(step), damaged / str(step))

        processes.in_turn(lambda: move() if processes.is_first() else None)
        self._manager.reload()


def _collect_quietly() -> None:
    """Deletes coroutines that Orbax leaves behind after an error, and suppresses their warnings."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        gc.collect()
    sys.unraisablehook = hook


def _reason(error: Exception) -> str:
    if "tree structures do not match" in str(error):
        return "made by another version, or for another model: its arrays differ"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:100]}" if lines else type(error).__name__
