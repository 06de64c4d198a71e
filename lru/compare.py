"""Compares runs in a table: `python -m lru.compare RUN RUN ... [--out=FILE.png]`.

Each RUN is a work directory of lru.train. The table shows the score of the best validation so far,
and the test score of its checkpoint or the reason why there is none. Below the table are the
options, except the seed, that affect results and differ between runs of the same task. With
`--out`, the command also draws the validation curves.

For example:

    python -m lru.compare runs/listops runs/ring
    python -m lru.compare runs/* --out=curves.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lru.command_line import Parser, path, run
from lru.io.terminal import log


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, prints a table of the runs, and draws their curves if requested."""
    parser = Parser("python -m lru.compare", description=__doc__)
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="a work directory of lru.train"
    )
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE.png",
        help="also draw the validation curves, as PNG or PDF",
    )
    known = parser.parse_args(argv)

    from lru.training.comparing import compare

    log(compare(known.runs, known.out))
    if known.out:
        log(f"see {known.out}")


if __name__ == "__main__":
    sys.exit(run(main))
