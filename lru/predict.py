"""Predicts the targets of new arrays: `python -m lru.predict --workdir=DIR --input=X --out=Y`.

DIR is an export, or the work directory of a run of configs/arrays.py, whose best checkpoint is
used. X is an .npz file or a folder of .npy files. It contains the array x and, if sequences differ
in length, the array lengths. Y is an .npz file, to which the command writes the array y: numbers in
the units of the training data, or labels. For labels, it also writes the arrays probability and
classes; for targets of steps, also the array valid. See docs/own_data.md. The command reads the
training data only for a run whose work directory has no dataset.json.

For example:

    python -m lru.predict --workdir=runs/mine --input=new.npz --out=predicted.npz
    python -m lru.predict --workdir=exported --input=folder --out=predicted.npz
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lru.command_line import CACHE_HELP, Parser, add_run_arguments, cache_compilations, path, run
from lru.io.terminal import log


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, predicts, and names the arrays that it wrote."""
    parser = Parser("python -m lru.predict", description=__doc__, epilog=CACHE_HELP)
    add_run_arguments(parser, exports=True)
    parser.add_argument(
        "--input",
        required=True,
        type=path,
        metavar="FILE.npz",
        help="an .npz file or a folder of .npy files",
    )
    parser.add_argument(
        "--out", required=True, type=path, metavar="FILE.npz", help="the .npz file to write"
    )
    known = parser.parse_args(argv)

    from lru.training.predicting import predict_file

    cache_compilations()
    reading = dict(allow=known.allow, data_dir=known.data_dir, manual_dir=known.manual_dir)
    found = predict_file(known.workdir, known.input, known.out, **reading)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    log(f"{known.out}: {shapes}")


if __name__ == "__main__":
    sys.exit(run(main))
