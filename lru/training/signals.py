"""Notes the signals that ask training to stop, so that the run can be saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the number of the first SIGTERM or SIGINT received, or None.

    In the `with` block, these signals do not interrupt the program, except that a SIGINT after the
    first signal raises KeyboardInterrupt. Outside the main thread, the handling of signals does not
    change, and the function always returns None.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread handles signals
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
