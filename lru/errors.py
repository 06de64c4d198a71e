"""The one exception whose text is meant for the person at the keyboard."""


class UserError(Exception):
    """Something given to the program is wrong: a config, a file, an argument, a checkpoint.

    The message says in one or two lines what was given, what was expected and what to do. The
    command lines print it without a traceback and end with `exit_code`.
    """

    exit_code = 2
