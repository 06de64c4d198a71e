"""Measures a run's seconds over all restarts, its speed, and its wait for input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS_PER_CALL = 1.0  # a signal waits for the end of a call


class Clock:
    """Measures seconds over all restarts, and speed and wait for input since the last reading.

    The wait for input is the time from the end of a call of the compiled program until the batches
    of the next call are ready: the devices are idle for no other reason. The first wait starts
    with training, when the data are read. Its share is of wall time: of training between two logs,
    and of the whole run in the record.

    Args:
      before: the last line of the run's `timing.jsonl`; empty for a new run.

    Attributes:
      input_wait_seconds: seconds waited for input so far.
      new: whether the clock has not been restarted yet, so that its reading would include
        compilation.
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
        """Returns the next call and measures the wait; call it when the previous one has ended."""
        since = time.monotonic()
        call = next(calls)
        self.input_wait_seconds += time.monotonic() - since
        return call

    def restart(self, step: int) -> None:
        """Starts a new measurement, which excludes compilation and evaluation before it."""
        self.new, self._step, self._since = False, step, time.monotonic()
        self._waited_before = self.input_wait_seconds

    @property
    def has_pace(self) -> bool:
        """Whether the time per step is known."""
        return self._pace < math.inf

    def set_pace(self, step: int) -> None:
        """Measures the time per step from the steps since the last restart or reading."""
        self._pace = (time.monotonic() - self._since) / (step - self._step)

    def steps_at_once(self) -> int:
        """Returns the number of steps in about a second, at least 1; 1 while it is not known."""
        return int(max(1, _SECONDS_PER_CALL / max(self._pace, 1e-6)))

    def read(self, step: int) -> tuple[float | None, float | None]:
        """Returns steps per second and the share of time waited for input, then restarts.

        Both are None if there was no step since the last reading.
        """
        if step == self._step:
            return None, None
        seconds = time.monotonic() - self._since
        speed = (step - self._step) / seconds
        self._pace = 1 / speed
        waited = (self.input_wait_seconds - self._waited_before) / seconds
        self.restart(step)
        return speed, waited
