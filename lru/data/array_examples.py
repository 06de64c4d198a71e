"""Derives the specification of a user's own arrays, and encodes their examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from lru.data.array_files import Part
from lru.data.array_spec import ArraySpec, Scaling, check_finite, resolve_target
from lru.errors import UserError

_MOST_TOKENS = 65_536
# Unless the user chose the kind of the targets, more different integers than _MANY_LABELS, or than
# half of the targets, may be numbers instead of labels. At most _FEW_LABELS are always labels: a
# few examples may all have different labels.
_MANY_LABELS, _FEW_LABELS = 1_000, 10


class _Form(NamedTuple):
    """The form of the arrays of a split, which has to be the same for all splits."""

    inputs: str
    target: str
    last_axis: bool
    outputs: int

    def __str__(self) -> str:
        many = f", {self.outputs} numbers each" if self.outputs > 1 else ""
        return f"inputs of {self.inputs} and targets of the kind {self.target!r}{many}"


def spec_of(parts: Mapping[str, Part], target: str) -> ArraySpec:
    """Returns the specification of the arrays, with the scaling of the training split.

    Args:
      parts: the examples of each split.
      target: the kind of the targets, or "auto"; see `lru.data.array_spec.resolve_target`.

    Raises:
      UserError: if the splits differ in form; if an array cannot be used, for example because
        targets are missing, or there are too many tokens or too few classes; or if "auto" finds too
        many different integers for classes.
    """
    forms = {part.where: _form(part, target) for part in parts.values()}
    (first, form), *others = forms.items()
    for where, other in others:
        if other != form:
            raise UserError(
                f"{where} has {other}, but {first} has {form}; expected the same for all"
            )
    train, of_tokens = parts["train"], parts["train"].of_tokens
    labels = outputs = None
    if form.target.endswith("classes"):
        labels = _labels(parts, form.target, chosen=target != "auto")
    else:
        targets = (_targets(train, i, form.target)[0] for i in range(len(train)))
        outputs = Scaling.of(targets, f"y of {train.where}")
    return ArraySpec(
        form.target,
        form.outputs if labels is None else len(labels),
        inputs=None if of_tokens else Scaling.of(_features(train), f"x of {train.where}"),
        vocab_size=_vocab_size(parts) if of_tokens else None,
        outputs=outputs,
        labels=labels,
        last_axis=form.last_axis,
    )


def encoded(part: Part, spec: ArraySpec) -> Iterator[dict[str, np.ndarray]]:
    """Yields a dict for each example, without padding: `inputs`, `target` and `weight`.

    If there is a target for each step, the weight of a step is 1 if its target counts; else the
    weight and the target are 0. Otherwise there is one target, in an axis of length 1, with the
    weight 1.

    Raises:
      UserError: if the inputs do not fit the specification; if a feature, or a real target that
        counts, is not finite, before or after it is standardized; or if no target of an example
        counts.
    """
    for i in range(len(part)):
        inputs = spec.encode_inputs(part.inputs(i), f"x of {part.name(i)}")
        known, weight = _targets(part, i, spec.target)
        known = spec.encode_target(known, f"y of {part.name(i)}")
        target = np.zeros((len(weight), *known.shape[1:]), known.dtype)
        target[weight] = known
        yield {"inputs": inputs, "target": target, "weight": weight.astype(np.uint8)}


def _form(part: Part, target: str) -> _Form:
    if part.y is None:
        raise UserError(f"{part.where} has x, but no y; expected y, the targets of the examples")
    where = f"y of {part.where}"
    target, last_axis = resolve_target(target, part.y, part.steps, where)
    inputs = "tokens" if part.of_tokens else f"{part.x.shape[2]} features"
    if part.mask is not None and not target.startswith("step_"):
        raise UserError(f"{part.where} has a mask; expected none for the target {target!r}")
    return _Form(inputs, target, last_axis, part.y.shape[-1] if last_axis else 1)


def _features(part: Part) -> Iterator[np.ndarray]:
    for i in range(len(part)):
        check_finite(part.inputs(i), f"x of {part.name(i)}")
        yield part.inputs(i)


def _weight(part: Part, i: int, target: str) -> np.ndarray:
    """Returns which targets of an example count, `(t,)` bool; `(1,)` for a single target.

    Raises a UserError if none counts.
    """
    if not target.startswith("step_"):
        return np.ones(1, bool)
    weight = part.counts(i)
    if not weight.any():
        raise UserError(
            f"mask of {part.name(i)} is zero at every valid step; expected at least one 1"
        )
    return weight


def _targets(part: Part, i: int, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the targets of an example that count, and the result of `_weight`.

    The targets are labels `(m,)` or numbers `(m, k)`.
    """
    weight = _weight(part, i, target)
    per_step = target.startswith("step_")
    y = np.asarray(part.target(i, per_step)).reshape(len(weight), -1)[weight]
    if target.endswith("classes"):
        return _as_labels(y[:, 0], f"y of {part.name(i)}"), weight
    check_finite(y, f"y of {part.name(i)}")
    return y, weight


def _as_labels(y: np.ndarray, where: str) -> np.ndarray:
    if y.max() > (most := np.iinfo(np.int64).max):
        raise UserError(f"{where} has the label {y.max()}; expected at most {most}")
    return y.astype(np.int64)


def _labels(parts: Mapping[str, Part], target: str, chosen: bool) -> tuple[int, ...]:
    """Returns the different labels of all splits, in increasing order.

    Raises a UserError if there is only one, or if there are too many and `chosen` is False: the
    user did not choose the kind of the targets.
    """
    found: set[int] = set()
    number = 0
    for part in parts.values():
        for i in range(len(part)):
            y, _ = _targets(part, i, target)
            found.update(np.unique(y).tolist())
            number += len(y)
    where = "y of " + parts["train"].where.removesuffix(", split train")  # it is of all splits
    if len(found) < 2:
        raise UserError(f"{where} has a single class; expected at least two")
    if not chosen and len(found) > min(max(number // 2, _FEW_LABELS), _MANY_LABELS):
        values = target.replace("classes", "values")
        raise UserError(
            f"{where} has {len(found)} different integers in {number} targets; give "
            f"--config.data.target={values} if they are numbers, or ={target} if they are labels"
        )
    return tuple(sorted(found))


def _vocab_size(parts: Mapping[str, Part]) -> int:
    size = 0
    for part in parts.values():
        for i in range(len(part)):
            size = max(size, int(part.inputs(i).max()) + 1)
            if size > _MOST_TOKENS:
                raise UserError(
                    f"x of {part.name(i)} has the token {size - 1}; expected less than "
                    f"{_MOST_TOKENS}; give x as (n, T, features) if these are not tokens"
                )
    return max(size, 1)
