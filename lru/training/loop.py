"""Training from a config to its record, in one work directory, through kills and restarts.

The order within a step at which everything happens: update, log, evaluate, save. A line of
metrics is on disk before the checkpoint of its step is, and lines after the checkpoint that a
run goes on from are dropped: so the files of an interrupted run end up the same, byte for byte,
as those of an uninterrupted one.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lru.errors import UserError
from lru.training.checkpoint import Checkpoints
from lru.training.config import recall, remember, write_whole
from lru.training.experiment import Experiment, State
from lru.training.figures import save_curves, save_spectrum
from lru.training.metrics import Metrics
from lru.training.optimizer import format_table
from lru.training.record import format_result, make_record
from lru.training.writers import JsonLines, Progress, TensorBoard


class Diverged(UserError):
    """The loss or the gradient stopped being finite."""

    exit_code = 1


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
) -> dict[str, Any] | None:
    """Trains what a config describes, or goes on with it, and evaluates the best checkpoint.

    In the work directory: `config.json`, `checkpoints/`, `metrics.jsonl` (the same for the same
    config, whatever happened in between), `timing.jsonl`, and at the end `record.json`,
    `curves.png`, `spectrum.png`.

    Args:
      config: what to train; see `Experiment`.
      workdir: of this run alone.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.

    Returns:
      The record of the run; None if a signal stopped it before its end.

    Raises:
      UserError: something given is wrong.
      Diverged: the loss or a gradient was not finite.
    """
    experiment = Experiment(config, data_dir, manual_dir)
    remember(config, workdir)
    run = _Run(experiment, workdir)
    try:
        run.greet(config)
        return run.finish(config) if run.train() else None
    finally:
        run.close()


def evaluate_best(
    workdir: Path, split: str, *, data_dir: Path, manual_dir: Path | None = None
) -> dict[str, Any]:
    """The best checkpoint of a run, evaluated on a split: the line training logged for it.

    Raises:
      UserError: there is no run, no evaluated checkpoint, or it cannot be read.
    """
    experiment = Experiment(recall(workdir), data_dir, manual_dir)
    checkpoints = Checkpoints(workdir / "checkpoints")
    best = checkpoints.best_step()
    if best is None:
        raise UserError(f"{workdir} has no evaluated checkpoint yet; let lru.train go on first")
    state = checkpoints.restore(best, experiment.init_state())
    checkpoints.close()
    return {"step": best, "split": split} | experiment.evaluate(state, split)


class _Run:
    """An experiment in a work directory."""

    def __init__(self, experiment: Experiment, workdir: Path):
        self.experiment, self.settings, self.workdir = experiment, experiment.settings, workdir
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        fresh = experiment.init_state()
        self.state: State = self.checkpoints.restore_latest(fresh) or fresh
        self.step = int(self.state.step)
        self.metrics = JsonLines(workdir / "metrics.jsonl")
        self.metrics.keep(lambda row: row["step"] <= self.step and row["split"] != "test")
        self.timing = JsonLines(workdir / "timing.jsonl")
        timed = self.timing.keep(lambda row: row["step"] <= self.step)
        self.clock = _Clock(timed[-1]["seconds"] if timed else 0.0)
        self.tensorboard = (
            TensorBoard(workdir / "tensorboard", self.step) if self.settings.tensorboard else None
        )
        self.progress = Progress(self.settings.steps, self.step, self.settings.batch_size)

    def greet(self, config: ConfigDict) -> None:
        """Says what is about to be trained, and on what."""
        say, dataset = self.progress.say, self.experiment.dataset
        say(format_table(self.experiment.groups))
        say(
            f"data: {config.data.type} ({dataset.kind}), {len(dataset.source('train')):,} training "
            f"examples of up to {dataset.max_length:,} steps; devices: {jax.local_device_count()} "
            f"{jax.local_devices()[0].device_kind}; work directory: {self.workdir}"
        )
        if self.step:
            say(f"going on from step {self.step:,}")

    def train(self) -> bool:
        """Runs the steps that are left; False if a signal asked to stop before the last."""
        if self.step >= self.settings.steps:
            return True
        with _stop_signal() as stop_requested:
            for batch in self.experiment.training_batches(self.step):
                self.state.step.block_until_ready()  # at most one step is under way
                self.state = self.experiment.train_step(self.state, batch)
                self.step += 1
                self.progress.advance()
                if self.clock.new:  # the first step is mostly compilation
                    self.state.step.block_until_ready()
                    self.clock.restart(self.step)
                self._log_evaluate_save()
                if self.step >= self.settings.steps:
                    return True
                if stop_requested():
                    return self._stop()
        raise AssertionError("training batches never end")

    def finish(self, config: ConfigDict) -> dict[str, Any]:
        """Tests the checkpoint that was best on validation, and leaves record and pictures."""
        self.checkpoints.wait()
        best = self.checkpoints.best_step()
        if best is None:
            raise UserError(f"{self.workdir} has no checkpoint with validation metrics")
        state = self.checkpoints.restore(best, self.state)
        self._write({"step": best, "split": "test"} | self.experiment.evaluate(state, "test"))
        rows = self.metrics.read()
        record = make_record(config, self.experiment, rows, self.clock.seconds())
        write_whole(self.workdir / "record.json", json.dumps(record, indent=2) + "\n")
        save_curves(rows, self.workdir / "curves.png", title=_title(record))
        initial = self.experiment.init_state()
        drawn = save_spectrum(initial.params, state.params, self.workdir / "spectrum.png")
        pictures = "curves.png, spectrum.png" if drawn else "curves.png"
        self.progress.close()
        print(f"{format_result(rows[-1])}\nsee {pictures}, record.json in {self.workdir}")
        return record

    def close(self) -> None:
        """Leaves nothing half-written."""
        self.progress.close()
        self.checkpoints.close()
        if self.tensorboard:
            self.tensorboard.close()

    def _log_evaluate_save(self) -> None:
        last = self.step == self.settings.steps
        evaluate = last or self.step % self.settings.eval_every == 0
        if last or self.step % self.settings.log_every == 0:
            self._log()
        if evaluate:
            self._check_finite()
            metrics = self.experiment.evaluate(self.state, "validation")
            row = {"step": self.step, "split": "validation"} | metrics
            self._write(row)
            self.progress.say(format_result(row))
            self.checkpoints.save(self.step, self.state, metrics)
            self.clock.restart(self.step)
        elif self.step % self.settings.checkpoint_every == 0:
            self._check_finite()
            self.checkpoints.save(self.step, self.state)

    def _log(self) -> None:
        self._check_finite()
        metrics, empty = self.state.metrics.compute(), Metrics.empty()
        empty = jax.device_put(empty, self.state.step.sharding)
        self.state = self.state.replace(metrics=empty)
        rate = float(self.experiment.schedule(self.step - 1))  # the one this step was made with
        self._write({"step": self.step, "split": "train", "learning_rate": rate} | metrics)
        timing = {
            "seconds": round(self.clock.seconds(), 3),
            "steps_per_second": self.clock.steps_per_second(self.step),
        }
        self.timing.write({"step": self.step} | timing)
        self.progress.show(self.step, metrics, timing["steps_per_second"])

    def _write(self, row: Mapping[str, Any]) -> None:
        self.metrics.write(row)
        if self.tensorboard:
            self.tensorboard.write(row)

    def _check_finite(self) -> None:
        step = int(self.state.diverged_at)
        if step < 0:
            return
        self.checkpoints.wait()
        good = self.checkpoints.latest_step()
        where = "there is none yet" if good is None else str(self.checkpoints.path(good))
        raise Diverged(
            f"the loss or its gradient was not finite at step {step:,}; last good checkpoint: "
            f"{where}\na lower config.optimizer.learning_rate, in a new --workdir, may help"
        )

    def _stop(self) -> bool:
        self._check_finite()
        self.checkpoints.save(self.step, self.state)
        self.checkpoints.wait()
        self.progress.close()
        print(f"stopped by a signal; saved at step {self.step:,}: the same command goes on from it")
        return False


def _title(record: Mapping[str, Any]) -> str:
    data = record["config"]["data"]["type"].partition(":")[0].rpartition(".")[2]
    return (
        f"{data} ({record['data']}), {record['parameters']:,} parameters: "
        f"test accuracy {100 * record['test']['accuracy']:.2f} %"
    )


class _Clock:
    """Seconds of the run, over all restarts, and training steps a second since it was last read."""

    def __init__(self, seconds_before: float):
        self.new = True
        self._start = time.monotonic() - seconds_before
        self._step, self._then = 0, self._start

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def restart(self, step: int) -> None:
        """Leaves out what was not training: compilation, evaluation."""
        self.new, self._step, self._then = False, step, time.monotonic()

    def steps_per_second(self, step: int) -> float | None:
        """None if no step was made since."""
        seconds = time.monotonic() - self._then
        rate = (step - self._step) / seconds if step > self._step else None
        self.restart(step)
        return rate


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """SIGTERM and SIGINT ask to stop after the step under way; the second SIGINT means now."""
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
