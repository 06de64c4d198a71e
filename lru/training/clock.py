"""Measures a run's seconds over all restarts, its speed, and its wait for input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS_PER_CALL = 1.0  # a signal is handled only between two chunks of steps


class Clock:
    """Measures a run's total time, its speed, and its wait for input.

    The total time covers all restarts of the run. The wait for input is the time spent waiting for
    the batches of the next call of the compiled program while no call runs; only in this time are
    the devices idle for lack of input. The first wait begins when training starts, and includes
    reading the data. `read` returns the wait as a share of the wall time since the last `restart`
    or `read`; the record has it as a share of the whole run.

    Args:
      before: the last line of the run's `timing.jsonl`; empty for a new run.

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
        """Returns the seconds of the run so far."""
        return time.monotonic() - self._start

    def wait_for_next(self, calls: Iterator[T]) -> T:
        """Returns the next of `calls` and measures the wait; the previous call must have ended."""
        since = time.monotonic()
        call = next(calls)
        self.input_wait_seconds += time.monotonic() - since
        return call

    def restart(self, step: int) -> None:
        """Starts a new measurement, which excludes any earlier compilation and evaluation."""
        self.new, self._step, self._since = False, step, time.monotonic()
        self._waited_before = self.input_wait_seconds

    @property
    def has_pace(self) -> bool:
        """True once the time per step is known."""
        return self._pace < math.inf

    def set_pace(self, step: int) -> None:
        """Sets the time per step to its mean since the last `restart` or `read`."""
        self._pace = (time.monotonic() - self._since) / (step - self._step)

    def steps_at_once(self) -> int:
        """Returns the number of steps that take about a second, at least 1; 1 if it is unknown."""
        return int(max(1, _SECONDS_PER_CALL / max(self._pace, 1e-6)))

    def read(self, step: int) -> tuple[float | None, float | None]:
        """Returns steps per second and the share of time spent waiting for input, then restarts.

        Both are None if there was no step since the last `restart` or `read`.
        """
        if step == self._step:
            return None, None
        seconds = time.monotonic() - self._since
        speed = (step - self._step) / seconds
        self._pace = 1 / speed
        waited = (self.input_wait_seconds - self._waited_before) / seconds
        self.restart(step)
        return speed, waited
