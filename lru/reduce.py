"""Reduces a trained LRU: `python -m lru.reduce --workdir=DIR --modes=K --out=FOLDER`.

Every LRU of the model gets K modes instead of N. K is given (`--modes`), or is as large as balanced
truncation needs to keep a share of the sum of each layer's Hankel singular values (`--energy`), or
to guarantee a bound on each layer's relative error in the H-infinity norm (`--tolerance`). All
layers get the same K, the largest that any layer needs. The command writes an export, which
`lru.export.load`, `lru.evaluate` and `lru.train --init_from` read. With `--sweep`, it writes a JSON
file and a plot instead: a score, such as accuracy, against K.

For example:

    python -m lru.reduce --workdir=runs/listops --modes=16 --out=reduced
    python -m lru.reduce --workdir=runs/listops --energy=0.99 --out=reduced
    python -m lru.reduce --workdir=runs/listops --sweep --out=sweep
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lru.analysis.reduction import (
    METHODS,
    balanced_truncation,
    enough_modes,
    hankel_singular_values,
    modal_truncation,
    model_hankel_singular_values,
    singular_perturbation,
)
from lru.command_line import CACHE_HELP, Parser, add_run_arguments, cache_compilations, path, run
from lru.errors import UserError
from lru.io.terminal import log

__all__ = [
    "balanced_truncation", "enough_modes", "hankel_singular_values", "main", "modal_truncation",
    "model_hankel_singular_values", "singular_perturbation",
]  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Parses the arguments, and writes the export or the sweep."""
    known = _parser().parse_args(argv)
    if known.tolerance and known.inputs == "measured":
        raise UserError(
            "--tolerance is given with --inputs=measured, for which there is no bound on the "
            "error; give --energy, or --inputs=white"
        )

    from lru.training.exporting import check_out
    from lru.training.reducing import restore_run

    check_out(known.out)
    cache_compilations()
    restored = restore_run(
        known.workdir,
        None if known.split == "none" else known.split,
        data_dir=known.data_dir,
        manual_dir=known.manual_dir,
        allow=known.allow,
    )
    (_sweep if known.sweep else _reduce)(restored, known)


def _parser() -> Parser:
    parser = Parser("python -m lru.reduce", description=__doc__, epilog=CACHE_HELP)
    add_run_arguments(parser)
    parser.add_argument(
        "--out", required=True, type=path, metavar="FOLDER", help="the folder to create"
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument(
        "--modes", type=int, metavar="K", help="the number of modes of each layer, at most N"
    )
    size.add_argument(
        "--energy",
        type=float,
        metavar="SHARE",
        help="the share of the sum of Hankel singular values to keep, for example 0.99",
    )
    size.add_argument(
        "--tolerance",
        type=float,
        metavar="ERROR",
        help="the relative error to allow, for example 0.5",
    )
    size.add_argument(
        "--sweep",
        action="store_true",
        help="write the scores for several numbers of modes as JSON, and plot them, instead of "
        "writing an export",
    )
    parser.add_argument(
        "--method",
        default="balanced",
        choices=list(METHODS),
        help="the method of reduction; default: balanced",
    )
    parser.add_argument(
        "--inputs", default="white", choices=["white", "measured"],
        help="the inputs for which to reduce each layer: white noise, or its inputs in training, "
        "which need the data set; default: white",
    )  # fmt: skip
    parser.add_argument(
        "--step", action="store_true", help="also export one step of the model as a program"
    )
    parser.add_argument(
        "--split", default="test", choices=["train", "validation", "test", "none"],
        help=(
            "the split to evaluate before and after the reduction; none does not read the data "
            "set, and cannot be given with --sweep or --inputs=measured; default: test"
        ),
    )  # fmt: skip
    return parser


def _reduce(restored: Any, known: Any) -> None:
    from lru.training.reducing import export_reduced

    layers, chosen = _reduced_layers(restored, known)
    scores: dict[str, dict[str, float]] = {}
    if restored.split:
        scores = {"before": restored.evaluate(), "after": restored.evaluate(layers)}
        _log_scores(restored.split, scores)
    tested = {"step": restored.step} | scores["after"] if restored.split == "test" else None
    about = {"reduced": chosen | {"split": restored.split} | scores, "test": tested}
    experiment = export_reduced(restored, layers, known.out, step=known.step, about=about)
    _log_size(restored, experiment, layers)
    files = ", ".join(sorted(file.name for file in known.out.iterdir()))
    log(f"wrote the checkpoint of step {restored.step:,} to {known.out}: {files}")
    log(
        f"to fine-tune it, run lru.train with --init_from={known.out} and "
        f"--config.model.mixer.d_state={chosen['modes']}"
    )


def _reduced_layers(restored: Any, known: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the reduced layers, by path, and a dict of the options and the numbers of modes."""
    from lru.training.reducing import each_layer, state_moments

    moments = state_moments(restored) if known.inputs == "measured" else {}
    needed = dict.fromkeys(restored.layers, known.modes)
    if known.modes is None:
        conditions = {"energy": known.energy, "tolerance": known.tolerance}
        needed = each_layer(enough_modes, restored, moments, **conditions)
    modes = max(needed.values())
    layers = each_layer(METHODS[known.method], restored, moments, modes=modes)
    for name, sigma in each_layer(hankel_singular_values, restored, moments).items():
        kept = 100 * sigma[: 2 * modes].sum() / sigma.sum()
        needs = "" if known.modes else f" (it needs {needed[name]})"
        first = f"{name}: {restored.d_state} to {modes} modes{needs}"
        log(f"{first}, the first {2 * modes} Hankel singular values are {kept:.2f} % of the sum")
    names = ("method", "inputs")
    chosen = {name: getattr(known, name) for name in names} | {"from_modes": restored.d_state}
    return layers, chosen | {"modes": modes, "needed": needed}


def _log_scores(split: str, scores: Mapping[str, Any]) -> None:
    from lru.training.record import format_score

    before, after = (
        f"{format_score(score)}  loss {score['loss']:.6f}" for score in scores.values()
    )
    log(f"{split} {before} before, {after} after")


def _log_size(restored: Any, experiment: Any, layers: Mapping[str, Any]) -> None:
    import jax

    from lru.training.reducing import forward_seconds, replace_layers, timed_inputs

    state = restored.state
    reduced = state.replace(params=replace_layers(state.params, layers))
    pairs = [
        (each.model, jax.device_get(each.variables(held)))
        for each, held in ((restored.experiment, state), (experiment, reduced))
    ]
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(held["params"])) for _, held in pairs]
    inputs = timed_inputs(experiment)
    before, after = (1000 * seconds for seconds in forward_seconds(pairs, inputs))
    log(f"parameters: {sizes[0]:,} before, {sizes[1]:,} after")
    log(
        f"forward pass of {len(inputs)} sequences of {inputs.shape[1]:,} steps: {before:.2f} ms "
        f"before, {after:.2f} ms after"
    )


def _sweep(restored: Any, known: Any) -> None:
    from lru.training.reduction_sweep import save_sweep, sweep

    save_sweep(sweep(restored), known.out)
    log(f"see {known.out / 'sweep.png'}, {known.out / 'sweep.json'}")


if __name__ == "__main__":
    sys.exit(run(main))
