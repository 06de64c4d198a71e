"""Trains a config to its record in one work directory, through kills and restarts.

A step is followed by logging, evaluation and saving, in this order. Metrics and eigenvalues are on
disk before the checkpoint of their step. A resumed run drops everything that is later than its
checkpoint. So the files of an interrupted run end up the same, byte for byte, as those of an
uninterrupted one.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from lru.errors import Stopped, UserError
from lru.io.files import lock, write_atomically
from lru.io.terminal import log
from lru.training.checkpoint import Checkpoints
from lru.training.clock import Clock
from lru.training.config import check_workdir, is_extended, load_run_config, save_config
from lru.training.data_digests import check_data
from lru.training.description import Description
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.experiment import Call, Experiment, State
from lru.training.figures import run_name, save_curves, save_spectrum
from lru.training.history import METRICS, TIMING
from lru.training.init_from import check_source, read_initial, set_initial_weights
from lru.training.optimizer import format_table
from lru.training.record import format_result, format_score, make_record
from lru.training.recovery import (
    check_no_lost_checkpoints,
    check_rows,
    check_spectra,
    missing_best_warning,
    read_run_record,
    restore_config,
    restore_finished,
    restore_rows,
)
from lru.training.selection import best_row, stops_early
from lru.training.speed import format_change, latest_settings, speed_settings
from lru.training.writers import JsonLines, Progress, TensorBoard


class Diverged(UserError):
    """The loss or the parameters are not finite."""

    exit_code = 1


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
) -> dict[str, Any]:
    """Trains a config, or resumes its run, and evaluates the best checkpoint.

    The work directory contains:

    - `config.json`, and `checkpoints/`;
    - `metrics.jsonl`, the same for the same config through any interruptions;
    - `spectra/`, the eigenvalues at every evaluation, if the model has any; also the same;
    - `timing.jsonl`;
    - `dataset.json`, the description of the data, and `data.json`, their digests;
    - `initial.safetensors`, if the run starts with the weights of another one;
    - at the end, `record.json`, `curves.png` and `spectrum.png`.

    A record with a test marks a finished run: nothing is done unless the config has more steps than
    the record. A stopped run leaves a record without a test.

    Args:
      config: the config to train, see `Experiment`.
      workdir: the work directory of this run alone.
      data_dir: the directory of prepared data sets.
      manual_dir: the directory with files of official releases.

    Returns:
      The record of the run.

    Raises:
      Stopped: SIGTERM or SIGINT arrived before the end; the run is saved.
      UserError: the config, the data or the work directory is wrong.
      Diverged: the loss or the parameters were not finite.
    """
    restore_config(workdir, log)
    check_workdir(config, workdir)
    check_source(config, workdir)
    experiment = Experiment(config, data_dir, manual_dir)
    experiment.task.check_sizes()
    initial = read_initial(config, workdir, experiment)
    with lock(workdir / "lock") as acquired:
        if not acquired:
            raise UserError(f"another process is training in {workdir}; wait for it or end it")
        check_workdir(config, workdir)  # another process may have started in the meantime
        check_data(experiment.dataset, workdir, write=True)
        save_config(config, workdir)
        if (description := Description.of(experiment)) is not None:
            description.save(workdir)
        set_initial_weights(config, workdir, experiment, initial)
        finished = None if is_extended(config, workdir) else _finished(workdir)
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


def _finished(workdir: Path) -> dict[str, Any] | None:
    """Logs and returns the record of a finished run; returns None if the run has not finished."""
    record = read_run_record(workdir)
    if record is None or "test" not in record:  # a stopped run has a record without a test
        return None
    restore_finished(workdir, record, log)
    log(f"already finished; {format_result({'split': 'test'} | record['test'])}")
    return record


class _Run:
    """An experiment in a work directory."""

    def __init__(self, config: ConfigDict, experiment: Experiment, workdir: Path):
        self.config, self.workdir = config, workdir
        self._saved_config = load_run_config(workdir).to_dict()
        self.experiment, self.settings = experiment, experiment.settings
        self.metrics = JsonLines(workdir / "metrics.jsonl", METRICS)
        self.timing = JsonLines(workdir / "timing.jsonl", TIMING)
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        restored = self.checkpoints.restore_latest(experiment.state_shapes())
        self.state: State = experiment.init_state() if restored is None else restored
        self.step = int(self.state.step)
        history = None if restored is None else self.checkpoints.history(self.step)
        if history is None:
            self._rewind(restored is None)
        else:
            self._restore_files(history)
        rows, timed = self.metrics.rows, self.timing.rows
        self.best = self._best_available(rows)
        self.losses = [row["loss"] for row in rows if row["split"] == "validation"]
        self.clock = Clock(timed[-1] if timed else {})
        self._speed_settings = speed_settings(config)
        self.tensorboard = (
            TensorBoard(workdir / "tensorboard", self.step) if self.settings.tensorboard else None
        )
        self.progress = Progress(self.settings.steps, self.step, experiment.task.items)

    def _rewind(self, from_start: bool) -> None:
        """Drops later steps from the files of a run without a history."""
        rows = self.metrics.read()
        if from_start:
            first = min(self.settings.checkpoint_every, self.settings.eval_every)
            check_no_lost_checkpoints(self.workdir, rows, first)
        else:  # an older version wrote the checkpoints
            file, steps = self.workdir / "metrics.jsonl", self.checkpoints.steps()
            check_rows(rows, steps, self.settings.eval_every, file)
        self.spectra = EigenvalueLog(self.workdir / "spectra", layers=self.experiment.layers)
        self.spectra.rewind(self.step)
        if from_start:
            self.spectra.write(0, self.state.params)
        for lines, found in ((self.metrics, rows), (self.timing, self.timing.read())):
            lines.rewrite([row for row in found if row["step"] <= self.step])

    def _restore_files(self, history: Mapping[str, Any]) -> None:
        """Restores the files to their content when the checkpoint was saved."""
        for lines, name in ((self.metrics, "metrics"), (self.timing, "timing")):
            file = self.workdir / f"{name}.jsonl"
            restore_rows(lines, history[name], file, self.step, log)
        self.spectra = EigenvalueLog(
            self.workdir / "spectra", history["spectra"], self.experiment.layers
        )
        self.spectra.rewind(self.step)
        damaged = self.spectra.damaged()
        if 0 in damaged:
            self.spectra.write(0, self.experiment.init_state().params)
        if self.step in damaged:
            self.spectra.write(self.step, self.state.params)
        check_spectra(self.spectra, self.workdir / "spectra", log)

    def _history(self) -> dict[str, Any]:
        """Returns the history to save in a checkpoint, see `lru.training.history`."""
        return {
            "config": self._saved_config,
            "metrics": self.metrics.rows,
            "timing": self.timing.rows,
            "spectra": self.spectra.digests,
        }

    def _best_available(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Returns the best row that has a checkpoint, and warns if a better one has none."""
        saved = set(self.checkpoints.steps())
        best = best_row(rows, self.settings.select)
        available = best_row([row for row in rows if row["step"] in saved], self.settings.select)
        if best is not None and best is not available:
            log(missing_best_warning(self.checkpoints.path(best["step"]), available))
        return available

    def log_start(self) -> None:
        """Logs the parameter groups, the data, the devices and the work directory."""
        log, dataset = self.progress.log, self.experiment.dataset
        log(format_table(self.experiment.groups))
        log(
            f"data: {self.config.data.type} ({dataset.kind}), {self.experiment.task.summary()}; "
            f"devices: {jax.local_device_count()} {jax.local_devices()[0].device_kind}; "
            f"work directory: {self.workdir}"
        )
        if dataset.note:
            log(f"note: {dataset.note}")
        if self.step:
            log(f"resuming from step {self.step:,}")
        if change := format_change(latest_settings(self.timing.rows), self._speed_settings):
            log(f"the run continues with other settings of speed: {change}")

    def train(self) -> None:
        """Runs the remaining steps.

        Raises:
          Stopped: a signal arrived; all completed steps are saved.
        """
        calls = self.experiment.training_calls(self.step)
        with _stop_signal() as stop_requested:
            while self.step < self.settings.steps and not self._stops_early():
                self.state.step.block_until_ready()  # at most one call runs at a time
                call = self.clock.wait_for_next(calls)
                for chunk in call.chunks(self.clock.steps_at_once):
                    self.state.step.block_until_ready()
                    if number := stop_requested():  # signals are handled between two chunks
                        self._stop(number)
                    self._advance(chunk)
            if number := stop_requested():  # before the test, which may take long
                self._stop(number)

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
                f"validation loss has not improved {self.settings.patience} times in a row: "
                f"ended at step {self.step:,}"
            )
        return early

    def finish(self) -> dict[str, Any]:
        """Tests the checkpoint that was best on validation, and writes figures and record."""
        self.checkpoints.wait()
        best = self.best
        if best is None:
            raise UserError(f"{self.workdir} has no validation metrics; start a new --workdir")
        state = self.checkpoints.restore(best["step"], self.experiment.state_shapes())
        if not any(_is_test(row, best) for row in self.metrics.rows):
            self._test(state, best["step"])
        rows = self.metrics.rows
        test = next(row for row in rows if _is_test(row, best))
        record = self._record(rows, test)
        title = _title(record)
        save_curves(rows, best["step"], self.workdir / "curves.png", title)
        initial = self.experiment.init_state().params
        layers = self.experiment.layers
        spectrum = self.workdir / "spectrum.png"
        drawn = save_spectrum(initial, state.params, spectrum, title, layers)
        self._write_record(record)
        self.progress.close()
        pictures = "curves.png, spectrum.png" if drawn else "curves.png"
        log(f"{format_result(test)}\nsee {pictures}, record.json in {self.workdir}")
        return record

    def _record(
        self, rows: Sequence[Mapping[str, Any]], test: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        self._write_timing()
        timing = self.timing.rows
        return make_record(
            self.config, self.experiment, rows, self.step, self.best, test, timing,
            self._eigenvalues(),
        )  # fmt: skip

    def _eigenvalues(self) -> dict[int, dict[str, Any]] | None:
        """Returns the eigenvalues for the record, before training and at the selected step."""
        if not self.settings.record_eigenvalues:
            return None
        selected = {0, self.best["step"] if self.best else 0}
        steps, layers = self.spectra.trajectories()
        return {
            step: {name: lam[i] for name, lam in layers.items()}
            for i, step in enumerate(steps)
            if step in selected
        }

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_atomically(self.workdir / "record.json", json.dumps(record, indent=2) + "\n")

    def close(self) -> None:
        """Closes all files, even if closing one of them fails."""
        with ExitStack() as stack:
            if self.tensorboard:
                stack.callback(self.tensorboard.close)
            stack.callback(self.checkpoints.close)
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
        self._write(row)
        self.spectra.write(self.step, self.state.params)
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
                f"the loss on the test split, of the checkpoint of step {step:,}, is not finite; "
                "try a lower config.optimizer.learning_rate, in a new --workdir"
            )
        self._write({"step": step, "split": "test"} | metrics)

    def _save(self) -> None:
        self._check_finite()
        self._write_timing()
        best = self.best["step"] if self.best else None
        self.checkpoints.save(self.step, self.state, best, self._history())

    def _log(self) -> None:
        self._check_finite()
        self.state, metrics = self.experiment.take_metrics(self.state)
        rate = float(self.experiment.schedule(self.step - 1))  # the rate of the step just done
        self._write({"step": self.step, "split": "train", "learning_rate": rate} | metrics)
        speed, waited = self.clock.read(self.step)
        self._write_timing(speed, waited)
        self.progress.show(self.step, metrics, speed, waited)

    def _write(self, row: Mapping[str, Any]) -> None:
        self.metrics.write(row)
        if self.tensorboard:
            self.tensorboard.write(row)

    def _write_timing(self, speed: float | None = None, waited: float | None = None) -> None:
        settings = self._speed_settings  # in the first line that they hold for
        known = latest_settings(self.timing.rows) == settings
        self.timing.write(
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
        self.checkpoints.wait()
        good = self.checkpoints.steps()
        where = str(self.checkpoints.path(good[-1])) if good else "none yet"
        raise Diverged(
            f"the loss or the parameters were not finite at step {step:,}; last good checkpoint: "
            f"{where}\na lower config.optimizer.learning_rate, in a new --workdir, may help"
        )

    def _stop(self, number: int) -> NoReturn:
        self._save()
        self.checkpoints.wait()
        self._write_record(self._record(self.metrics.rows, test=None))
        self.progress.close()
        log(f"stopped by a signal; saved at step {self.step:,}: run the same command to resume")
        raise Stopped(number)


def _is_test(row: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return row["split"] == "test" and row["step"] == best["step"]


def _title(record: Mapping[str, Any]) -> str:
    """Returns the title of a figure: the data, the model and the score, in two lines."""
    return (
        f"{run_name(record['config'])}, {record['data']} data, "
        f"{record['parameters']:,} parameters\n"
        f"test {format_score(record['test'])}, checkpoint of step {record['test']['step']:,}"
    )


@contextmanager
def _stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the number of the first SIGTERM or SIGINT, or None.

    Training stops after the current chunk of steps; a second SIGINT interrupts at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread receives signals
        return

    def note(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
