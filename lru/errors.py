"""Exceptions and messages for the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct, for example in a config, a file or an argument.

    The message says what is wrong, and what was expected or what to do. The commands print the
    message without a traceback and exit with `exit_code`.
    """

    exit_code = 2


class Stopped(Exception):
    """Raised after a signal, when the program has saved its work and logged the stop.

    Args:
      number: the number of the signal. The exit code of the commands is 128 plus this number, as is
        usual in shells.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {int(number)}")
        self.exit_code = 128 + number


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: a similar known name, or all known names.

    Example:
      >>> did_you_mean("tran", ["train", "test"])
      "did you mean 'train'?"
      >>> did_you_mean("dev", ["train", "test"])
      'there are: train, test'
    """
    known = list(known)
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
