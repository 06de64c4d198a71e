"""Trains the model of a config: `python -m lru.train --config=FILE[:VARIANT] --workdir=DIR`.

The same command resumes a stopped run. On SIGTERM or SIGINT, the run is saved, and the exit code is
143 or 130. Arguments such as `--config.optimizer.learning_rate=0.002` change the config. Several
processes, on one machine or many, can train one model together: see --coordinator.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lru.command_line import (
    CACHE_HELP,
    Parser,
    add_data_arguments,
    add_process_arguments,
    cache_compilations,
    join_processes,
    not_empty,
    path,
    run,
)


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and calls `train_and_evaluate`."""
    parser = Parser(prog="python -m lru.train", description=__doc__, epilog=CACHE_HELP)
    parser.add_argument(
        "--config", required=True, type=not_empty,
        help="e.g. configs/lra_listops.py:quick; it is executed, and may name any class",
    )  # fmt: skip
    parser.add_argument(
        "--workdir", required=True, type=path, help="the directory of this run alone"
    )
    parser.add_argument(
        "--init_from", type=path, metavar="DIR",
        help="start with the weights of another run's --workdir (its best checkpoint), or of an "
        "export; only the head may have another shape; the same as --config.train.init_from=DIR",
    )  # fmt: skip
    add_data_arguments(parser)
    add_process_arguments(parser)
    known, rest = parser.parse_known_args(argv)
    unknown = [argument for argument in rest if not argument.startswith("--config.")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}")

    from lru.training.config import load_config
    from lru.training.loop import train_and_evaluate

    if known.init_from:
        rest = [*rest, f"--config.train.init_from={known.init_from}"]
    cache_compilations()
    join_processes(known)
    train_and_evaluate(
        load_config(known.config, rest),
        known.workdir,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
    )


if __name__ == "__main__":
    sys.exit(run(main))
