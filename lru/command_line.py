"""What the command lines share: arguments, and mistakes told in one or two lines."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lru.errors import UserError
from lru.terminal import printable, say


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaint is a `UserError`, without the usage text."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def not_empty(text: str) -> str:
    """Returns an argument that names a file.

    Raises:
      ArgumentTypeError: it is empty, which `Path` would take for the current directory.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path, or . for this directory")
    return text


def path(text: str) -> Path:
    """Returns the path that an argument gives, see `not_empty`."""
    return Path(not_empty(text))


def add_data_arguments(parser: Parser, needed: bool = True) -> None:
    """Adds `--data_dir` and `--manual_dir`, where data sets are.

    Args:
      parser: to which they are added.
      needed: False if the data set is read only for a run that does not describe it.
    """
    default = default_data_dir()
    parser.add_argument(
        "--data_dir", type=path, default=default, required=needed and default is None,
        help=f"of prepared data sets, reused by all runs; default: {default}",
    )  # fmt: skip
    parser.add_argument("--manual_dir", type=path, help="of files of official releases")


def add_run_arguments(parser: Parser, needs_data: bool = False) -> None:
    """Adds the arguments that name a trained run: those above, `--workdir` and `--allow`."""
    parser.add_argument("--workdir", required=True, type=path, help="as given to lru.train")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="PACKAGE",
        help="a package of yours that the run's config names; without it, only classes of lru and "
        "flax are loaded; repeatable",
    )  # fmt: skip
    add_data_arguments(parser, needs_data)


def default_data_dir() -> Path | None:
    """Returns `$LRU_DATA_DIR`, else `$XDG_CACHE_HOME/lru/data`, else `~/.cache/lru/data`."""
    chosen, cache = os.environ.get("LRU_DATA_DIR"), _cache_dir()
    return Path(chosen) if chosen else cache and cache / "data"


def _cache_dir() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lru"
    except RuntimeError:  # nobody knows where home is
        return None


CACHE_HELP = (
    "Compiled programs are kept in JAX_COMPILATION_CACHE_DIR, by default $XDG_CACHE_HOME/lru/jax "
    "or ~/.cache/lru/jax; JAX_ENABLE_COMPILATION_CACHE=false keeps none."
)


def cache_compilations() -> None:
    """Keeps compiled programs on disk for the next process, unless JAX was told where already.

    A directory that cannot be written, or a damaged file in it, costs time and nothing else.
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
        # XLA's own files beside JAX's: a GPU run would end if they could not be written.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


class _Stopped(BaseException):
    """SIGTERM, where nothing has its own way with it."""


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Runs a command line, and returns its exit code.

    It is 0; or the one of the `UserError` it ended with; 2 if a file cannot be read or written or
    a package or a device is missing, or memory is short; 130 or 143 if a signal ended it, 141 if
    nobody reads on what it writes.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with _plain_log():
            main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        file = f" {error.filename}" if error.filename else ""
        return _complain(f"cannot read or write{file}: {error.strerror or error}", 2)
    except ModuleNotFoundError as error:
        if (error.name or "lru").partition(".")[0] == "lru":
            raise
        return _complain(f"{error.name} is not installed; pip install '.[train]' has it", 2)
    except RuntimeError as error:
        if not (said := _device_trouble(error)):
            raise
        return _complain(said, 2)
    except KeyboardInterrupt:
        return _complain("stopped by SIGINT", 130)
    except _Stopped:
        return _complain("stopped by SIGTERM", 143)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _device_trouble(error: RuntimeError) -> str:
    """What JAX says of too little memory or of a device that is not there, in a line or two."""
    first = str(error).partition("\n")[0]
    if "RESOURCE_EXHAUSTED" in first:
        return f"{first[:200]}\na smaller config.train.batch_size needs less memory"
    if "Unable to initialize backend" in first or "Unknown backend" in first:
        return f"{first[:200]}; see JAX_PLATFORMS, and how to install JAX for the device"
    return ""


def _complain(text: str, exit_code: int) -> int:
    say(f"error: {text}", sys.stderr)
    return exit_code


def _stop(*_) -> NoReturn:
    raise _Stopped


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def _plain_log() -> Iterator[None]:
    """What this package logs, a plain line each; and no tracebacks that libraries log.

    What goes wrong in them comes as an exception as well, and is told once, at the end.
    """
    logger, *libraries = (logging.getLogger(name) for name in ("lru", "absl", "asyncio"))
    before = [changed.level for changed in (logger, *libraries)]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Printable("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # some library may have given the root logger a handler of its own
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
