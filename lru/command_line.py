"""Code shared by the commands: arguments, compilation cache, signals, error messages, scripts."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import lru
from lru.errors import Stopped, UserError
from lru.io.terminal import log, printable


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises a `UserError` for invalid arguments, instead of exiting.

    In the description and the epilog, each paragraph is wrapped, but indented lines are kept.

    Args:
      prog: "python -m lru.NAME", which is replaced with lru-NAME in the script of that name.
      appendix: a function that returns the last part of the help; called only if the help is shown.
      **kwargs: the other arguments of `ArgumentParser`, except `formatter_class` and
        `allow_abbrev`.
    """

    def __init__(self, prog: str, appendix: Callable[[], str] = str, **kwargs):
        _check_package()  # every command creates a parser first
        script = Path(sys.argv[0]).stem
        prog = script if prog == script.replace("lru-", "python -m lru.") else prog
        super().__init__(prog=prog, formatter_class=_Paragraphs, allow_abbrev=False, **kwargs)
        self._appendix = appendix

    def format_help(self) -> str:
        text, appendix = super().format_help(), self._appendix()
        return f"{text}\n{appendix}" if appendix else text

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _Paragraphs(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            part if part.startswith(" ") else fill(part, width, indent)
            for part in text.strip().split("\n\n")
        )


def not_empty(text: str) -> str:
    """Returns an argument unchanged, after checking that it is not empty.

    Without the check, `Path` would take an empty argument for the current directory.

    Raises:
      ArgumentTypeError: if the argument is empty, or only white space.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path, or . for this directory")
    return text


def path(text: str) -> Path:
    """Returns an argument as a path; see `not_empty`."""
    return Path(not_empty(text))


def add_data_arguments(parser: Parser, needed: bool = True) -> None:
    """Adds `--data_dir` and `--manual_dir`, the directories of prepared data and official files.

    Args:
      parser: the parser to add the arguments to.
      needed: False if the command reads the data set only for runs without a description of their
        data. If True, `--data_dir` is required unless there is a default.
    """
    default = default_data_dir()
    parser.add_argument(
        "--data_dir", type=path, metavar="DIR", default=default,
        required=needed and default is None,
        help=f"the directory of prepared data sets, shared by all runs; default: {default}",
    )  # fmt: skip
    parser.add_argument(
        "--manual_dir",
        type=path,
        metavar="DIR",
        help="the directory with the files of official releases of data sets",
    )


def add_run_arguments(parser: Parser, needs_data: bool = False, exports: bool = False) -> None:
    """Adds `--workdir`, `--allow` and the data arguments, for commands that read a trained run.

    Args:
      parser: the parser to add the arguments to.
      needs_data: see `add_data_arguments`.
      exports: whether `--workdir` may be an export.
    """
    parser.add_argument(
        "--workdir",
        required=True,
        type=path,
        metavar="DIR",
        help="the work directory of a run of lru.train" + ", or an export" * exports,
    )
    parser.add_argument(
        "--allow", action="append", default=[], metavar="PACKAGE",
        help=(
            "a package whose classes the run's config may name, besides those of lru and flax; may "
            "be repeated"
        ),
    )  # fmt: skip
    add_data_arguments(parser, needs_data)


def add_process_arguments(parser: Parser) -> None:
    """Adds `--coordinator`, `--num_processes` and `--process_id`, for several processes."""
    group = parser.add_argument_group(
        "several processes",
        "SLURM, Open MPI and TPU pods need none of these arguments. Elsewhere, start every "
        "process with the same command, but its own --process_id. All processes read and write "
        "the same directories.",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="the address of process 0")
    group.add_argument("--num_processes", type=int, help="the number of processes")
    group.add_argument("--process_id", type=int, help="the number of this process, from 0")


def join_processes(arguments: argparse.Namespace) -> None:
    """Joins a run's other processes, if any, and drops standard output except in process 0."""
    from lru.training import processes

    processes.join(arguments.coordinator, arguments.num_processes, arguments.process_id)
    if not processes.is_first():
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def default_data_dir() -> Path | None:
    """Returns `$LRU_DATA_DIR`, else `$XDG_CACHE_HOME/lru/data`, else `~/.cache/lru/data`.

    Returns None if neither variable is set and the home directory is unknown.
    """
    chosen, cache = os.environ.get("LRU_DATA_DIR"), _cache_dir()
    return Path(chosen) if chosen else cache and cache / "data"


def _cache_dir() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lru"
    except RuntimeError:  # the home directory cannot be determined
        return None


INSTALL = (
    'pip install "lru-flax[train] @ git+<address of the repository>", '
    'or in a checkout pip install ".[train]"'
)
CACHE_HELP = (
    "Compiled programs are cached in JAX_COMPILATION_CACHE_DIR, by default $XDG_CACHE_HOME/lru/jax "
    "or ~/.cache/lru/jax; JAX_ENABLE_COMPILATION_CACHE=false disables the cache."
)


