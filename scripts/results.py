"""Makes the pages of results/ of the records there: `python scripts/results.py`.

Nothing on those pages is written by hand. A run counts for a row if its config is, number by
number, the one that the row's config file gives now; runs of other numbers are listed by
themselves. What has no run says so. Pictures are made of what there are records for.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import results_charlm
import results_charlm_plots
import results_lra
import results_lra_plots
import results_recall
import results_recall_plots
import results_speed
from pictures import Picture
from results_format import Record

from lru.command_line import Parser, path, run
from lru.errors import UserError
from lru.files import read_object, write_whole

ROOT = Path(__file__).resolve().parents[1]
_FILES = {
    "recall": "recall/*.json",
    "lra": "lra/*.json",
    "charlm": "charlm/*.json",
    "speed": "benchmark_*.json",
}
_INDEX = """\
# Results

Made by `python scripts/results.py` of the records in this directory; nothing here is written by
hand. A record has its run's config, seed, commit, hardware, kind of data, steps and seconds, and is
written by `lru.train`; `scripts/reproduce.py` runs the rows of the tables.

## [Recall](recall.md)

What gamma, the ring and the phase of the Linear Recurrent Unit do for memory, in a minute: name the
first of T tokens after reading the last. {recall}

## [Long Range Arena](lra.md)

The Linear Recurrent Unit, the steps that lead to it from a dense recurrence, and its rivals: the
tables of Orvieto et al. (2023), and small models. {lra}

## [Character language models](charlm.md)

The Lattice Recurrent Unit, the steps that lead to it from the GRU, and its rivals: the figures of
Ahuja & Morency (2018), the talk before them, and small models. {charlm}

## [Speed and memory](speed.md)

Programs measured side by side by `scripts/benchmark.py`. {speed}

## How to read them

Ours are means (standard errors) over the number of seeds shown. Data: *full* as released,
*generated* by the released data's rules, *artificial* by the rules of a task that nobody released,
*stand-in* others of the same form, *prefix* a part of the released, *made-up* for tests. Runs count
for a row if they have all the numbers of its config file, and for one of the paper's if they are on
full or generated data; others are listed apart. What was not run says so.
"""


def main(argv: Sequence[str]) -> None:
    """Reads the records, writes pages and pictures."""
    parser = Parser(prog="python scripts/results.py", description=__doc__)
    parser.add_argument("--results", type=path, default=ROOT / "results")
    results = parser.parse_args(argv).results
    records = read(results)
    drawn = pictures(records)
    for picture in itertools.chain(*drawn.values()):
        picture.draw(results / picture.name)
    for name, text in pages(records, drawn).items():
        write_whole(results / name, text)
        print(f"wrote {results / name}")


def read(results: Path) -> dict[str, dict[str, Record]]:
    """The records by page and file name."""
    return {
        page: {
            str(file.relative_to(results)): _read(file, _SHOWN[page])
            for file in sorted(results.glob(files))
        }
        for page, files in _FILES.items()
    }


def _show_charlm(records: Mapping[str, Record]) -> None:
    results_charlm.page(records)
    for record in records.values():
        results_charlm_plots.curve(record)


_Show = Callable[[Mapping[str, Record]], object]
_SHOWN: dict[str, _Show] = {
    "recall": results_recall.page,
    "lra": results_lra.page,
    "charlm": _show_charlm,
    "speed": results_speed.page,
}


def _read(file: Path, show: _Show) -> Record:
    """Reads a record, and makes a page of it alone, so that a damaged one can be named."""
    advice = "restore it, or delete it"
    record = read_object(file, {}, advice)
    try:
        show({file.name: record})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} is damaged ({reason}); {advice}") from error
    return record


def pictures(records: Mapping[str, Mapping[str, Record]]) -> dict[str, list[Picture]]:
    """Every page's pictures."""
    return {
        "recall": results_recall_plots.pictures(records["recall"]),
        "lra": results_lra_plots.pictures(records["lra"]),
        "charlm": results_charlm_plots.pictures(records["charlm"]),
    }


def pages(
    records: Mapping[str, Mapping[str, Record]], drawn: Mapping[str, Sequence[Picture]]
) -> dict[str, str]:
    """Every page's Markdown, by its file name; `drawn` are its pictures."""
    said = {
        page: f"{len(found)} record{'s' * (len(found) != 1)}." for page, found in records.items()
    }
    return {
        "README.md": _INDEX.format(**said),
        "recall.md": results_recall.page(records["recall"], drawn["recall"]),
        "lra.md": results_lra.page(records["lra"], drawn["lra"]),
        "charlm.md": results_charlm.page(records["charlm"], drawn["charlm"]),
        "speed.md": results_speed.page(records["speed"]),
    }


if __name__ == "__main__":
    sys.exit(run(main))
