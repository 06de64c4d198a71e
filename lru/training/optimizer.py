"""AdamW with warm-up, cosine annealing, and a learning rate and weight decay per parameter group.

`Experiment` makes the optimizer from the section `optimizer` of a config, and `lru.training.step`
applies it.
"""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax

from lru.errors import UserError
from lru.io.terminal import aligned

Row = tuple[str, float, float]


class Group(NamedTuple):
    """A row of the table of parameter groups.

    Attributes:
      pattern: the regex that is found in the paths of the group's parameters.
      peak_rate: the peak of the group's learning rate.
      weight_decay: the group's weight decay.
      arrays: the number of arrays in the group.
      parameters: the number of elements of these arrays.
      names: the last parts of the paths of these arrays, each once.
    """

    pattern: str
    peak_rate: float
    weight_decay: float
    arrays: int
    parameters: int
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The section `optimizer` of a config.

    Attributes:
      learning_rate: the peak of the base rate, which is the learning rate of a group with factor 1.
      groups: rows `(regex, factor, weight decay)`. A parameter belongs to the first row whose
        regex is found in its path, such as `"stack/blocks_0/mixer/nu_log"`. Its peak rate is the
        peak of the base rate times the factor. A factor of 0 freezes the parameter.
      b1, b2, eps: see `optax.adamw`.
      warmup_fraction: the share of the steps in which the rates rise linearly from
        `end_learning_rate` to their peaks.
      end_learning_rate: the rate in the first step, if there is a warm-up, and the rate that cosine
        annealing would reach after the last step. A group whose peak is below this rate has its
        peak rate throughout. This default and that of `warmup_fraction` are those of Orvieto et al.
        (2023), Appendix D.2: warm-up over the first 10 % of training, from 1e-7, and cosine
        annealing to 1e-7.

    Raises:
      UserError: an option is out of its range, or a row is not `(regex, factor, weight decay)`.
    """

    learning_rate: float
    groups: Sequence[Row]
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    warmup_fraction: float = 0.1
    end_learning_rate: float = 1e-7

    def __post_init__(self) -> None:
        _check_ranges(
            learning_rate=(self.learning_rate, 1e-30, 1e30), eps=(self.eps, 1e-30, 1),
            warmup_fraction=(self.warmup_fraction, 0, 1),
            end_learning_rate=(self.end_learning_rate, 0, self.learning_rate),
        )  # fmt: skip
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            if not 0 <= value < 1:
                raise UserError(
                    f"config.optimizer.{name} is {value}; expected at least 0 and less than 1"
                )
        if not isinstance(self.groups, Sequence) or isinstance(self.groups, str):
            raise UserError(
                f"config.optimizer.groups is {self.groups!r}; expected rows of (regex, learning "
                "rate factor, weight decay)"
            )
        object.__setattr__(self, "groups", tuple(_checked_row(row) for row in self.groups))


def make_optimizer(
    params: Any, steps: int, options: OptimizerSettings
) -> tuple[optax.GradientTransformation, optax.Schedule, list[Group]]:
    """Makes AdamW with separate learning rates and weight decays for the groups of parameters.

    Args:
      params: the tree of parameters (only shapes and names matter).
      steps: the number of training steps.
      options: the section `optimizer` of a config.

    Returns:
      The optimizer, the schedule of the base rate, and the table of groups.

    Raises:
      UserError: a parameter belongs to no row, or a row has no parameters.
    """
    rows, base_peak = options.groups, options.learning_rate
    labels = jax.tree_util.tree_map_with_path(lambda path, _: _label(path, rows), params)
    table = _table(params, labels, rows, base_peak)

    def schedule(peak: float) -> optax.Schedule:
        end = min(options.end_learning_rate, peak)
        warmup = round(steps * options.warmup_fraction)
        last = max(steps, warmup + 1)  # Optax needs a step after the warm-up
        return optax.warmup_cosine_decay_schedule(end, peak, warmup, last, end)

    def adamw(row: Row) -> optax.GradientTransformation:
        _, factor, decay = row
        if factor == 0:
            return optax.set_to_zero()
        rate = schedule(base_peak * factor)
        return optax.adamw(rate, options.b1, options.b2, options.eps, weight_decay=decay)

    optimizer = optax.partition({i: adamw(row) for i, row in enumerate(rows)}, labels)
    return optimizer, schedule(base_peak), table


def is_constant(
    learning_rate: float,
    groups: Sequence[Row],
    warmup_fraction: float = 0.1,
    end_learning_rate: float = 1e-7,
    **_: Any,
) -> bool:
    """Returns whether the learning rates have neither a warm-up nor annealing.

    They then do not depend on the number of steps. The arguments are those of `OptimizerSettings`.

    Example:
      >>> is_constant(0.1, [(".*", 1.0, 0.0)], warmup_fraction=0.0, end_learning_rate=0.1)
      True
    """
    factors = [1.0, *(factor for _, factor, _ in groups)]
    return not warmup_fraction and all(end_learning_rate >= learning_rate * f for f in factors)


_LONGEST = 40  # characters of a group's name, so that the table fits a terminal of 80 columns


def _shown(group: Group, alone: bool) -> str:
    """Returns a text of limited length that stands for a group.

    The text is the group's pattern or, if that is long, as many of `group.names` as fit. The
    pattern `.*` becomes "all", or "all others" if there are other groups.
    """
    if group.pattern == ".*":
        return "all" if alone else "all others"
    if len(group.pattern) <= _LONGEST:
        return group.pattern
    return textwrap.shorten(", ".join(group.names), _LONGEST, placeholder=" ...")


def format_table(table: Sequence[Group]) -> str:
    """Formats the table of groups as lines of text."""
    rows = [["group", "peak rate", "decay", "arrays", "parameters"]]
    for group in table:
        rates = [f"{group.peak_rate:g}", f"{group.weight_decay:g}"]
        rows.append(
            [_shown(group, len(table) == 1), *rates, f"{group.arrays}", f"{group.parameters:,}"]
        )
    arrays, parameters = (sum(column) for column in zip(*(group[3:5] for group in table)))
    rows.append(["", "", "total", f"{arrays}", f"{parameters:,}"])
    return aligned(rows, left=rows[0][:1])


def parameter_path(path: Any) -> str:
    """Returns a leaf's key path as text, such as `"stack/blocks_0/mixer/nu_log"`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _checked_row(row: Any) -> Row:
    try:
        pattern, factor, decay = row
        re.compile(pattern)
        row = pattern, float(factor), float(decay)
        if not (0 <= row[1] < math.inf and 0 <= row[2] < math.inf):
            raise ValueError("a number is negative or not finite")
        return row
    except (TypeError, ValueError, re.error) as error:
        raise UserError(
            f"config.optimizer.groups has the row {row!r} ({error}); expected "
            "(regex, learning rate factor, weight decay)"
        ) from error


