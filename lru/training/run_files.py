"""Writes the files of a run; a resumed run rewinds its logs to its newest readable checkpoint."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lru.errors import UserError
from lru.io.files import write_atomically
from lru.io.terminal import log
from lru.training import processes
from lru.training.checkpoint import Checkpoints
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.experiment import Experiment
from lru.training.history import METRICS, TIMING
from lru.training.recovery import (
    best_available,
    check_no_lost_checkpoints,
    check_rows,
    check_spectra,
    restore_rows,
)
from lru.training.run_config import load_run_config
from lru.training.step import State
from lru.training.writers import JsonLines, TensorBoard, WeightsAndBiases, Writer


class RunFiles:
    """The files of an experiment in a work directory.

    If there are several processes, they write the checkpoints together. Process 0 writes the other
    files into the work directory. Every other process writes them into a temporary directory.

    Args:
      workdir: the work directory, which has the run's `config.json`.
      experiment: the experiment of the run.

    Attributes:
      directory: the directory of all files except the checkpoints.
      metrics: the file `metrics.jsonl`.
      timing: the file `timing.jsonl`.
      spectra: the log of the eigenvalues before training and at every evaluation.
      checkpoints: the checkpoints.
    """

    def __init__(self, workdir: Path, experiment: Experiment):
        self._experiment, self._closing = experiment, ExitStack()
        self._config = load_run_config(workdir).to_dict()
        self.directory = workdir if processes.is_first() else self._temporary_directory()
        self.metrics = JsonLines(self.directory / "metrics.jsonl", METRICS)
        self.timing = JsonLines(self.directory / "timing.jsonl", TIMING)
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        self.spectra = EigenvalueLog(self.directory / "spectra", {}, experiment.layers)
        self._writers: list[Writer] = [self.metrics]
        if experiment.settings.tensorboard:
            self._writers.append(TensorBoard(self.directory / "tensorboard"))
        if experiment.settings.wandb and processes.is_first():
            self._writers.append(WeightsAndBiases(self.directory, self._config))

    def _temporary_directory(self) -> Path:
        return Path(self._closing.enter_context(tempfile.TemporaryDirectory()))

    def restore(self) -> State:
        """Rewinds the files to the newest readable checkpoint, and returns the state in it.

        For a run without checkpoints, returns the initial state.

        Raises:
          UserError: the run cannot be resumed from its files.
        """
        restored = self.checkpoints.restore_latest(self._experiment.state_shapes())
        state = self._experiment.init_state() if restored is None else restored
        step = int(state.step)
        history = None if restored is None else self.checkpoints.history(step)
        if restored is not None and history is None and processes.are_several():
            raise UserError(
                f"an older version started the run in {self.directory}; several processes cannot "
                "resume it: resume it in one process until its next checkpoint"
            )
        if history is None:
            self._check_without_history(restored is None)
        else:
            self._restore_from(history, step)
        digests = None if history is None else history["spectra"]
        self.spectra = EigenvalueLog(self.directory / "spectra", digests, self._experiment.layers)
        for writer in self._writers:
            writer.rewind(step)
        self.timing.rewind(step)
        self.spectra.rewind(step)
        self._restore_spectra(state)
        return state

    def _check_without_history(self, from_start: bool) -> None:
        """Checks the files of a new run, or of a run whose checkpoint has no history."""
        rows, every = self.metrics.read(), self._experiment.settings
        if from_start:
            first = min(every.checkpoint_every, every.eval_every)
            check_no_lost_checkpoints(self.directory, rows, first)
        else:
            file, steps = self.directory / "metrics.jsonl", self.checkpoints.steps()
            check_rows(rows, steps, every.eval_every, file)

    def _restore_from(self, history: Mapping[str, Any], step: int) -> None:
        """Restores `metrics.jsonl` and `timing.jsonl` as they were when a checkpoint was saved."""
        for lines, name in ((self.metrics, "metrics"), (self.timing, "timing")):
            restore_rows(lines, history[name], self.directory / f"{name}.jsonl", step, log)

    def _restore_spectra(self, state: State) -> None:
        """Writes the initial eigenvalues of a new run, and rewrites lost eigenvalues.

        Only those of the initial and of the restored state can be rewritten. Logs if others are
        lost.
        """
        step, damaged = int(state.step), self.spectra.damaged()
        if step == 0 or 0 in damaged:
            self.spectra.write(0, self._experiment.init_state().params)
        if step in damaged:
            self.spectra.write(step, state.params)
        check_spectra(self.spectra, self.directory / "spectra", log)

    def restore_step(self, step: int) -> State:
        """Waits for pending saves, then returns the state in the checkpoint of a step."""
        self.checkpoints.wait()
        return self.checkpoints.restore(step, self._experiment.state_shapes())

    def best_available(self) -> Mapping[str, Any] | None:
        """Returns the best row that has a checkpoint; logs if the best of all rows has none."""
        select = self._experiment.settings.select
        return best_available(self.metrics.rows, self.checkpoints, select, log)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a row of metrics to `metrics.jsonl` and to the other writers that are enabled."""
        for writer in self._writers:
            writer.write(row)

    def save(self, step: int, state: State, best: int | None) -> None:
        """Starts saving a checkpoint with the run's history; see `Checkpoints.save`."""
        history = {
            "config": self._config,
            "metrics": self.metrics.rows,
            "timing": self.timing.rows,
            "spectra": self.spectra.digests,
        }
        self.checkpoints.save(step, state, best, history)

    def eigenvalues(self, steps: Collection[int]) -> dict[int, dict[str, Any]]:
        """Returns the logged eigenvalues at the given steps, by step and then by layer path."""
        logged, layers = self.spectra.trajectories()
        return {
            step: {name: lam[i] for name, lam in layers.items()}
            for i, step in enumerate(logged)
            if step in steps
        }

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes `record.json`."""
        write_atomically(self.directory / "record.json", json.dumps(record, indent=2) + "\n")

    def close(self) -> None:
        """Closes all files, even if closing one of them fails."""
        with self._closing as stack:
            stack.callback(self.checkpoints.close)
            for writer in self._writers:
                stack.callback(writer.close)
