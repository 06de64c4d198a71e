"""Trains what a config describes: `python -m lru.train --config=FILE[:VARIANT] --workdir=DIR`.

The same command goes on with a run that was stopped. SIGTERM and SIGINT save it, and the exit code
is 143 or 130. Any number of the config can be changed on
the command line: `--config.optimizer.learning_rate=0.002`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lru.command_line import CACHE_HELP, Parser, add_data_arguments, cache_compilations, run


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, calls `train_and_evaluate`."""
    parser = Parser(prog="python -m lru.train", description=__doc__, epilog=CACHE_HELP)
    parser.add_argument("--config", required=True, help="e.g. configs/lra_listops.py:quick")
    parser.add_argument("--workdir", required=True, type=Path, help="of this run alone")
    add_data_arguments(parser)
    known, rest = parser.parse_known_args(argv)
    stray = [argument for argument in rest if not argument.startswith("--config.")]
    if stray:
        parser.error(f"unknown argument {stray[0]}")

    from lru.training.config import load_config
    from lru.training.loop import train_and_evaluate

    cache_compilations()
    train_and_evaluate(
        load_config(known.config, rest),
        known.workdir,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
    )


if __name__ == "__main__":
    sys.exit(run(main))
