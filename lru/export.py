"""Exports a trained model: `python -m lru.export --workdir=DIR --out=FOLDER [--step]`.

The folder contains `model.safetensors`, with the parameters and batch statistics of the best
checkpoint, and `config.json`, with everything else that `lru.export.load(FOLDER)` needs to create
the model without the data set. With `--step`, the folder also contains `step.jaxexport`: one step
of a causal model, as a program that needs only jax and flatbuffers.

For example:

    python -m lru.export --workdir=runs/listops --out=exported
    python -m lru.export --workdir=runs/ptb --out=exported --step
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lru.command_line import CACHE_HELP, Parser, add_run_arguments, cache_compilations, path, run
from lru.io.terminal import log
from lru.training.exporting import export_run, load

__all__ = ["export_run", "load", "main"]


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, exports the model, and prints the names of the files written."""
    parser = Parser("python -m lru.export", description=__doc__, epilog=CACHE_HELP)
    add_run_arguments(parser)
    parser.add_argument(
        "--out", required=True, type=path, metavar="FOLDER", help="the folder to create"
    )
    parser.add_argument(
        "--step", action="store_true", help="also export one step of the model as a program"
    )
    known = parser.parse_args(argv)

    cache_compilations()
    about = export_run(
        known.workdir,
        known.out,
        step=known.step,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
        allow=known.allow,
    )
    files = ", ".join(sorted(file.name for file in known.out.iterdir()))
    log(f"wrote the checkpoint of step {about['step']:,} to {known.out}: {files}")


if __name__ == "__main__":
    sys.exit(run(main))
