"""Laws of the clock of a run, with a fake time."""

import pytest

from lru.training.clock import Clock


@pytest.fixture
def passing(monkeypatch):
    """Returns `passing(seconds)`, which advances the fake time."""
    now = [1000.0]

    def passing(seconds):
        now[0] += seconds

    monkeypatch.setattr("lru.training.clock.time.monotonic", lambda: now[0])
    return passing


def waiting(passing, seconds):
    while True:
        passing(seconds)
        yield "call"


def test_speed_and_wait_cover_training_since_the_last_reading(passing):
    clock = Clock({})
    passing(30)  # compilation
    clock.restart(10)
    assert clock.wait_for_next(waiting(passing, 2)) == "call"
    passing(6)
    assert clock.read(50) == (40 / 8, 2 / 8)
    passing(5)
    assert clock.read(60) == (2.0, 0.0)
    passing(100)  # an evaluation
    clock.restart(60)
    passing(5)
    assert clock.read(70) == (2.0, 0.0)
    assert clock.seconds() == 30 + 8 + 5 + 100 + 5 and clock.input_wait_seconds == 2


def test_zero_steps_have_no_speed(passing):
    clock = Clock({})
    clock.restart(10)
    passing(5)
    assert clock.read(10) == (None, None)
    passing(5)
    assert clock.read(20) == (1.0, 0.0)  # of all ten seconds


def test_a_call_lasts_about_a_second(passing):
    clock = Clock({})
    assert not clock.has_pace and clock.steps_at_once() == 1
    clock.restart(1)
    passing(0.125)
    clock.set_pace(2)
    assert clock.has_pace and clock.steps_at_once() == 8
    clock.restart(2)
    passing(60)
    clock.read(12)  # slower now, by six seconds a step
    assert clock.steps_at_once() == 1


def test_seconds_and_waits_continue_after_a_restart(passing):
    clock = Clock({"seconds": 100.0, "input_wait_seconds": 7.0})
    assert clock.new
    passing(3)
    clock.wait_for_next(waiting(passing, 1))
    assert clock.seconds() == 104.0 and clock.input_wait_seconds == 8.0
