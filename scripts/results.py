"""Makes results/README.md of the records beside it: `python scripts/results.py`.

Nothing on that page is written by hand. A run counts for a row if its config is, number by number,
the one that the row's config file gives now; runs of other numbers are listed by themselves. What
has no run says so.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paper_tables import MAIN, NAMES, NONLINEARITY, PARAMETERIZATION, RINGS, SPEED, TASKS

from lru.command_line import Parser, run
from lru.training.config import differences, load_config, write_whole

ROOT = Path(__file__).resolve().parents[1]
Record = Mapping[str, Any]
Cell = tuple[str, str, str]  # task, rung, size
_HEAD = "| {} | paper | ours | accuracy @ step | time | data |\n|---|---|---|---|---|---|"


def main(argv: Sequence[str]) -> None:
    """Reads the records, writes the page."""
    parser = Parser(prog="python scripts/results.py", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    results = parser.parse_args(argv).results
    write_whole(results / "README.md", page(read(results)))
    print(f"wrote {results / 'README.md'}")


def read(results: Path) -> dict[str, Record]:
    """The records of runs by file name."""
    files = sorted(results.glob("lra/*.json"))
    return {str(file.relative_to(results)): json.loads(file.read_text()) for file in files}


def page(records: Mapping[str, Record]) -> str:
    """The whole page, as Markdown."""
    cells: dict[Cell, list[Record]] = defaultdict(list)
    rings: dict[tuple[str, float, float], list[Record]] = defaultdict(list)
    others: dict[str, Record] = {}
    for name, record in records.items():
        cell, ring = cell_of(record), ring_of(record)
        if cell:
            cells[cell].append(record)
        if ring:
            rings[ring].append(record)
        if not cell and not ring:
            others[name] = record
    parts = [
        _INTRODUCTION,
        _quick(cells),
        _table("Table 3: the LRU and its rivals", "task, model", MAIN, cells),
        _table("Tables 1 and 6: dense recurrences", "task, recurrence", NONLINEARITY, cells),
        _table(
            "Tables 2, 7 and 8: from a dense recurrence to the LRU",
            "task, recurrence", PARAMETERIZATION, cells,
        ),
        _speed(cells),
        _rings(rings),
        _others(others),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRODUCTION = """\
# Results

