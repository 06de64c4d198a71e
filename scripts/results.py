"""Makes the pages and pictures of results/ from the records there: `python scripts/results.py`.

Nothing on the pages is written by hand. A run counts for a row only if its config equals the
current config of that row, except in options that the page does not compare, such as the seed and
options of speed (see `report.format.differing`). Some pages also require certain data, or a
finished run. Other runs are listed separately. The pages on training runs count or name the rows
that were not run.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from report import (
    charlm,
    charlm_plots,
    claims,
    lra,
    lra_plots,
    overview,
    recall,
    recall_plots,
    speed,
)
from report.format import Record
from report.pictures import Picture

from lru.command_line import Parser, path, run
from lru.errors import UserError
from lru.io.files import read_object, write_atomically

ROOT = Path(__file__).resolve().parents[1]
_FILES = {
    "recall": "recall/*.json",
    "lra": "lra/*.json",
    "charlm": "charlm/*.json",
    "speed": "benchmark_*.json",
}


def main(argv: Sequence[str]) -> None:
    """Reads the records and writes the pages and pictures."""
    parser = Parser(prog="python scripts/results.py", description=__doc__)
    parser.add_argument("--results", type=path, default=ROOT / "results")
    results = parser.parse_args(argv).results
    records = read(results)
    drawn = pictures(records)
    for picture in itertools.chain(*drawn.values()):
        picture.draw(results / picture.name)
    for name, text in pages(records, drawn).items():
        write_atomically(results / name, text)
        print(f"wrote {results / name}")


def read(results: Path) -> dict[str, dict[str, Record]]:
    """Reads the records, and returns them by page and file name."""
    return {
        page: {
            str(file.relative_to(results)): _read(file, _FORMATTERS[page])
            for file in sorted(results.glob(files))
        }
        for page, files in _FILES.items()
    }


def _format_charlm(records: Mapping[str, Record]) -> None:
    charlm.page(records)
    for record in records.values():
        charlm_plots.curve(record)


_Formatter = Callable[[Mapping[str, Record]], object]
_FORMATTERS: dict[str, _Formatter] = {
    "recall": recall.page,
    "lra": lra.page,
    "charlm": _format_charlm,
    "speed": speed.page,
}


def _read(file: Path, format_page: _Formatter) -> Record:
    """Reads a record; formats a page from it alone, so that an error can name a damaged file."""
    advice = "restore it, or delete it"
    record = read_object(file, {}, advice)
    try:
        format_page({file.name: record})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} is damaged ({reason}); {advice}") from error
    return record


def pictures(records: Mapping[str, Mapping[str, Record]]) -> dict[str, list[Picture]]:
    """Returns the pictures of the records, by page."""
    return {
        "overview": overview.pictures(records),
        "recall": recall_plots.pictures(records["recall"]),
        "lra": lra_plots.pictures(records["lra"]),
        "charlm": charlm_plots.pictures(records["charlm"]),
    }


def pages(
    records: Mapping[str, Mapping[str, Record]], drawn: Mapping[str, Sequence[Picture]]
) -> dict[str, str]:
    """Returns the Markdown of every page by file name; `drawn` holds the pictures by page."""
    return {
        "README.md": claims.page(records, drawn),
        "recall.md": recall.page(records["recall"], drawn["recall"]),
        "lra.md": lra.page(records["lra"], drawn["lra"]),
        "charlm.md": charlm.page(records["charlm"], drawn["charlm"]),
        "speed.md": speed.page(records["speed"]),
    }


if __name__ == "__main__":
    sys.exit(run(main))
