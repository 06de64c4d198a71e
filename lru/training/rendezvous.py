"""Lets the processes of a run find each other, and compare their numbers, before JAX connects them.

JAX aborts a process that it does not expect, with a stack trace. So process 0 first listens at the
coordinator's address, where each other process sends one line with its number and the number of
processes. Process 0 answers all of them at once: with "ok", or with what does not fit.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress

from lru.errors import UserError

HOW = (
    "start all of them with the same --coordinator and --num_processes, each with its own "
    "--process_id"
)
_PREFIX = "lru: "  # of every line
_OK = "ok"
_GUEST = re.compile(_PREFIX + r"(\d{1,9}) (\d{1,9})\n")  # a guest's line: the two numbers
_READ_SECONDS = 5  # others, such as port scanners, may connect and send nothing
_MAX_LINE = 1000


def meet(coordinator: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Waits for all processes of a run, and checks that their numbers fit together.

    They fit if all processes have the same `num_processes`, and each its own `process_id`.

    Args:
      coordinator: the address of process 0, `HOST:PORT`.
      num_processes: the number of processes, as this process was told.
      process_id: the number of this process, from 0.
      seconds: how long to wait.

    Raises:
      UserError: the numbers do not fit together, not all processes come in time, process 0 cannot
        use the port, or this process does not find process 0 at the address.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + seconds
    if process_id == 0:
        _host(int(port), num_processes, deadline)
    else:
        _call(host.strip("[]"), int(port), num_processes, process_id, deadline)


def _host(port: int, num_processes: int, deadline: float) -> None:
    """Waits for the other processes, and answers all that have come.

    Raises:
      UserError: as in `meet`.
    """
    missing, guests, problem = set(range(1, num_processes)), [], ""
    with ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        while missing and not problem:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                guest = stack.enter_context(server.accept()[0])
            except TimeoutError:
                absent = ", ".join(map(str, sorted(missing)))
                problem = f"these have not come in time: --process_id={absent}"
                break
            if not (line := _GUEST.fullmatch(_read_line(guest))):
                continue  # another program, such as a port scanner
            guests.append(guest)
            count, number = int(line[1]), int(line[2])
            if count != num_processes:
                problem = f"process {number} has --num_processes={count}, process 0 {num_processes}"
            elif number not in missing:
                problem = f"two processes have --process_id={number}"
            missing.discard(number)
        for guest in guests:
            with suppress(OSError):  # it may have been killed
                guest.sendall(f"{_PREFIX}{problem or _OK}\n".encode())
            _read_line(guest)  # returns when the guest has closed, so the port is free for JAX
    if problem:
        raise _mismatch(problem)


def _listen(port: int) -> socket.socket:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        return socket.create_server(
            ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise UserError(
            f"port {port} of --coordinator cannot be used ({error.strerror}); choose another"
        ) from error


def _mismatch(problem: str) -> UserError:
    return UserError(f"the processes do not fit together: {problem}; {HOW}")


def _call(host: str, port: int, num_processes: int, process_id: int, deadline: float) -> None:
    """Sends `num_processes` and `process_id` to process 0.

    Raises a UserError unless process 0 answers that the processes fit together.
    """
    with _connect(host, port, deadline) as connection:
        connection.sendall(f"{_PREFIX}{num_processes} {process_id}\n".encode())
        connection.settimeout(max(deadline - time.monotonic(), 0) + _READ_SECONDS)
        answer = _read_line(connection).strip()
    if not answer.startswith(_PREFIX):
        raise UserError(
            f"{host}:{port} does not answer as process 0 of a run that waits for processes: the "
            f"run has started without this process, or another program uses the port; {HOW}"
        )
    if answer != _PREFIX + _OK:
        raise _mismatch(answer.removeprefix(_PREFIX))


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Returns a connection to process 0; waits until the deadline for that process to start.

    Raises:
      UserError: process 0 cannot be reached.
    """
    while True:
        left = deadline - time.monotonic()
        try:
            return socket.create_connection((host, port), timeout=max(left, 0.01))
        except OSError as error:
            if left <= 0 or isinstance(error, socket.gaierror):
                reason = error.strerror or "no answer"
                raise UserError(f"process 0 is not at {host}:{port} ({reason}); {HOW}") from error
        time.sleep(min(0.2, max(left, 0)))


def _read_line(connection: socket.socket) -> str:
    """Returns a line of ASCII text, or "" if there is none: the other side may be any program."""
    if connection.gettimeout() is None:
        connection.settimeout(_READ_SECONDS)
    try:
        with connection.makefile("rb") as file:
            return file.readline(_MAX_LINE).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
