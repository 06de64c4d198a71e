"""Lets several processes train one run together, with JAX's distributed runtime.

All processes run the same program, each on its own devices, and have the same losses. Therefore
they make the same decisions. They exchange what only one process knows: a signal, an error, the
time per step. Only process 0 writes into the work directory, except for the checkpoints: Orbax
writes these from all processes.

When a process receives a signal during training, all processes save the run and stop (`largest`).
When a process fails before training, all end (`in_turn`). When a process dies, the others fail in
their next exchange with it, or JAX aborts them about a minute later. `lost` recognizes the error of
a failed exchange, and `lru.command_line` reports it and ends the process.

With a single process, no function here communicates.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from lru.errors import UserError
from lru.io.files import write_atomically
from lru.training.rendezvous import HOW, meet

T = TypeVar("T")
_HEARTBEAT_SECONDS = 60  # a process that has been silent for this long counts as lost
_CONNECT_SECONDS = 60
# Environment variables in which launchers give the number of processes.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes of a run, if the arguments or the environment ask for it.

    JAX finds the processes that SLURM, Open MPI or a TPU pod has launched. Elsewhere every process
    gets the same address and number of processes, and its own number, as arguments or in the
    environment variables `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`.

    Args:
      coordinator: the address of process 0, `HOST:PORT`.
      num_processes: the number of processes.
      process_id: the number of this process, from 0.

    Raises:
      UserError: an argument or a variable is missing or wrong, or the processes do not find each
        other. If JAX does not connect them within a minute, this process prints an error message
        and exits instead.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if num_processes is None:
        num_processes = _number("JAX_NUM_PROCESSES")
    if process_id is None:
        process_id = _number("JAX_PROCESS_ID")
    launched = any((_number(name) or 1) > 1 for name in _LAUNCHERS)
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    by_hand = (coordinator, num_processes, process_id) != (None, None, None)
    if not (by_hand or launched or pod):
        return
    if by_hand and not launched:
        numbers = _check(coordinator, num_processes, process_id)
        if num_processes == 1:
            return
        meet(*numbers, _CONNECT_SECONDS)
    where = f" at {coordinator}" if coordinator else ""
    with _patience(where):
        try:
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=2 * _CONNECT_SECONDS,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise UserError(f"cannot join the other processes{where}: {first}; {HOW}") from error
        with _quiet():
            from_first(0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discards standard output in a `with` block, in which Gloo prints a line as it connects."""
    sys.stdout.flush()
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


@contextmanager
def _patience(where: str) -> Iterator[None]:
    """Ends this process with an error message if the `with` block takes more than a minute.

    The block waits for the other processes to join. JAX would wait longer, then abort the process.
    """

    def give_up() -> None:
        print(
            f"error: not all processes joined the run{where} within {_CONNECT_SECONDS} s; {HOW}",
            file=sys.stderr,
        )
        leave(2)

    timer = threading.Timer(_CONNECT_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _number(name: str) -> int | None:
    """Returns the whole number in an environment variable; None if it is not set or is empty."""
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r} in the environment; expected a whole number")
    return int(text)


def _check(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[str, int, int]:
    given = {
        "--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id
    }  # fmt: skip
    if missing := [name for name, value in given.items() if value is None]:
        raise UserError(
            f"{' and '.join(missing)} is missing; several processes need --coordinator=HOST:PORT, "
            "--num_processes and --process_id"
        )
    assert coordinator is not None and num_processes is not None and process_id is not None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator is {coordinator!r}; expected HOST:PORT")
    if num_processes < 1:
        raise UserError(f"--num_processes is {num_processes}; expected at least 1")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id is {process_id}, and --num_processes is {num_processes}; expected a "
            f"--process_id from 0 to {num_processes - 1}"
        )
    return coordinator, num_processes, process_id


def is_first() -> bool:
    """Returns whether this is process 0, the first process of the run."""
    return jax.process_index() == 0


def are_several() -> bool:
    """Returns whether the run has more than one process."""
    return jax.process_count() > 1


def largest(number: int) -> int:
    """Returns the largest of all processes' values of `number`, in every process."""
    return int(np.max(_gather(number))) if are_several() else number


def from_first(number: int) -> int:
    """Returns process 0's value of `number`, in every process."""
    return int(_gather(number)[0]) if are_several() else number


def _gather(number: int) -> np.ndarray:
    return multihost_utils.process_allgather(np.int32(number))


def in_turn(action: Callable[[], T]) -> T:
    """Calls an action in process 0, then in the other processes; returns this process's result.

    The other processes can therefore read files that process 0 creates. They do not call the action
    if it fails in process 0. A process in which the action fails raises the error of the action.

    Raises:
      UserError: the action failed in other processes only.
    """
    if not are_several():
        return action()
    result: Any = None
    error: Exception | None = None
    for first in (True, False):
        if is_first() is first:
            try:
                result = action()
            except Exception as raised:
                error = raised
        if failed := largest(0 if error is None else 1 + jax.process_index()):
            raise error or UserError(f"process {failed - 1} of this run failed; see its output")
    return result


def check_same(what: str, text: str) -> None:
    """Checks that all processes have the same text.

    Args:
      what: the name of the texts in the message, in the plural, such as "configs".
      text: this process's text.

    Raises:
      UserError: the texts differ.
    """
    if not are_several():
        return
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:3])
    if (_gather(digest) != digest).any():
        raise UserError(
            f"the processes of this run have different {what}; give all processes the same"
        )


def check_shared(directory: Path) -> None:
    """Checks that all processes share a directory: process 0 writes a number, the others read it.

    Raises:
      UserError: a process does not find the number.
    """
    if not are_several():
        return
    file, number = directory / "shared", str(from_first(secrets.randbits(30)))

    def check() -> None:
        if is_first():
            write_atomically(file, number)
        elif not file.exists() or file.read_text() != number:
            raise UserError(
                f"{directory} is not the directory of process 0; several processes need a "
                "--workdir and a --data_dir that all of them can read and write"
            )

    try:
        in_turn(check)
    finally:
        if is_first():
            file.unlink(missing_ok=True)


def leave(exit_code: int) -> NoReturn:
    """Ends this process at once, without exit handlers.

    JAX's exit handler would wait for the other processes, which may be waiting for this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def lost(error: Exception) -> str:
    """Returns a message if an error shows that another process is lost, else ""."""
    text = str(error)
    signs = ("Gloo", "gloo", "NCCL", "Connection closed", "coordination service", "preempted/died")
    if not (are_several() and any(sign in text for sign in signs)):
        return ""
    return (
        "another process of this run has ended or cannot be reached\nrun the same command in all "
        "processes again: the run resumes from its last checkpoint"
    )
