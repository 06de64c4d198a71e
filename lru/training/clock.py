"""Measures a run's total time over all restarts, its speed, and its wait for input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS_PER_CALL = 1.0  # a signal is handled only between two chunks of steps


class Clock:
    """Measures a run's total time, its speed, and its wait for input.

    The total time and the wait for input continue those in `before`. The wait is the time in which
    the devices are idle for lack of input: no call of the compiled program is running, and the
    batches of the next call are not ready. The first wait begins when training starts, and includes
    reading the data. `read` returns the wait as a share of the time since the last `restart` or
    `read`. The record contains the wait as a share of the total time.

    Args:
      before: the last line of the run's `timing.jsonl`; `{}` for a new run.

    Attributes:
      input_wait_seconds: the seconds that the run has waited for input so far.
      new: True until the first call of `restart`; a reading before that would include compilation.
    """

    def __init__(self, before: Mapping[str, Any]):
        self.input_wait_seconds: float = before.get("input_wait_seconds", 0.0)
        self._start = time.monotonic() - before.get("seconds", 0.0)
        self._pace = math.inf  # seconds per step; infinite until it is known
        self.restart(0)
        self.new = True

    def seconds(self) -> float:
        """Returns the total time of the run so far, in seconds."""
        return time.monotonic() - self._start

    def wait_for_next(self, calls: Iterator[T]) -> T:
        """Returns the next item of `calls`, and adds the wait for it to `input_wait_seconds`.

        The devices must be idle: the previous call of the compiled program must have ended.
        """
        since = time.monotonic()
        call = next(calls)
        self.input_wait_seconds += time.monotonic() - since
        return call

    def restart(self, step: int) -> None:
        """Starts a new measurement at a step, to exclude earlier compilation and evaluation."""
        self.new, self._step, self._since = False, step, time.monotonic()
        self._waited_before = self.input_wait_seconds

    @property
    def has_pace(self) -> bool:
        """Whether the time per step is known."""
        return self._pace < math.inf

    def set_pace(self, step: int) -> None:
        """Sets the time per step to its mean since the last `restart` or `read`."""
        self._pace = (time.monotonic() - self._since) / (step - self._step)

    def steps_at_once(self) -> int:
        """Returns the number of steps that take about a second, at least 1.

        Returns 1 if the time per step is not known yet.
        """
        return int(max(1, _SECONDS_PER_CALL / max(self._pace, 1e-6)))

    def read(self, step: int) -> tuple[float | None, float | None]:
        """Returns the speed and the share of waiting time, and starts a new measurement.

        The speed is in steps per second, and the waiting time is the wait for input. If there was
        no step since the last `restart` or `read`, both numbers are None, and the measurement
        continues.
        """
        if step == self._step:
            return None, None
        seconds = time.monotonic() - self._since
        speed = (step - self._step) / seconds
        self._pace = 1 / speed
        waited = (self.input_wait_seconds - self._waited_before) / seconds
        self.restart(step)
        return speed, waited
