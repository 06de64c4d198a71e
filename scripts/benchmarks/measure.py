"""The command of `scripts/benchmark.py`: measures candidates in processes that take turns."""

from __future__ import annotations

import dataclasses
import importlib
import json
import multiprocessing
import os
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import COLUMNS, format_row
from lru.command_line import Parser, path

KINDS = ("model", "layer", "recurrence", "length", "stream", "language")
DEFAULTS = {
    "model": (
        "lru",
        "Appendix A",
        "products",
        "products, again",
        "elementwise",
        "lru, kept",
        "lru, associative",
        "S4D",
        "S5",
        "GRU",
    ),
    "layer": (
        "lru",
        "Appendix A",
        "products",
        "elementwise",
        "lru, kept",
        "elementwise, kept",
        "S4D",
        "S5",
    ),
    "recurrence": ("copy", "sequential", "associative"),
    "length": ("lru", "Appendix A"),
    "stream": ("lru",),
    "language": ("LRU, plain", "LRU, wavefront", "products", "GRU", "nn.GRUCell", "linear LRU"),
}


def main(argv: Sequence[str], description: str | None = None) -> None:
    """Parses the arguments, measures the programs and prints the table.

    With --out, the command also writes the record and, for the kind "length", the plot.
    """
    parser = Parser(prog="python scripts/benchmark.py", description=description)
    parser.add_argument("kind", choices=KINDS, help="what to measure")
    parser.add_argument(
        "--shapes", type=_names, help="names, separated by commas; the default depends on the kind"
    )
    parser.add_argument(
        "--parts",
        type=_names,
        help="forward, gradient, step, separated by commas; the default depends on the kind",
    )
    # The commands of existing records use the second name.
    parser.add_argument(
        "--candidates",
        "--contestants",
        type=_names,
        help="names, separated by semicolons; the default depends on the kind",
    )
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds; default: 7")
    parser.add_argument("--compiles", type=int, default=1, help="number of compilations to time")
    parser.add_argument("--paper_batch", action="store_true", help="use Table 10's batch sizes")
    parser.add_argument("--longest", type=int, default=2**20, help="the largest T for kind length")
    parser.add_argument(
        "--memory_gb", type=float, default=_memory_gb() / 2, help="the memory limit of one program"
    )
    parser.add_argument(
        "--out", type=path, help="the JSON file to write, with a plot beside it for kind length"
    )
    arguments = parser.parse_args(argv)
    if min(arguments.rounds, arguments.compiles) < 1:
        parser.error(
            f"--rounds is {arguments.rounds} and --compiles is {arguments.compiles}; expected at "
            "least 1 of each"
        )
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU
    length = arguments.kind == "length"
    kind = "model" if length else arguments.kind
    programs = programs_of(kind)
    candidates = _chosen(
        parser, "candidates", arguments, programs.candidates(kind), DEFAULTS[arguments.kind]
    )
    parts, every = programs.PARTS[kind], programs.SHAPES
    parts = _chosen(parser, "parts", arguments, parts, ("step",) if length else parts)
    usual = ["listops"] if kind == "stream" else [name for name in every if name != "long"]
    names = ["long"] if length else _chosen(parser, "shapes", arguments, every, usual)
    shapes = {name: every[name] for name in names}
    if length:
        lengths = [4**n for n in range(5, 16) if 4**n <= arguments.longest]
        shapes = {f"T={n:,}": dataclasses.replace(every["long"], time=n) for n in lengths}
    if arguments.paper_batch:
        if kind == "language":
            parser.error(
                "--paper_batch is for the models of Table 10, not for language; leave it out"
            )
        shapes = {
            name: dataclasses.replace(shape, batch=shape.paper_batch or shape.batch)
            for name, shape in shapes.items()
        }
    rows = []
    rule = "---".join("|" * (COLUMNS.count("|") + 2))
    print(f"| {COLUMNS} |\n{rule}", flush=True)
    for name, shape in shapes.items():
        for row in measure(kind, candidates, parts, name, shape, arguments):
            rows.append(row)
            print(f"| {' | '.join(format_row(row))} |", flush=True)
        if arguments.out:
            write(arguments.out, rows, [word for word in argv if not word.startswith("--out")])
    if arguments.out and length:
        from benchmarks.plot import plot_lengths

        plot_lengths(rows, arguments.out.with_suffix(".png"))


