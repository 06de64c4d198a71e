"""Trains the model of a config in a work directory, resuming the run if it was interrupted.

Each step is followed by logging, evaluation and saving, in this order, if they are due. The metrics
and eigenvalues logged at a step are therefore on disk before its checkpoint. A resumed run deletes
those of all steps after the checkpoint that it resumes from. With the same settings, software and
hardware, and if the devices compute deterministically, an interrupted run thus ends up with the
same metrics and eigenvalues, byte for byte, as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from lru.errors import Stopped, UserError
from lru.io.files import lock
from lru.io.terminal import log
from lru.training import processes
from lru.training.clock import Clock
from lru.training.data_digests import check_data
from lru.training.description import Description
from lru.training.experiment import Experiment
from lru.training.figures import run_name, save_curves, save_spectrum
from lru.training.init_from import check_source, read_initial, set_initial_weights
from lru.training.optimizer import format_table
from lru.training.record import format_model, format_result, format_score, make_record
from lru.training.recovery import (
    read_run_record,
    restore_config,
    restore_finished,
)
from lru.training.run_config import check_workdir, is_extended, save_config
from lru.training.run_files import RunFiles
from lru.training.selection import best_row, stops_early
from lru.training.signals import stop_signal
from lru.training.speed import format_change, latest_settings, speed_settings
from lru.training.step import Call, State
from lru.training.writers import Progress


class Diverged(UserError):
    """Training has diverged: the loss, the parameters or the batch statistics are not finite."""

    exit_code = 1


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
) -> dict[str, Any]:
    """Trains the model of a config, or resumes the run, and tests the best checkpoint.

    The work directory contains:

    - `config.json`, and `checkpoints/`;
    - `metrics.jsonl`, the metrics;
    - `spectra/`, the eigenvalues before training and at every evaluation, if the model has any;
    - `timing.jsonl`, the speed and the total time so far;
    - `dataset.json`, the description of the data, and `data.json`, the digests of the data, where
      available;
    - `initial.safetensors`, if the run starts with the weights of another run or of an export;
    - `tensorboard/`, if `config.train.tensorboard` is True;
    - `wandb_id` and `wandb/`, if `config.train.wandb` is True;
    - at the end, `record.json`, `curves.png` and, if the model has eigenvalues, `spectrum.png`.

    A record with the key `test` marks a finished run, which is trained further only if the config
    has more steps or epochs than the config in the record. A run that is stopped by a signal or
    diverges in training leaves a record without that key.

    Args:
      config: the config to train; see `Experiment`.
      workdir: the work directory; no other run may use it.
      data_dir: the directory of prepared data sets.
      manual_dir: the directory with files of official releases.

    Returns:
      The record of the run.

    Raises:
      Stopped: SIGTERM or SIGINT arrived during training; the run is saved.
      UserError: the config, the data set or the initial weights are invalid; they do not fit the
        run in the work directory; or the work directory is damaged, in use, or not writable.
      Diverged: the loss, the parameters or the batch statistics are not finite.
    """
    processes.check_same("configs", config.to_json_best_effort(sort_keys=True))
    experiment, initial = processes.in_turn(lambda: _load(config, workdir, data_dir, manual_dir))
    with ExitStack() as stack:
        processes.in_turn(lambda: _lock(workdir, stack))
        processes.check_shared(workdir)
        finished = processes.in_turn(lambda: _begin(config, workdir, experiment, initial))
        if finished is not None:
            return finished
        run = _Run(config, experiment, workdir)
        try:
            run.log_start()
            run.train()
            record = run.finish()
        except BaseException:
            with suppress(Exception):  # only the first error is reported
                run.close()
            raise
        run.close()
        return record


def _load(
    config: ConfigDict, workdir: Path, data_dir: Path, manual_dir: Path | None
) -> tuple[Experiment, Any]:
    """Checks the work directory; returns the experiment, and the result of `read_initial`."""
    restore_config(workdir, log)
    check_workdir(config, workdir)
    check_source(config, workdir)
    experiment = Experiment(config, data_dir, manual_dir)
    experiment.task.check_sizes()
    return experiment, read_initial(config, workdir, experiment)


def _lock(workdir: Path, stack: ExitStack) -> None:
    """In process 0, locks the work directory until the stack closes.

    Raises:
      UserError: another run has locked the work directory.
    """
    if processes.is_first() and not stack.enter_context(lock(workdir / "lock")):
        raise UserError(f"another process is training in {workdir}; wait for it or end it")


def _begin(
    config: ConfigDict, workdir: Path, experiment: Experiment, initial: Any
) -> dict[str, Any] | None:
    """Writes or checks a run's initial files.

    Returns the record of the run if nothing is left to do, else None.
    """
    check_workdir(config, workdir)  # another process may have started in the meantime
    check_data(experiment.dataset, workdir, write=True)
    save_config(config, workdir)
    if (description := Description.of(experiment)) is not None:
        description.save(workdir)
    set_initial_weights(config, workdir, experiment, initial if processes.is_first() else None)
    return None if is_extended(config, workdir) else _finished(workdir)


def _finished(workdir: Path) -> dict[str, Any] | None:
    """Returns the record of a finished run; None if the run has not finished.

    For a finished run, also restores its metrics and timing, and logs its result.
    """
    record = read_run_record(workdir)
    if record is None or "test" not in record:  # the run was stopped, or has diverged
        return None
    restore_finished(workdir, record, log)
    log(f"already finished; {format_result({'split': 'test'} | record['test'])}")
    return record


class _Run:
    def __init__(self, config: ConfigDict, experiment: Experiment, workdir: Path):
        self.config, self.workdir = config, workdir
        self.experiment, self.settings = experiment, experiment.settings
        self.files = RunFiles(workdir, experiment)
        self.state: State = self.files.restore()
        self.step = int(self.state.step)
        rows, timed = self.files.metrics.rows, self.files.timing.rows
        self.best = self.files.best_available()
        self.losses = [row["loss"] for row in rows if row["split"] == "validation"]
        self.clock = Clock(timed[-1] if timed else {})
        self._speed_settings = speed_settings(config)
        self.progress = Progress(self.settings.steps, self.step, experiment.task.items)

    def log_start(self) -> None:
        """Logs the parameter groups, the data, the model, the devices and the work directory.

        For a resumed run, also logs its step and changed speed settings.
        """
        log, dataset = self.progress.log, self.experiment.dataset
        log(format_table(self.experiment.groups))
        log(f"data: {dataset.name} ({dataset.kind}), {self.experiment.task.summary()}")
        parameters = sum(group.parameters for group in self.experiment.groups)
        log(f"model: {format_model(self.config.model)}, {parameters:,} parameters")
        log(f"devices: {jax.device_count()} {jax.local_devices()[0].device_kind}")
        log(f"work directory: {self.workdir}")
        if dataset.note:
            log(f"note: {dataset.note}")
        if self.step:
            log(f"resuming from step {self.step:,}")
        if change := format_change(latest_settings(self.files.timing.rows), self._speed_settings):
            log(f"the run continues with other speed settings: {change}")

    def train(self) -> None:
        """Runs the remaining steps, or fewer if training stops early.

        Raises:
          Stopped: a signal arrived; all completed steps are saved.
          Diverged: the loss, the parameters or the batch statistics are not finite.
        """
        calls = self.experiment.training_calls(self.step)
        with stop_signal() as stop_requested:
            while self.step < self.settings.steps and not self._stops_early():
                self.state.step.block_until_ready()  # at most one call runs at a time
                call = self.clock.wait_for_next(calls)
                for chunk in call.chunks(self._steps_at_once):
                    self.state.step.block_until_ready()
                    self._stop_if(stop_requested())  # signals are handled between two chunks
                    self._advance(chunk)
            self._stop_if(stop_requested())  # before the test, which may take long

    def _steps_at_once(self) -> int:
        return processes.from_first(self.clock.steps_at_once())

    def _advance(self, call: Call) -> None:
        self.state = self.experiment.train_steps(self.state, call)
        self.step += call.count
        self.progress.advance(call.count)
        if self.clock.new:  # the first call is mostly compilation
            self.state.step.block_until_ready()
            self.clock.restart(self.step)
        elif not self.clock.has_pace:
            self.state.step.block_until_ready()
            self.clock.set_pace(self.step)
        self._log_evaluate_save()

    def _stops_early(self) -> bool:
        rule = ("patience", "least_improvement", "improvement_over")
        early = stops_early(self.losses, **{name: getattr(self.settings, name) for name in rule})
        if early:
            self.progress.log(
                f"the validation loss has not improved in {self.settings.patience} evaluations "
                f"in a row; training ended at step {self.step:,}"
            )
        return early

    def finish(self) -> dict[str, Any]:
        """Writes the figures and the record, and returns the record.

        First tests the best checkpoint, unless it has been tested.
        """
        best = self.best
        if best is None:
            raise UserError(f"{self.workdir} has no validation metrics; train in a new --workdir")
        state = self.files.restore_step(best["step"])
        rows = self.files.metrics.rows
        if not any(_is_test(row, best) for row in rows):
            self._test(state, best["step"])
        test = next(row for row in rows if _is_test(row, best))
        record = self._record(test)
        title = _title(record)
        save_curves(rows, best["step"], self.files.directory / "curves.png", title)
        initial = self.experiment.init_state().params
        layers = self.experiment.layers
        spectrum = self.files.directory / "spectrum.png"
        drawn = save_spectrum(initial, state.params, spectrum, title, layers)
        self.files.write_record(record)
        self.progress.close()
        pictures = "curves.png, spectrum.png" if drawn else "curves.png"
        log(f"{format_result(test)}\nsee {pictures}, record.json in {self.workdir}")
        return record

    def _record(self, test: Mapping[str, Any] | None) -> dict[str, Any]:
        self._write_timing()
        eigenvalues = None
        if self.settings.record_eigenvalues:
            eigenvalues = self.files.eigenvalues({0, self.best["step"] if self.best else 0})
        rows, timing = self.files.metrics.rows, self.files.timing.rows
        return make_record(
            self.config, self.experiment, rows, self.step, self.best, test, timing, eigenvalues
        )

    def close(self) -> None:
        """Closes the files and the progress bar, even if closing one of them fails."""
        with ExitStack() as stack:
            stack.callback(self.files.close)
            stack.callback(self.progress.close)

    def _log_evaluate_save(self) -> None:
        last = self.step == self.settings.steps
        if last or self.step % self.settings.log_every == 0:
            self._log()
        if last or self.step % self.settings.eval_every == 0:
            self._evaluate()
            self._save()
        elif self.step % self.settings.checkpoint_every == 0:
            self._save()

    def _evaluate(self) -> None:
        self._check_finite()
        metrics = self.experiment.evaluate(self.state, "validation")
        if not math.isfinite(metrics["loss"]):
            self._diverged(self.step)
        row = {"step": self.step, "split": "validation"} | metrics
        self.files.write(row)
        self.files.spectra.write(self.step, self.state.params)
        self.losses.append(row["loss"])
        self.best = best_row([self.best, row] if self.best else [row], self.settings.select)
        if self.settings.test_curve:
            self._test(self.state, self.step)
        self.progress.log(format_result(row))
        self.clock.restart(self.step)

    def _test(self, state: State, step: int) -> None:
        metrics = self.experiment.evaluate(state, "test")
        if not math.isfinite(metrics["loss"]):
            raise Diverged(
                f"the test loss of the checkpoint of step {step:,} is not finite; try a lower "
                "config.optimizer.learning_rate in a new --workdir"
            )
        self.files.write({"step": step, "split": "test"} | metrics)

    def _save(self) -> None:
        self._check_finite()
        self._write_timing()
        self.files.save(self.step, self.state, self.best["step"] if self.best else None)

    def _log(self) -> None:
        self._check_finite()
        self.state, metrics = self.experiment.take_metrics(self.state)
        rate = float(self.experiment.base_schedule(self.step - 1))  # the rate of the step just done
        self.files.write({"step": self.step, "split": "train", "learning_rate": rate} | metrics)
        speed, waited = self.clock.read(self.step)
        self._write_timing(speed, waited)
        self.progress.show(self.step, metrics, speed, waited)

    def _write_timing(self, speed: float | None = None, waited: float | None = None) -> None:
        settings = self._speed_settings  # written only where they differ from the latest
        known = latest_settings(self.files.timing.rows) == settings
        self.files.timing.write(
            {
                "step": self.step,
                "seconds": round(self.clock.seconds(), 3),
                "steps_per_second": speed,
                "input_wait_share": waited,
                "input_wait_seconds": round(self.clock.input_wait_seconds, 3),
                **({} if known else {"settings": settings}),
            }
        )

    def _check_finite(self) -> None:
        step = int(self.state.diverged_at)
        if step >= 0:
            self._diverged(step)

    def _diverged(self, step: int) -> NoReturn:
        """Records that the run diverged at a step, and raises `Diverged`."""
        self.files.checkpoints.wait()
        self.files.write_record(self._record(test=None) | {"diverged_at": step})
        good = self.files.checkpoints.steps()
        where = str(self.files.checkpoints.path(good[-1])) if good else "none yet"
        raise Diverged(
            f"the loss or the parameters were not finite at step {step:,}; last good checkpoint: "
            f"{where}\ntry a lower config.optimizer.learning_rate in a new --workdir"
        )

    def _stop_if(self, number: int | None) -> None:
        """Saves the run and raises `Stopped` if a signal has arrived in any of the processes."""
        if not (number := processes.largest(number or 0)):
            return
        self._save()
        self.files.checkpoints.wait()
        self.files.write_record(self._record(test=None))
        self.progress.close()
        log(f"stopped by a signal; saved at step {self.step:,}: run the same command to resume")
        raise Stopped(number)


def _is_test(row: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return row["split"] == "test" and row["step"] == best["step"]


def _title(record: Mapping[str, Any]) -> str:
    """Returns the title of a run's figures: its name, data, size and test score, in two lines."""
    return (
        f"{run_name(record['config'])}, {record['data']} data, "
        f"{record['parameters']:,} parameters\n"
        f"test {format_score(record['test'])}, checkpoint of step {record['test']['step']:,}"
    )
