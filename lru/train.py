"""Trains the model of a config: `python -m lru.train --config=NAME[:VARIANT] --workdir=DIR`.

The same command resumes a stopped run. A SIGTERM or SIGINT during training saves the run and ends
it with the exit code 143 or 130. Arguments such as `--config.optimizer.learning_rate=0.002` change
the config. Several processes, on one machine or many, can train one model together: see
--coordinator.

For example:

    python -m lru.train --config=listops:quick --workdir=runs/listops
    python -m lru.train --config=recall:ring --workdir=runs/ring --config.seed=1
    python -m lru.train --config=listops:quick --print_config
"""

from __future__ import annotations

import argparse
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
from lru.io.terminal import write


def main(argv: Sequence[str]) -> None:
    """Parses the arguments; prints the config if asked to, or else calls `train_and_evaluate`."""
    known, overrides = _parse(argv)
    if known.print_config:
        from lru.training.config_text import format_config

        return write(format_config(known.config, overrides))

    from lru.training.config import load_config
    from lru.training.loop import train_and_evaluate

    cache_compilations()
    join_processes(known)
    train_and_evaluate(
        load_config(known.config, overrides),
        known.workdir,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
    )


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments, and the `--config.*` arguments, which change the config."""
    parser = Parser("python -m lru.train", _configs, description=__doc__, epilog=CACHE_HELP)
    parser.add_argument(
        "--config", required=True, type=not_empty, metavar="NAME[:VARIANT]",
        help="a config listed below, or a Python file, which is executed and may name any class",
    )  # fmt: skip
    parser.add_argument(
        "--workdir", required="--print_config" not in argv, type=path, metavar="DIR",
        help="the directory in which to save the run; each run needs its own",
    )  # fmt: skip
    parser.add_argument(
        "--print_config", action="store_true",
        help="print every value of the config, with the comment of the line that sets it, and exit",
    )  # fmt: skip
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
    if known.init_from:
        rest = [*rest, f"--config.train.init_from={known.init_from}"]
    return known, rest


def _configs() -> str:
    from lru.training.config_text import list_configs

    return list_configs()


if __name__ == "__main__":
    sys.exit(run(main))
