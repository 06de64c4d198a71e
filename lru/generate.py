"""Continues a prompt: `python -m lru.generate --workdir=DIR --prompt="The " --length=500`.

The model is restored from the best checkpoint of a run of a language model of characters, such as a
run of one of `configs/charlm_*.py`. Characters are printed as they are drawn.

For example:

    python -m lru.generate --workdir=runs/ptb --prompt="The " --length=200
    python -m lru.generate --workdir=runs/ptb --prompt="The " --temperature=0 --seed=1
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import sys
from collections.abc import Callable, Sequence

from lru.command_line import CACHE_HELP, Parser, add_run_arguments, cache_compilations, run
from lru.errors import UserError
from lru.io.terminal import log, printable, write


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, restores the model, and prints the prompt and its continuation."""
    parser = Parser("python -m lru.generate", description=__doc__, epilog=CACHE_HELP)
    add_run_arguments(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="at least one character")
    parser.add_argument(
        "--length",
        type=_least(int, 1),
        default=500,
        help="the number of characters to generate; default: 500",
    )
    parser.add_argument(
        "--temperature",
        type=_least(float, 0),
        default=0.8,
        help="0 always chooses the most likely character; default: 0.8",
    )
    parser.add_argument(
        "--top-k",
        type=_least(int, 1),
        metavar="K",
        help="sample only from the K most likely characters",
    )
    parser.add_argument("--seed", type=_least(int, 0), help="default: a random seed")
    known = parser.parse_args(argv)
    if not known.prompt:
        parser.error("--prompt is empty; expected at least one character")
    if any("\ud800" <= character <= "\udfff" for character in known.prompt):
        parser.error("--prompt is not in the encoding of this terminal")

    from lru.models.sampling import sample
    from lru.training.best import restore_best
    from lru.training.tasks import LanguageModelling

    cache_compilations()
    experiment, state, _ = restore_best(
        known.workdir, data_dir=known.data_dir, manual_dir=known.manual_dir, allow=known.allow,
        read_data=False,
    )  # fmt: skip
    text = experiment.dataset
    if not isinstance(experiment.task, LanguageModelling):
        raise UserError(
            f"the model of the run in {known.workdir} is not a language model: its data set is "
            f"{text.name}; expected a run of one of configs/charlm_*.py"
        )
    prompt = text.encode(known.prompt)
    if odd := sorted({c for c in known.prompt if 0 in text.encode(c)}):
        shown = printable(" ".join(odd), keep="")
        log(
            f"note: these characters are not in the training text and are read as unknown: {shown}",
            sys.stderr,
        )
    seed = secrets.randbits(32) if known.seed is None else known.seed
    print(f"seed: {seed}", file=sys.stderr)
    tokens = sample(
        experiment.model, experiment.variables(state), prompt.tolist(),
        seed=seed, temperature=known.temperature, top_k=known.top_k,
    )  # fmt: skip
    generated = text.as_text(itertools.islice(tokens, min(known.length, sys.maxsize)))
    with experiment.precision():
        for characters in itertools.chain([known.prompt], generated):
            write(characters)
    print()


def _least(number: Callable[[str], float], least: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = number(text)
        except ValueError:
            value = -1
        if not least <= value < float("inf"):
            kind = "whole" if number is int else "finite"
            raise argparse.ArgumentTypeError(
                f"{text!r}; expected a {kind} number of at least {least}"
            )
        return value

    return parse


if __name__ == "__main__":
    sys.exit(run(main))