def cache_compilations() -> None:
    """Caches compiled programs on disk, unless JAX already has a cache directory.

    Does nothing if the directory of the cache cannot be created. A program that cannot be read from
    the cache is compiled; failures to write to the cache are ignored.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    if (cache := _cache_dir()) is None:
        return
    cache /= "jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES" not in os.environ:
        # These caches are XLA's own. A GPU run would fail if their files could not be written.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


_PROCESSES = "lru.training.processes"  # not imported here, because it imports JAX


class _Stopped(BaseException):
    """Raised by the handler of SIGTERM that `run` installs."""


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Returns:
      The `exit_code` of a `UserError`, or one of these codes:
        0: success.
        2: a file cannot be read or written, a package or a device is missing, the device has too
          little memory, or another process of the run is lost.
        130, 143: SIGINT or SIGTERM ended the command, whether or not its work was saved.
        141: the reader of the output has closed the pipe.
    """
    _open_streams()
    # A script's background job inherits an ignored SIGINT, and only a handler lets SIGINT stop it.
    handlers = {signal.SIGTERM: _stop, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with _plain_log():
            _call(main, sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return _print_error(str(error), error.exit_code)
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:  # as with `| head`
        return 141
    except OSError as error:
        file = f" {error.filename}" if error.filename else ""
        advice = (
            "; free some disk space and run the command again"
            if error.errno == errno.ENOSPC
            else ""
        )
        return _print_error(f"cannot read or write{file}: {error.strerror or error}{advice}", 2)
    except ModuleNotFoundError as error:
        if (error.name or "lru").partition(".")[0] == "lru":
            raise
        return _print_error(
            f"{error.name} is not installed; install the dependencies of the commands:\n{INSTALL}",
            2,
        )
    except RuntimeError as error:
        processes = sys.modules.get(_PROCESSES)
        lost = processes.lost(error) if processes else ""
        if not (message := lost or _device_error(error)):
            raise
        return _print_error(message, 2)
    except KeyboardInterrupt:
        return _print_error("stopped by SIGINT", 130)
    except _Stopped:
        return _print_error("stopped by SIGTERM", 143)
    finally:
        _drop_unwritten()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _check_package() -> None:
    """Raises a `UserError` if `import lru` finds the package of another distribution."""
    if not hasattr(lru, "__version__"):
        raise UserError(
            "import lru finds another package, which hides lru-flax (lru-dict has the same "
            "import name);\nrun pip uninstall lru-dict lru-flax, then install lru-flax again"
        )


def _open_streams() -> None:
    """Opens the null device in place of standard streams that the shell closed, as with `>&-`.

    Otherwise a file opened later would get the file descriptor of a closed stream, and receive what
    is written to this descriptor.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _call(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Calls a command, then flushes its output, because a write may fail only at the flush."""
    try:
        main(argv)
    except SystemExit:  # after --help
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _drop_unwritten() -> None:
    """Discards standard output that cannot be written, so that Python prints no error on exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _device_error(error: RuntimeError) -> str:
    """Returns a short message if JAX lacks memory or a device; otherwise an empty string."""
    first = str(error).partition("\n")[0]
    if "RESOURCE_EXHAUSTED" in first:
        return f"{first[:200]}\nto train with less memory, reduce --config.train.batch_size"
    if "Unable to initialize backend" in first or "Unknown backend" in first:
        return (
            f"{first[:200]}; check JAX_PLATFORMS, and whether JAX is installed with support for "
            "the device"
        )
    return ""


def _print_error(text: str, exit_code: int) -> int:
    with suppress(BrokenPipeError):
        log(f"error: {text}", sys.stderr)
    processes = sys.modules.get(_PROCESSES)
    if processes and processes.are_several():
        processes.leave(exit_code)  # not through JAX's exit, which waits for the other processes
    return exit_code


def _stop(*_) -> NoReturn:
    raise _Stopped


class _PlainHandler(logging.StreamHandler):
    """A `StreamHandler` that raises errors instead of printing a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def _plain_log() -> Iterator[None]:
    """Logs this package's messages as plain lines, and only critical ones of absl and asyncio.

    An error that these libraries both log and raise is therefore printed only once.
    """
    logger, *libraries = (logging.getLogger(name) for name in ("lru", "absl", "asyncio"))
    before = [changed.level for changed in (logger, *libraries)]
    handler = _PlainHandler(sys.stdout)
    handler.setFormatter(_Printable("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # a library may have added a handler to the root logger
    logger.setLevel(logging.INFO)
    for library in libraries:
        library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        for changed, level in zip((logger, *libraries), before):
            changed.setLevel(level)


def _script(name: str) -> Callable[[], int]:
    """Returns the function of the console script lru-NAME: that of `python -m lru.NAME`."""

    def main(argv: Sequence[str]) -> None:  # `run` reports a package that the import does not find
        importlib.import_module(f"lru.{name}").main(argv)

    return lambda: run(main)


# The console scripts in `pyproject.toml`.
compare = _script("compare")
evaluate = _script("evaluate")
export = _script("export")
generate = _script("generate")
predict = _script("predict")
prepare = _script("prepare")
reduce = _script("reduce")
spectrum = _script("spectrum")
train = _script("train")