Made by `python scripts/results.py` of the records in this directory; nothing here is written by
hand. A record has its run's config, seed, commit, hardware, kind of data, steps and seconds, and is
written by `lru.train`; `scripts/reproduce.py` runs the rows of these tables. "Paper" is Orvieto et
al. (2023): mean (standard error) of three runs; "x" stayed at chance. Ours is the test accuracy of
the checkpoint that was best on validation, in per cent, mean (standard error) of as many seeds as
are named. Data: *full* as released, *generated* by the released data's rules, *stand-in* others of
the same form. What was not run says so. Measurements of speed and memory are in the files
`benchmark_*.json`, and in the [main page](../README.md#how-fast)."""


@functools.cache
def _known() -> dict[Cell, dict[str, Any]]:
    """The config of every task, rung and size."""
    configs = {}
    for task in TASKS:
        for rung in NAMES:
            for size in ("paper", "quick"):
                names = [size] * (size != "paper") + [rung] * (rung != "lru")
                variant = ":" + ",".join(names) if names else ""
                config = load_config(f"configs/lra_{task}.py{variant}")
                configs[task, rung, size] = config.to_dict()
    return configs


def cell_of(record: Record) -> Cell | None:
    """What a run is of, if its numbers are those of a config file."""
    mine = record["config"]
    return next((cell for cell, config in _known().items() if not _differs(mine, config)), None)


def ring_of(record: Record) -> tuple[str, float, float] | None:
    """The cell of Table 5 that a run is of: sCIFAR at the paper's size, but for its ring."""
    mine = record["config"]
    for rung in ("exp", "stable_exp", "lru"):
        ring = {"model.mixer.r_min", "model.mixer.r_max"}
        if _differs(mine, _known()["cifar", rung, "paper"]) <= ring:
            key = (rung, mine["model"]["mixer"]["r_min"], mine["model"]["mixer"]["r_max"])
            return key if key in RINGS else None
    return None


def _differs(mine: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The keys in which two configs differ, but for those that make no other experiment."""
    return differences(mine, other).keys() - {"seed", "data.release"}


def _finished(runs: Iterable[Record]) -> list[Record]:
    return [record for record in runs if "test" in record]


def _ours(runs: Sequence[Record]) -> list[str]:
    """The cells ours, accuracy @ step, time, data."""
    done = _finished(runs)
    if done:
        accuracies = [100 * record["test"]["accuracy"] for record in done]
        steps = sorted({record["test"]["step"] for record in done})
        where = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        ours, at = mean(accuracies), f"{statistics.mean(accuracies):.1f} @ {where}"
    elif runs:
        furthest = max(runs, key=lambda record: record["steps"])
        ours = f"step {furthest['steps']:,} of {furthest['steps_planned']:,}"
        best = furthest.get("validation")
        at = f"validation {100 * best['accuracy']:.1f} @ {best['step']:,}" if best else ""
    else:
        return ["not run", "", "", ""]
    used = done or runs
    seconds = statistics.mean(record["seconds"] for record in used)
    devices = sorted({_device(record) for record in used})
    kinds = sorted({_data(record) for record in used})
    return [ours, at, f"{_duration(seconds)}, {', '.join(devices)}", ", ".join(kinds)]


def mean(values: Sequence[float]) -> str:
    """Mean (standard error), and of how many.

    Example:
      >>> mean([60.0, 62.0]), mean([60.0])
      ('61.0 (1.0), 2 seeds', '60.0, 1 seed')
    """
    text = f"{statistics.mean(values):.1f}"
    if len(values) > 1:
        text += f" ({statistics.stdev(values) / len(values) ** 0.5:.1f})"
    return f"{text}, {len(values)} seed{'s' * (len(values) > 1)}"


def _device(record: Record) -> str:
    hardware = record["hardware"]
    if hardware["platform"] == "cpu":
        return f"{hardware['cpu_cores']} CPU cores"
    return f"{hardware['devices']} x {hardware['device']}"


def _data(record: Record) -> str:
    remark = record.get("remark")
    return f"{record['data']} ({remark})" if remark else record["data"]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _rows(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _table(title: str, first: str, paper: Mapping[tuple[str, str], str], cells) -> str:
    lines = [
        [f"{TASKS[task]}, {NAMES[rung]}", paper[task, rung], *_ours(cells[task, rung, "paper"])]
        for task in TASKS
        for rung in dict.fromkeys(rung for _, rung in paper)
    ]
    return f"## {title}\n\n{_HEAD.format(first)}\n{_rows(lines)}"


def _quick(cells: Mapping[Cell, list[Record]]) -> str:
    """Small models, which are ours alone: nothing here can be held against the paper."""
    tasks = [task for task in TASKS if any(cells[task, rung, "quick"] for rung in NAMES)]
    if not tasks:
        return ""
    chosen = [(task, rung) for task in tasks for rung in NAMES if cells[task, rung, "quick"]]
    lines = [
        [f"{TASKS[task]}, {NAMES[rung]}", *_ours(cells[task, rung, "quick"])[:1],
         _range(cells[task, rung, "quick"], "parameters"), *_ours(cells[task, rung, "quick"])[1:]]
        for task, rung in chosen
    ]  # fmt: skip
    head = (
        "| task, model | test accuracy | parameters | accuracy @ step | time | data |\n"
        "|---|---|---|---|---|---|"
    )
    return (
        "## Small models, minutes on two CPU cores\n\n"
        "The variants `:quick` of the configs: the same rules, less data, less depth, less width, "
        "fewer steps.\nThey show that everything trains and what the rungs do at that size; they "
        f"are no reproduction of the\npaper's numbers.\n\n{head}\n{_rows(lines)}"
    )


def _range(runs: Sequence[Record], key: str) -> str:
    return " to ".join(f"{value:,}" for value in sorted({record[key] for record in runs}))


def _speed(cells: Mapping[Cell, list[Record]]) -> str:
    lines = []
    for (task, rung), paper in SPEED.items():
        rates: dict[str, list[float]] = defaultdict(list)
        for record in cells[task, rung, "paper"]:
            if record.get("steps_per_second"):
                rates[_device(record)].append(record["steps_per_second"])
        ours = [f"{statistics.median(rate):.2g} ({device})" for device, rate in rates.items()]
        lines.append([f"{TASKS[task]}, {NAMES[rung]}", paper, ", ".join(ours) or "not run"])
    return (
        "## Table 4: training steps a second\n\nThe paper's on one A100.\n\n"
        f"| task, model | paper | ours |\n|---|---|---|\n{_rows(lines)}"
    )


def _rings(rings: Mapping[tuple[str, float, float], list[Record]]) -> str:
    lines = [
        [f"{NAMES[rung]}, r_min = {r_min}, r_max = {r_max}", paper,
         *_ours(rings.get((rung, r_min, r_max), []))]
        for (rung, r_min, r_max), paper in RINGS.items()
    ]  # fmt: skip
    return f"## Table 5: rings, sCIFAR\n\n{_HEAD.format('parameterisation, ring')}\n{_rows(lines)}"


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    head = "| record | test accuracy | accuracy @ step | time | data |\n|---|---|---|---|---|"
    lines = [[f"[{name}]({name})", *_ours([record])] for name, record in records.items()]
    return f"## Runs with other numbers\n\n{head}\n{_rows(lines)}"


if __name__ == "__main__":
    sys.exit(run(main))
