"""Prepares a data set ahead of time: `python -m lru.prepare --task=listops`.

Without this command, training prepares missing data itself. For releases that the command does not
download, give the directory of the files (--manual_dir=DIRECTORY). The command can also write
ListOps in LRA's file format (--write_tsv=DIRECTORY), and some examples of a data set of images as
one image (--write_sheet=FILE.png). The documentation of the data set explains the options.

For example:

    python -m lru.prepare --task=listops
    python -m lru.prepare --task=listops --num_train=1000
    python -m lru.prepare --task=pathfinder --write_sheet=paths.png
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from lru.command_line import Parser, add_data_arguments, path, run


def main(argv: Sequence[str]) -> None:
    """Prepares the data set and, if requested, writes it as text, and examples as an image."""
    from lru.data import dataset_class
    from lru.data.builder import SPLITS
    from lru.errors import UserError

    task = Parser("python -m lru.prepare", add_help=False)
    task.add_argument(
        "--task",
        default="listops",
        help="the name of the data set; --help lists its options below; default: listops",
    )
    dataset_type = dataset_class(task.parse_known_args(argv)[0].task)

    parser = Parser("python -m lru.prepare", description=__doc__, parents=[task])
    add_data_arguments(parser)
    parser.add_argument(
        "--write_tsv",
        type=path,
        metavar="DIR",
        help="the directory to write text files of ListOps to",
    )
    parser.add_argument(
        "--write_sheet",
        type=path,
        metavar="FILE.png",
        help="the image file to write, with some examples of each class of a data set of images",
    )
    group = parser.add_argument_group(f"options of {dataset_type.name}")
    options = dataclasses.fields(dataset_type.options_class)
    for option in options:
        default: Any = option.default
        text = f"default: {default}"
        group.add_argument(f"--{option.name}", type=type(default), default=default, help=text)
    arguments = parser.parse_args(argv)
    if arguments.write_tsv and not hasattr(dataset_type, "write_tsv"):
        raise UserError(f"--write_tsv writes only ListOps, not {dataset_type.name}; leave it out")

    dataset = dataset_type.create(
        arguments.data_dir,
        arguments.manual_dir,
        **{option.name: getattr(arguments, option.name) for option in options},
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
        print(f"some examples of each class are in {arguments.write_sheet}")


if __name__ == "__main__":
    sys.exit(run(main))
