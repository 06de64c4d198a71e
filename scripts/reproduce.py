"""Runs or resumes the rows of a table of results: `python scripts/reproduce.py --table=lra`.

    python scripts/reproduce.py --table=lra --size=quick --task=text --ablation=ring,lru
    python scripts/reproduce.py --table=lra --task=cifar --ablation=exp,stable_exp,lru --ring=all
    python scripts/reproduce.py --table=charlm --size=quick --data=ptb --model=gru,lru

Each run has a work directory in --workdirs and resumes from it; a finished run is not repeated. All
rows run with the first seed, then all rows with the second, and so on. After --budget-seconds, the
current runs are saved and stopped. The record of each run is saved in --results, by default
results/TABLE; `python scripts/results.py` then makes the pages. Config options such as
`--config.train.batch_size=16` are passed to every run, and become part of the file names of the
records.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from report.rows import TABLES, Axis, Row, Table

from lru.command_line import Parser, path, run
from lru.io.files import write_atomically
from lru.training.record import format_score, read_record
from lru.training.run_config import differences

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and runs the rows that are not finished, --jobs at a time."""
    known, selected = _parse(argv)
    rows = _distinct(selected)
    finished = [_finished(known.results / f"{row.name}.json", row) for row in rows]
    paths = [f"--{name}={folder.expanduser().absolute()}" for name in ("data_dir", "manual_dir")
             if (folder := getattr(known, name))]  # fmt: skip
    todo = [row for row, done in zip(rows, finished) if not done]
    print(f"{len(rows)} runs, {len(rows) - len(todo)} of them already finished", flush=True)
    end = time.monotonic() + known.budget_seconds
    failed = _run_all(iter(todo), known, paths, end)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


