"""Prepares a data set ahead of time: `python -m lru.prepare --task=listops`.

Training prepares what it misses by itself; this is for doing it before, from files of the official
release (--manual_dir=DIRECTORY) where they are not downloaded; for writing ListOps as files like
LRA's (--write_tsv=DIRECTORY); and for a look at images (--write_sheet=FILE.png). Every number of
the data set can be set too; its documentation explains them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from lru.command_line import Parser, add_data_arguments, path, run


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, prepares the data set, and writes it as text where that is asked."""
    from lru.data import dataset_class
    from lru.data.builder import SPLITS
    from lru.errors import UserError

    task = Parser(add_help=False)
    task.add_argument("--task", default="listops", help="name of a data set")
    dataset_type = dataset_class(task.parse_known_args(argv)[0].task)

    parser = Parser(prog="python -m lru.prepare", description=__doc__, parents=[task])
    add_data_arguments(parser)
    parser.add_argument("--write_tsv", type=path, help="directory to write text files to")
    parser.add_argument("--write_sheet", type=path, help="file to write a row a class to")
    group = parser.add_argument_group(f"numbers of {dataset_type.name}")
    numbers = dataclasses.fields(dataset_type.numbers_class)
    for number in numbers:
        default: Any = number.default
        text = f"default: {default}"
        group.add_argument(f"--{number.name}", type=type(default), default=default, help=text)
    arguments = parser.parse_args(argv)
    if arguments.write_tsv and not hasattr(dataset_type, "write_tsv"):
        raise UserError(f"{dataset_type.name} has no text form: leave --write_tsv out")

    dataset = dataset_type.create(
        arguments.data_dir,
        arguments.manual_dir,
        **{number.name: getattr(arguments, number.name) for number in numbers},
    )
    sizes = ", ".join(f"{len(dataset.source(split)):,} {split}" for split in SPLITS)
    print(f"{dataset.name} ({dataset.kind}): {sizes} examples in {dataset.data_dir}")
    if dataset.note:
        print(f"note: {dataset.note}")
    if arguments.write_tsv:
        dataset.write_tsv(arguments.write_tsv)
        print(f"written as text to {arguments.write_tsv}")
    if arguments.write_sheet:
        from lru.data.contact_sheet import write_contact_sheet

        names = dataset.class_names or [str(label) for label in range(dataset.num_classes)]
        write_contact_sheet(arguments.write_sheet, dataset.source("train"), names)
        print(f"some of each class shown in {arguments.write_sheet}")


if __name__ == "__main__":
    sys.exit(run(main))
