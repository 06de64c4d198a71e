"""The one exception whose text is meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something given to the program is wrong: a config, a file, an argument, a checkpoint.

    The message says in one or two lines what was given, what was expected and what to do. The
    command lines print it without a traceback and end with `exit_code`.
    """

    exit_code = 2


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known.

    Example:
      >>> did_you_mean("tran", ["train", "test"])
      "did you mean 'train'?"
      >>> did_you_mean("dev", ["train", "test"])
      'there are: train, test'
    """
    known = list(known)
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
