"""What the command lines share: arguments, and mistakes told in one or two lines."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from lru.errors import UserError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaint is a `UserError`, without the usage text."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Runs a command line; the exit code is 0, or the one of the `UserError` it ended with."""
    _log_plainly()
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _log_plainly() -> None:
    """What this package logs, a plain line each; of the libraries' own news only errors."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("lru")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.ERROR)
