"""Evaluates a run's best checkpoint: `python -m lru.evaluate --workdir=DIR [--split=test]`.

DIR may also be an export, the `--out` of lru.export or lru.reduce.

For example:

    python -m lru.evaluate --workdir=runs/listops
    python -m lru.evaluate --workdir=runs/listops --split=validation
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lru.command_line import (
    CACHE_HELP,
    Parser,
    add_process_arguments,
    add_run_arguments,
    cache_compilations,
    join_processes,
    run,
)
from lru.io.terminal import log


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, evaluates the model, and prints the result as training does."""
    parser = Parser("python -m lru.evaluate", description=__doc__, epilog=CACHE_HELP)
    add_run_arguments(parser, needs_data=True, exports=True)
    parser.add_argument(
        "--split",
        default="test",
        choices=["train", "validation", "test"],
        help="the split to evaluate; default: test",
    )
    add_process_arguments(parser)
    known = parser.parse_args(argv)

    from lru.training.best import evaluate_best
    from lru.training.exporting import WEIGHTS, evaluate_export
    from lru.training.record import format_result

    cache_compilations()
    join_processes(known)
    evaluate = evaluate_export if (known.workdir / WEIGHTS).exists() else evaluate_best
    row = evaluate(
        known.workdir,
        known.split,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
        allow=known.allow,
    )
    log(format_result(row))


if __name__ == "__main__":
    sys.exit(run(main))
