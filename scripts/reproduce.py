"""Runs rows of the paper's tables, or goes on with them: `python scripts/reproduce.py --table=lra`.

    python scripts/reproduce.py --table=lra --size=quick --task=text --rung=ring,lru

Every run has a work directory below --workdirs, in which it goes on where it was; what has ended is
not run again. All rows are run with the first seed, then all with the second. When the budget is
spent, the runs under way are stopped, and saved. Each leaves its record in results/; then
`python scripts/results.py` makes the page. Other numbers, `--config.data.color=grey`, are handed
on to every run, and named in its record's file name.
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
from typing import NamedTuple

from lru.command_line import Parser, run
from lru.training.config import differences, load_config, write_whole

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("listops", "text", "cifar", "retrieval", "pathfinder", "pathx")
RUNGS = ("lru", "relu", "tanh", "linear", "real_imag", "exp", "stable_exp", "ring", "s4d", "s5")
SIZES = ("paper", "quick", "smoke")


class Row(NamedTuple):
    """A run: of a task, with a rung of the ladder, at a size, with a seed."""

    task: str
    rung: str
    size: str
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its work directory and its record.

        Example:
          >>> Row("text", "ring", "quick", 1, ("--config.data.pad_to=512",)).name
          'text-ring-quick-pad_to=512-seed1'
        """
        others = [override.rpartition(".")[2] for override in self.overrides]
        return "-".join([self.task, self.rung, self.size, *others, f"seed{self.seed}"])

    @property
    def arguments(self) -> list[str]:
        """The config's, of the command line."""
        variant = [self.size] * (self.size != "paper") + [self.rung] * (self.rung != "lru")
        file = f"configs/lra_{self.task}.py" + (":" + ",".join(variant) if variant else "")
        return [f"--config={file}", f"--config.seed={self.seed}", *self.overrides]


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, runs the rows one after another or some at a time."""
    parser = Parser(prog="python scripts/reproduce.py", description=__doc__)
    parser.add_argument("--table", required=True, choices=["lra"])
    parser.add_argument("--task", type=_names(parser, TASKS), default=TASKS, help="default: all")
    parser.add_argument("--rung", type=_names(parser, RUNGS), default=("lru",), help="default: lru")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... below this; default: 3")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on its own cores")
    parser.add_argument("--workdirs", type=Path, default=Path("runs/lra"))
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "lra")
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--manual_dir", type=Path)
    known, overrides = parser.parse_known_args(argv)
    rows = [
        Row(task, rung, known.size, seed, tuple(overrides))
        for seed in range(known.seeds)
        for task in known.task
        for rung in known.rung
    ]
    finished = [_finished(known.results / f"{row.name}.json", row) for row in rows]
    places = [f"--{name}={getattr(known, name)}" for name in ("data_dir", "manual_dir")
              if getattr(known, name)]  # fmt: skip
    todo = [row for row, done in zip(rows, finished) if not done]
    print(f"{len(rows)} runs, {len(rows) - len(todo)} of them finished before", flush=True)
    end = time.monotonic() + known.budget_seconds
    failed = _run_all(iter(todo), known, places, end)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


def _names(parser: Parser, known: Sequence[str]):
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                parser.error(f"there is no {name!r}; expected some of {', '.join(known)}")
        return chosen

    return names


def _finished(file: Path, row: Row) -> bool:
    """Whether there is a record of the whole run, with the numbers that the row has now."""
    name, *overrides = row.arguments
    config = load_config(name.removeprefix("--config="), overrides)
    if not file.exists() or "test" not in (record := json.loads(file.read_text())):
        return False
    return not differences(config.to_dict(), record["config"])


class Job:
    """A run in a process of its own."""

    def __init__(self, row: Row, workdir: Path, cores: set[int] | None, places: Sequence[str]):
        self.row, self.workdir, self._begin = row, workdir, time.monotonic()
        self._stopped = False
        workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "lru.train", f"--workdir={workdir}", *places]
        with (workdir / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                [*command, *row.arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        if cores is not None:
            os.sched_setaffinity(self.process.pid, cores)
        self.cores = cores

    def stop(self) -> None:
        """Asks it to save and end."""
        self._stopped = True
        self.process.send_signal(signal.SIGTERM)

    def report(self, results: Path) -> bool:
        """Keeps the record and says how it ended; whether that was as it should be."""
        record, seconds = self.workdir / "record.json", time.monotonic() - self._begin
        if self._stopped and self.process.returncode:
            print(f"{self.row.name}: stopped before its first step", flush=True)
            return True
        if self.process.returncode or not record.exists():
            lines = (self.workdir / "log.txt").read_text().splitlines()[-2:]
            print(f"{self.row.name}: failed after {seconds:.0f} s: {' '.join(lines)}", flush=True)
            return False
        results.mkdir(parents=True, exist_ok=True)
        write_whole(results / f"{self.row.name}.json", record.read_text())
        found = json.loads(record.read_text())
        said = f"step {found['steps']:,} of {found['steps_planned']:,}"
        if "test" in found:
            said = f"test accuracy {100 * found['test']['accuracy']:.2f} %"
        print(f"{self.row.name}: {said}, {seconds:.0f} s", flush=True)
        return True


def _run_all(rows: Iterator[Row], known, places: Sequence[str], end: float) -> list[str]:
    """Runs the rows, so many at a time; the names of those that failed."""
    shares: list[set[int] | None] = [None]
    if known.jobs > 1:
        cores = sorted(os.sched_getaffinity(0))
        shares = [set(cores[i :: known.jobs]) or {cores[i % len(cores)]} for i in range(known.jobs)]
    jobs: list[Job] = []
    failed: list[str] = []
    stopping = False
    try:
        while True:
            while shares and not stopping and (row := next(rows, None)):
                jobs.append(Job(row, known.workdirs.absolute() / row.name, shares.pop(), places))
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
    finally:  # also where this was stopped itself
        for job in jobs:
            job.stop()
        for job in jobs:
            job.process.wait()


if __name__ == "__main__":
    sys.exit(run(main))