def _check_ranges(**options: tuple[float, float, float]) -> None:
    for name, (value, least, most) in options.items():
        if not least <= value <= most:
            bound = ", the learning_rate" if name == "end_learning_rate" else ""
            raise UserError(
                f"config.optimizer.{name} is {value}; expected a number from {least} to "
                f"{most}{bound}"
            )


def _label(path: Any, rows: Sequence[Row]) -> int:
    name = parameter_path(path)
    for index, (pattern, _, _) in enumerate(rows):
        if re.search(pattern, name):
            return index
    raise UserError(f"parameter {name} matches no row of config.optimizer.groups; add one for it")


def _table(params, labels, rows, base_peak) -> list[Group]:
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(params))
    triples = list(zip(jax.tree.leaves(labels), map(parameter_path, paths), leaves))
    table = []
    for index, (pattern, factor, decay) in enumerate(rows):
        sizes = [leaf.size for label, _, leaf in triples if label == index]
        names = [path.rpartition("/")[2] for label, path, _ in triples if label == index]
        if not sizes:
            raise UserError(
                f"config.optimizer.groups has a row {pattern!r} that matches no parameter; "
                "correct the regex or delete the row"
            )
        found = len(sizes), sum(sizes), tuple(dict.fromkeys(names))
        table.append(Group(pattern, base_peak * factor, decay, *found))
    return table
