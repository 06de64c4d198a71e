"""Training from a config to its record, in one work directory, through kills and restarts.

The order within a step at which everything happens: update, log, evaluate, save. A line of
metrics is on disk before the checkpoint of its step is, and so are the eigenvalues; what is of
later steps than the checkpoint that a run goes on from is dropped: so the files of an interrupted
run end up the same, byte for byte, as those of an uninterrupted one.
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
from lru.io.files import lock, write_whole
from lru.io.terminal import log
from lru.training.checkpoint import Checkpoints
from lru.training.clock import Clock
from lru.training.config import check_workdir, is_extended, load_run_config, save_config
from lru.training.data_digests import check_data
from lru.training.description import Description
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.experiment import Call, Experiment, State
from lru.training.figures import name_of, save_curves, save_spectrum
from lru.training.history import METRICS, TIMING
from lru.training.init_from import begin, check_source, read_initial
from lru.training.optimizer import format_table
from lru.training.record import format_result, format_score, make_record
from lru.training.recovery import (
    check_nothing_is_lost,
    check_rows,
    check_spectra,
    missing_best,
    read_run_record,
    restore_config,
    restore_finished,
    restore_rows,
)
from lru.training.selection import best_row, stops_early
from lru.training.writers import JsonLines, Progress, TensorBoard


class Diverged(UserError):
    """The loss or the parameters stopped being finite."""

    exit_code = 1


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
) -> dict[str, Any]:
    """Trains what a config describes, or goes on with it, and evaluates the best checkpoint.

    In the work directory: `config.json`, `checkpoints/`, `metrics.jsonl` (the same for the same
    config, whatever happened in between), `spectra/` (the same too: the eigenvalues at every
    evaluation, of models that have some), `timing.jsonl`; `dataset.json`, what the model was built
    with, and `data.json`, digests of the data; `initial.safetensors` if it begins with other
    weights; and at the end `record.json`, `curves.png`, `spectrum.png`. Where there is a record
    with a test, the run has ended, and nothing is done unless the config has more steps than the
    record; a stopped run leaves one without.

    Args:
      config: what to train; see `Experiment`.
      workdir: of this run alone.
      data_dir: where prepared data sets are kept.
      manual_dir: where files of official releases lie.

    Returns:
      The record of the run.

    Raises:
      Stopped: SIGTERM or SIGINT came before the end; the run is saved.
      UserError: something given is wrong.
      Diverged: the loss or the parameters were not finite.
    """
    restore_config(workdir, log)
    check_workdir(config, workdir)
    check_source(config, workdir)
    experiment = Experiment(config, data_dir, manual_dir)
    experiment.task.check_sizes()
    initial = read_initial(config, workdir, experiment)
    with lock(workdir / "lock") as alone:
        if not alone:
            raise UserError(f"another process is training in {workdir}; wait for it or end it")
        check_workdir(config, workdir)  # another process may have begun in the meantime
        check_data(experiment.dataset, workdir, begin=True)
        save_config(config, workdir)
        if (description := Description.of(experiment)) is not None:
            description.save(workdir)
        begin(config, workdir, experiment, initial)
        finished = None if is_extended(config, workdir) else _finished(workdir)
        if finished is not None:
            return finished
        run = _Run(config, experiment, workdir)
        try:
            run.log_start()
            run.train()
            record = run.finish()
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                run.close()
            raise
        run.close()
        return record


def _finished(workdir: Path) -> dict[str, Any] | None:
    """The record of a run that has ended, after saying what it says; None if it has not."""
    record = read_run_record(workdir)
    if record is None or "test" not in record:  # there is none, or it is of a stopped run
        return None
    restore_finished(workdir, record, log)
    log(f"finished before; {format_result({'split': 'test'} | record['test'])}")
    return record


class _Run:
    """An experiment in a work directory."""

    def __init__(self, config: ConfigDict, experiment: Experiment, workdir: Path):
        self.config, self.workdir = config, workdir
        self._kept_config = load_run_config(workdir).to_dict()
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
        self.best = self._best_there(rows)
        self.losses = [row["loss"] for row in rows if row["split"] == "validation"]
        self.clock = Clock(timed[-1] if timed else {})
        self.tensorboard = (
            TensorBoard(workdir / "tensorboard", self.step) if self.settings.tensorboard else None
        )
        self.progress = Progress(self.settings.steps, self.step, experiment.task.items)

    def _rewind(self, from_the_start: bool) -> None:
        """Drops what the files hold of later steps; for a run without a history."""
        rows = self.metrics.read()
        if from_the_start:
            first = min(self.settings.checkpoint_every, self.settings.eval_every)
            check_nothing_is_lost(self.workdir, rows, first)
        else:  # its checkpoints are of an older version
            file, steps = self.workdir / "metrics.jsonl", self.checkpoints.steps()
            check_rows(rows, steps, self.settings.eval_every, file)
        self.spectra = EigenvalueLog(self.workdir / "spectra", layers=self.experiment.layers)
        self.spectra.rewind(self.step)
        if from_the_start:
            self.spectra.write(0, self.state.params)
        for lines, found in ((self.metrics, rows), (self.timing, self.timing.read())):
            lines.rewrite([row for row in found if row["step"] <= self.step])

    def _restore_files(self, history: Mapping[str, Any]) -> None:
        """Makes the files what they were when the checkpoint was saved."""
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
        """What a checkpoint carries, see `lru.training.history`."""
        return {
            "config": self._kept_config,
            "metrics": self.metrics.rows,
            "timing": self.timing.rows,
            "spectra": self.spectra.digests,
        }

    def _best_there(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The best row whose checkpoint is there, after a warning if there was a better one."""
        kept = set(self.checkpoints.steps())
        best = best_row(rows, self.settings.select)
        there = best_row([row for row in rows if row["step"] in kept], self.settings.select)
        if best is not None and best is not there:
            log(missing_best(self.checkpoints.path(best["step"]), there))
        return there

    def log_start(self) -> None:
        """Says what is about to be trained, and on what."""
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
            log(f"going on from step {self.step:,}")

    def train(self) -> None:
        """Runs the steps that are left.

        Raises:
          Stopped: a signal came; all that was done is saved.
        """
        calls = self.experiment.training_calls(self.step)
        with _stop_signal() as stop_requested:
            while self.step < self.settings.steps and not self._stops_early():
                self.state.step.block_until_ready()  # at most one call is under way
                call = self.clock.waiting_for(calls)
                for part in call.parts(self.clock.steps_at_once):
                    self.state.step.block_until_ready()
                    if number := stop_requested():  # a signal is heard between two parts
                        self._stop(number)
                    self._advance(part)
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
        """Tests the checkpoint that was best on validation, and leaves pictures and record."""
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
        """Before training and of the selected checkpoint, if the record is to have them."""
        if not self.settings.record_eigenvalues:
            return None
        selected = {0, self.best["step"] if self.best else 0}
        steps, layers = self.spectra.paths()
        return {
            step: {name: lam[i] for name, lam in layers.items()}
            for i, step in enumerate(steps)
            if step in selected
        }

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_whole(self.workdir / "record.json", json.dumps(record, indent=2) + "\n")

    def close(self) -> None:
        """Leaves nothing half-written: closes all, even if one of them fails."""
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
        rate = float(self.experiment.schedule(self.step - 1))  # the one this step was made with
        self._write({"step": self.step, "split": "train", "learning_rate": rate} | metrics)
        speed, waited = self.clock.read(self.step)
        self._write_timing(speed, waited)
        self.progress.show(self.step, metrics, speed, waited)

    def _write(self, row: Mapping[str, Any]) -> None:
        self.metrics.write(row)
        if self.tensorboard:
            self.tensorboard.write(row)

    def _write_timing(self, speed: float | None = None, waited: float | None = None) -> None:
        self.timing.write(
            {
                "step": self.step,
                "seconds": round(self.clock.seconds(), 3),
                "steps_per_second": speed,
                "input_wait_share": waited,
                "input_wait_seconds": round(self.clock.input_wait_seconds, 3),
            }
        )

    def _check_finite(self) -> None:
        step = int(self.state.diverged_at)
        if step >= 0:
            self._diverged(step)

    def _diverged(self, step: int) -> NoReturn:
        self.checkpoints.wait()
        good = self.checkpoints.steps()
        where = str(self.checkpoints.path(good[-1])) if good else "there is none yet"
        raise Diverged(
            f"the loss or the parameters were not finite at step {step:,}; last good checkpoint: "
            f"{where}\na lower config.optimizer.learning_rate, in a new --workdir, may help"
        )

    def _stop(self, number: int) -> NoReturn:
        self._save()
        self.checkpoints.wait()
        self._write_record(self._record(self.metrics.rows, test=None))
        self.progress.close()
        log(f"stopped by a signal; saved at step {self.step:,}: the same command goes on from it")
        raise Stopped(number)


def _is_test(row: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return row["split"] == "test" and row["step"] == best["step"]


def _title(record: Mapping[str, Any]) -> str:
    """What was trained on what, and its score: two lines above a picture."""
    return (
        f"{name_of(record['config'])}, {record['data']} data, "
        f"{record['parameters']:,} parameters\n"
        f"test {format_score(record['test'])}, checkpoint of step {record['test']['step']:,}"
    )


@contextmanager
def _stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the number of the first SIGTERM or SIGINT, or None.

    Training stops after the part under way; a second SIGINT interrupts at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread hears signals
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
