"""Evaluates a run's best checkpoint: `python -m lru.evaluate --workdir=DIR [--split=test]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lru.command_line import CACHE_HELP, Parser, add_data_arguments, cache_compilations, run


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, evaluates, prints the line that training printed."""
    parser = Parser(prog="python -m lru.evaluate", description=__doc__, epilog=CACHE_HELP)
    parser.add_argument("--workdir", required=True, type=Path, help="as given to lru.train")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    add_data_arguments(parser)
    known = parser.parse_args(argv)

    from lru.training.best import evaluate_best
    from lru.training.record import format_result

    cache_compilations()
    row = evaluate_best(
        known.workdir,
        known.split,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
    )
    print(format_result(row))


if __name__ == "__main__":
    sys.exit(run(main))