def _parse(argv: Sequence[str]):
    """Parses the arguments, including the options of the table chosen by --table.

    Returns:
      The arguments, and the rows that they select.
    """
    first = Parser(prog="python scripts/reproduce.py", add_help=False)
    first.add_argument("--table", choices=TABLES, default="")
    table = first.parse_known_args(argv)[0].table
    parser = Parser(prog="python scripts/reproduce.py", description=__doc__)
    parser.add_argument(
        "--table",
        required=True,
        choices=TABLES,
        help="a table; --table=NAME --help lists its options",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="the number of seeds 0, 1, ...; default: 3"
    )
    parser.add_argument("--budget-seconds", type=float, default=float("inf"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on its own cores")
    parser.add_argument("--workdirs", type=path, default=Path("runs") / table)
    parser.add_argument("--results", type=path, default=ROOT / "results" / table)
    parser.add_argument("--data_dir", type=path)
    parser.add_argument("--manual_dir", type=path)
    if table:
        _add_axes(parser, TABLES[table])
    known, overrides = parser.parse_known_args(argv)
    if known.jobs < 1:
        parser.error(f"--jobs is {known.jobs}; expected at least 1")
    for argument in overrides:
        if not argument.startswith("--config."):
            parser.error(f"unknown argument {argument} for --table={table}")
        if argument.startswith("--config.seed="):
            parser.error(f"{argument} would set the seed of all rows; give --seeds=NUMBER instead")
    rows = TABLES[table].rows(vars(known), known.size, known.seeds, overrides)
    return known, list(rows)


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Returns the first row with each config, and prints the names of the others."""
    first: dict[str, Row] = {}
    for row in rows:
        same = first.setdefault(json.dumps(row.load(), sort_keys=True), row)
        if same is not row:
            print(f"{row.name} has the config of {same.name}", flush=True)
    return list(first.values())


def _add_axes(parser: Parser, table: Table) -> None:
    parser.add_argument("--size", choices=table.sizes, default=table.sizes[0])
    for name, axis in table.axes.items():
        parser.add_argument(
            f"--{name}", type=_choice(parser, axis), default=axis.default, help=_help(axis)
        )


def _choice(parser: Parser, axis: Axis):
    """Returns a function that converts "all", or comma-separated text, to choices of an axis."""
    known = {str(choice): choice for choice in axis.choices}

    def choose(text: str) -> Sequence[str | int]:
        if text == "all":
            return axis.choices
        for name in text.split(","):
            if name not in known:
                parser.error(f"there is no {name!r}; expected some of {_listed(axis)}")
        return [known[name] for name in text.split(",")]

    return choose


def _listed(axis: Axis) -> str:
    if isinstance(axis.choices, range):
        return f"{axis.choices[0]}, {axis.choices[1]}, ... {axis.choices[-1]}"
    return f"{', '.join(map(str, axis.choices))}, all"


def _help(axis: Axis) -> str:
    default = ",".join(map(str, axis.default)) if axis.default else "the config's"
    return f"comma-separated: {_listed(axis)}; default: {default}"


def _finished(file: Path, row: Row) -> bool:
    """Returns whether the file is the record of a tested or diverged run of the row.

    The configs of the run and of the row must agree in all options that affect the results.
    """
    config = row.load()  # raises if the config is wrong, even without a record
    if not file.exists():
        return False
    record = read_record(file)
    ended = "test" in record or "diverged_at" in record
    return ended and not differences(config, record["config"])


class Job:
    """A run in its own process."""

    def __init__(self, row: Row, workdir: Path, cores: set[int] | None, paths: Sequence[str]):
        self.row, self.workdir, self._begin = row, workdir, time.monotonic()
        self._stopped = False
        workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "lru.train", f"--workdir={workdir}", *paths]
        with (workdir / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                [*command, *row.arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        if cores is not None:
            os.sched_setaffinity(self.process.pid, cores)
        self.cores = cores

    def stop(self) -> None:
        """Asks the run to save its state and stop."""
        self._stopped = True
        self.process.send_signal(signal.SIGTERM)

    def report(self, results: Path) -> bool:
        """Prints how the run ended, and returns False if it failed.

        Otherwise saves the run's record, if there is one, and returns True.
        """
        record, seconds = self.workdir / "record.json", time.monotonic() - self._begin
        ended = (-signal.SIGTERM, 128 + signal.SIGTERM)
        stopped = self._stopped and self.process.returncode in ended
        if stopped and not record.exists():
            print(f"{self.row.name}: stopped before its first step", flush=True)
            return True
        diverged = record.exists() and "diverged_at" in read_record(record)
        if (self.process.returncode and not stopped and not diverged) or not record.exists():
            lines = (self.workdir / "log.txt").read_text().splitlines()[-2:]
            print(f"{self.row.name}: failed after {seconds:.0f} s: {' '.join(lines)}", flush=True)
            return False
        results.mkdir(parents=True, exist_ok=True)
        write_atomically(results / f"{self.row.name}.json", record.read_text())
        found = read_record(record)
        status = f"step {found['steps']:,} of {found['steps_planned']:,}"
        if "test" in found:
            status = f"test {format_score(found['test'])}"
        elif diverged:
            status = f"diverged at step {found['diverged_at']:,}"
        print(f"{self.row.name}: {status}, {seconds:.0f} s", flush=True)
        return True


def _run_all(rows: Iterator[Row], known, paths: Sequence[str], end: float) -> list[str]:
    """Runs the rows, --jobs at a time, and returns the names of the rows that failed.

    At the time `end`, the current runs are stopped and no others are started.
    """
    shares: list[set[int] | None] = [None] * known.jobs
    if known.jobs > 1 and hasattr(os, "sched_getaffinity"):  # macOS has no affinity
        cores = sorted(os.sched_getaffinity(0))
        shares = [set(cores[i :: known.jobs]) or {cores[i % len(cores)]} for i in range(known.jobs)]
    jobs: list[Job] = []
    failed: list[str] = []
    stopping = False
    try:
        while True:
            while shares and not stopping and (row := next(rows, None)):
                jobs.append(Job(row, known.workdirs.absolute() / row.name, shares.pop(), paths))
            if not jobs:
                return failed
            if not stopping and time.monotonic() > end:
                stopping = True
                for job in jobs:
                    job.stop()
            time.sleep(0.2)
            for job in [job for job in jobs if job.process.poll() is not None]:
                jobs.remove(job)
                shares.append(job.cores)
                if not job.report(known.results):
                    failed.append(job.row.name)
    finally:  # also after a signal or an error
        for job in jobs:
            job.stop()
        for job in jobs:
            job.process.wait()


if __name__ == "__main__":
    sys.exit(run(main))