def programs_of(kind: str) -> Any:
    """Imports and returns the module that builds the programs of a kind."""
    # Imported on demand, because the module imports JAX.
    return importlib.import_module(f"benchmarks.{'language' if kind == 'language' else 'programs'}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";" if ";" in text else ",") if name]


def _chosen(parser, what, arguments, known, default) -> Sequence[str]:
    chosen = getattr(arguments, what) or default
    for name in chosen:
        if name not in known:
            parser.error(f"--{what} has no {name!r}; expected some of {'; '.join(known)}")
    return chosen


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def measure(kind, candidates, parts, name, shape, arguments) -> Iterable[dict[str, Any]]:
    """Measures every part of every candidate at one shape, and yields the rows.

    Each candidate has its own process. For each part, the candidates are compiled one after
    another, then run in turn.
    """
    context = multiprocessing.get_context("spawn")
    workers = {candidate: Worker(context) for candidate in candidates}
    try:
        for part in parts:
            rows = {}
            for candidate, worker in workers.items():
                job = (kind, candidate, part, shape, arguments.compiles, arguments.memory_gb)
                row = {"shape": name, **dataclasses.asdict(shape)}
                rows[candidate] = row | {"part": part, "contestant": candidate} | worker.ask(job)
            running = {c: worker for c, worker in workers.items() if "skipped" not in rows[c]}
            seconds: dict[str, list[float]] = {c: [] for c in running}
            for _ in range(arguments.rounds):
                for candidate, worker in running.items():
                    seconds[candidate].append(worker.ask("run"))
            for candidate, worker in running.items():
                row, first = rows[candidate], seconds.get(candidates[0], seconds[candidate])
                row |= _summary(seconds[candidate], first)
                if moved := row.pop("moved_bytes"):
                    row["bytes_per_second"] = moved / row["median_seconds"]
                if tokens := row.pop("tokens"):
                    row["tokens_per_second"] = tokens / row["median_seconds"]
                row["peak_bytes"] = worker.ask("peak")
            yield from rows.values()
    finally:
        for worker in workers.values():
            worker.close()


def _summary(seconds, first) -> dict[str, Any]:
    return {
        "seconds": [round(s, 6) for s in seconds],
        "median_seconds": statistics.median(seconds),
        # The median of the ratios to the first candidate's time in the same round.
        "ratio": statistics.median(mine / its for mine, its in zip(seconds, first)),
    }


class Worker:
    """A process that runs one candidate and answers requests."""

    def __init__(self, context):
        self._connection, remote = context.Pipe()
        self._process = context.Process(target=serve, args=(remote,), daemon=True)
        self._process.start()
        remote.close()

    def ask(self, request: Any) -> Any:
        self._connection.send(request)
        try:
            return self._connection.recv()
        except EOFError as error:
            raise MemoryError(
                "the process of a candidate ended, perhaps because there was too little memory"
            ) from error

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def serve(connection) -> None:
    """Answers requests until the connection is closed.

    A request is "run", "peak" or the arguments of `_compiled`. The answer is the seconds per call,
    the process's peak memory in bytes, or the entries that `_compiled` returns, respectively.
    """
    program, arguments = None, ()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if request == "run":
            seconds, arguments = _timed(program, arguments)
            connection.send(seconds)
        elif request == "peak":
            unit = 1 if sys.platform == "darwin" else 1024
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        else:
            program, arguments = None, ()  # frees the previous program
            program, row = _compiled(*request)
            if program is not None:  # the first run is slower than the others
                _, arguments = _timed(program, program.arguments)
                program = dataclasses.replace(program, arguments=())
            connection.send(row)


def _timed(program, arguments):
    """Calls a program `program.calls` times.

    Returns:
      The seconds per call, and the arguments of the next call.
    """
    import jax

    begin = time.perf_counter()
    for _ in range(program.calls):
        outputs = program.function(*arguments)
        arguments = outputs[: len(arguments)] if program.loops else arguments
    jax.block_until_ready(outputs)
    return (time.perf_counter() - begin) / program.calls, arguments


def _compiled(kind, candidate, part, shape, compiles, memory_gb):
    """Builds and compiles a program.

    Args:
      kind, candidate, part, shape: the arguments of `build`.
      compiles: the number of compilations; the row contains their median time.
      memory_gb: the largest memory that the program may need, in gibibytes.

    Returns:
      The compiled program, or None if it needs too much memory; and the entries of its row that
      are known before it runs.
    """
    import jax

    from lru.training.experiment import compiler_options

    jax.config.update("jax_enable_compilation_cache", False)
    program = programs_of(kind).build(kind, candidate, part, shape)
    # The options of training, but JAX's defaults for the paper's formulation.
    options = None if candidate == "Appendix A" else compiler_options(jax.default_backend())
    spent = []
    for _ in range(compiles):
        jax.clear_caches()
        begin = time.perf_counter()
        donated = tuple(range(len(program.arguments) - 1)) if program.loops else ()
        jitted = jax.jit(program.function, donate_argnums=donated, compiler_options=options)
        compiled = jitted.lower(*program.arguments).compile()
        spent.append(time.perf_counter() - begin)
    memory = compiled.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    row = {
        "compile_seconds": statistics.median(spent),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_and_output_bytes": size - memory.temp_size_in_bytes,
        "moved_bytes": program.moved,
        "tokens": program.tokens,
        **program.record,
    }
    if size > memory_gb * 2**30:
        return None, row | {"skipped": f"needs {size / 2**30:.1f} GB"}
    return dataclasses.replace(program, function=compiled), row


def write(file: Path, rows: list[dict[str, Any]], argv: Sequence[str]) -> None:
    """Writes the record: the command, the environment and the rows."""
    from lru.io.files import write_atomically
    from lru.training.record import environment

    file.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "scripts/benchmark.py", *argv])
    record = {"command": command} | environment()
    write_atomically(file, json.dumps(record | {"rows": rows}, indent=1) + "\n")
