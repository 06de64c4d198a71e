"""The clock of a run: its seconds over all restarts, its speed, and how long it waits for input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_AT_ONCE = 1.0  # seconds of steps in one call: as long as a signal has to wait


class Clock:
    """Seconds of the run, over all restarts; speed, and wait for input, since it was last read.

    A wait for input is the time from the end of a call of the compiled program to the moment when
    the next one's batches are there: the devices have nothing to do, and nothing else keeps them
    from work; or, for the first one, from the start, when the data are read. Its share is of the
    wall time: of training's between two logs, of the whole run's in the record.

    Args:
      before: the last line of the run's `timing.jsonl`; empty for a run that begins.

    Attributes:
      input_wait_seconds: waited for input so far.
      new: whether it was not restarted yet, so that compilation is still in what it would read.
    """

    def __init__(self, before: Mapping[str, Any]):
        self.input_wait_seconds: float = before.get("input_wait_seconds", 0.0)
        self._start = time.monotonic() - before.get("seconds", 0.0)
        self._pace = math.inf  # seconds a step, until it is known
        self.restart(0)
        self.new = True

    def seconds(self) -> float:
        """Of the run so far."""
        return time.monotonic() - self._start

    def waiting_for(self, calls: Iterator[T]) -> T:
        """The next one; to be asked for when the one before has ended."""
        since = time.monotonic()
        call = next(calls)
        self.input_wait_seconds += time.monotonic() - since
        return call

    def restart(self, step: int) -> None:
        """Leaves out what was not training: compilation, evaluation."""
        self.new, self._step, self._then = False, step, time.monotonic()
        self._waited_then = self.input_wait_seconds

    @property
    def has_pace(self) -> bool:
        """Whether it is known how long a step takes."""
        return self._pace < math.inf

    def set_pace(self, step: int) -> None:
        """Learns it from the steps since it was restarted or read."""
        self._pace = (time.monotonic() - self._then) / (step - self._step)

    def steps_at_once(self) -> int:
        """As many as take about a second, one at least; one while it is not known."""
        return int(max(1, _AT_ONCE / max(self._pace, 1e-6)))

    def read(self, step: int) -> tuple[float | None, float | None]:
        """Steps a second, and the share waited for input; None if no step was made since."""
        if step == self._step:
            return None, None
        seconds = time.monotonic() - self._then
        speed = (step - self._step) / seconds
        self._pace = 1 / speed
        waited = (self.input_wait_seconds - self._waited_then) / seconds
        self.restart(step)
        return speed, waited
