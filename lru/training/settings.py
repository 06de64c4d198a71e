"""The section `train` of a config: how long, how often, in which portions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from lru.errors import UserError

_MAY_BE_ZERO = ("steps", "eval_batch_size", "device_data_mb", "patience", "unroll", "epochs")
_MOST_STEPS = 2**31 - 1  # a state counts its steps in int32


@dataclasses.dataclass(frozen=True)
class Settings:
    """The section `train` of a config.

    Attributes:
      steps: optimiser steps of the whole training; 0 where `epochs` are given.
      batch_size: examples a step, or streams of a text, over all devices together.
      log_every: steps between two lines of training metrics.
      eval_every: steps between two evaluations on the validation split, each saved.
      checkpoint_every: steps between two checkpoints.
      eval_batch_size: examples an evaluation step; the training batch size if 0.
      tensorboard: write TensorBoard's event files as well.
      steps_per_call: steps at most that are made in one go, without the host: a call ends sooner
        where there is something to log, to evaluate or to save. A signal is heard within about a
        second.
      device_data_mb: a training split of no more megabytes is kept on every device, and batches
        are gathered there; a larger one is read by the host, batch by batch. 0: always so.
      matmul_precision: of products of float32 numbers, where a device has faster, coarser ones:
        "float32" is exact; "tensorfloat32", "bfloat16" name the coarsest that may be used.
      select: the checkpoint that is tested is the one with the best validation "accuracy" or
        "loss".
      test_curve: evaluate the test split whenever the validation split is, for a curve of it;
        nothing is selected by it.
      record_eigenvalues: write the eigenvalues before training and of the tested checkpoint into
        the record.
      record_gradient_norms: log the norm of each layer's gradient with the training metrics, its
        mean over the steps since the last line, and write them into the record.
      patience, least_improvement, improvement_over: when to end before the last step, see
        `lru.training.selection.stops_early`; a patience of 0: never.
      unroll: T, steps of a text from one update to the next; of texts alone.
      epochs: passes over a text, instead of steps, with an evaluation at the end of each whatever
        `eval_every` is; of texts alone.
      init_from: the work directory or the export whose weights the run begins with; "" for none.
    """

    steps: int
    batch_size: int
    log_every: int = 100
    eval_every: int = 1000
    checkpoint_every: int = 1000
    eval_batch_size: int = 0
    tensorboard: bool = False
    steps_per_call: int = 10
    device_data_mb: int = 1024
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    select: Literal["accuracy", "loss"] = "accuracy"
    test_curve: bool = False
    record_eigenvalues: bool = False
    record_gradient_norms: bool = False
    patience: int = 0
    least_improvement: float = 0.0
    improvement_over: Literal["best", "previous"] = "best"
    unroll: int = 0
    epochs: int = 0
    init_from: str = ""

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = int(name not in _MAY_BE_ZERO)
            if type(value) is int and value < least:
                raise UserError(f"config.train.{name} is {value}; expected at least {least}")
        if not 0 <= self.least_improvement < math.inf:
            raise UserError(
                f"config.train.least_improvement is {self.least_improvement}; expected a finite "
                "number from 0"
            )
        if self.steps > _MOST_STEPS:
            raise UserError(f"config.train.steps is {self.steps}; expected at most {_MOST_STEPS:,}")
        if (self.steps == 0) == (self.epochs == 0):
            raise UserError(
                f"config.train.steps is {self.steps} and epochs is {self.epochs}; expected one of "
                "them to be 0, and the other above"
            )

    def in_steps(self, steps_per_epoch: int) -> Settings:
        """These settings with steps instead of epochs.

        Example:
          >>> Settings(steps=0, batch_size=1, epochs=3).in_steps(50).steps
          150
        """
        if not self.epochs:
            return self
        steps = self.epochs * steps_per_epoch
        if steps > _MOST_STEPS:
            raise UserError(
                f"config.train.epochs is {self.epochs}, of {steps_per_epoch:,} steps each; "
                f"expected at most {_MOST_STEPS // steps_per_epoch:,}"
            )
        return dataclasses.replace(self, steps=steps, epochs=0, eval_every=steps_per_epoch)

    def spans(self, first_step: int) -> Iterator[tuple[int, int]]:
        """Yields the calls from a step to the end: (step, count), none across a border.

        Example:
          >>> train = Settings(steps=9, batch_size=1, log_every=6, steps_per_call=4)
          >>> list(train.spans(first_step=1))
          [(1, 4), (5, 1), (6, 3)]
        """
        step = first_step
        while step < self.steps:
            borders = [(step // n + 1) * n for n in self._every]
            end = min(step + self.most_steps_per_call, self.steps, *borders)
            yield step, end - step
            step = end

    @property
    def most_steps_per_call(self) -> int:
        """`steps_per_call`, or what there is at most from one border to the next."""
        return min(self.steps_per_call, self.steps, *self._every)

    @property
    def _every(self) -> tuple[int, ...]:
        return self.log_every, self.eval_every, self.checkpoint_every
