"""The section `train` of a config: the length of training, batch sizes, intervals and options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from lru.errors import UserError

_MAY_BE_ZERO = ("steps", "eval_batch_size", "device_data_mb", "patience", "unroll", "epochs")
_MOST_STEPS = 2**31 - 1  # the step of a state is int32


@dataclasses.dataclass(frozen=True)
class Settings:
    """The section `train` of a config.

    Attributes:
      steps: the number of optimizer steps; 0 if `epochs` is given.
      batch_size: the number of examples, or of streams of a text, per step on all devices together.
      log_every: the number of steps between two lines of training metrics.
      eval_every: the number of steps between two evaluations on the validation split. Each
        evaluation also saves a checkpoint.
      checkpoint_every: the number of steps between two checkpoints, besides those of evaluations.
      eval_batch_size: the number of examples, or of streams of a text, per evaluation step; 0 for
        `batch_size`.
      tensorboard: whether to write TensorBoard event files as well.
      wandb: whether to log to Weights & Biases as well; see
        `lru.training.writers.WeightsAndBiases`.
      steps_per_call: the maximum number of steps per call of the compiled program. A call ends
        earlier if there is something to log, evaluate or save. During a call, a signal is handled
        within about a second, or at the end of a step that takes longer.
      device_data_mb: the maximum size in megabytes of a training split that is stored on every
        device. Its batches are gathered on the device. The host reads larger splits, and all texts,
        batch by batch; with 0, it reads every split in this way.
      matmul_precision: the precision of float32 products on devices that can also compute them
        faster and less precisely. "float32" is full precision; "tensorfloat32" and "bfloat16" name
        the lowest precision that may be used; "auto" is "tensorfloat32" on a GPU, and "float32"
        elsewhere.
      select: the validation metric that selects the checkpoint to test: "accuracy" or "loss" for
        classes and texts, "loss" or "rmse" for real numbers.
      test_curve: whether every evaluation also evaluates the test split, for a test curve in the
        record. The test metrics do not affect the selection.
      record_eigenvalues: whether to write into the record the eigenvalues before training and those
        of the selected checkpoint.
      record_gradient_norms: whether to log the norm of each layer's gradient with the training
        metrics, as a mean over the steps since their last line, and to write the norms into the
        record.
      patience, least_improvement, improvement_over: the rule for early stopping; see
        `lru.training.selection.stops_early`. A patience of 0 disables early stopping.
      unroll: T, the number of steps of a text between two updates; for texts only.
      epochs: the number of passes over a text, in place of `steps`. The run is evaluated at the end
        of each pass, and `eval_every` is ignored. For texts only.
      accumulate: the number of equal parts of a batch whose gradients are computed in turn and
        summed, to save memory. The results equal those of the whole batch up to rounding, except
        that batch norm takes the statistics of each part, and dropout draws other masks.
      time_devices: the number of devices that share the steps of each example, for a mixer with
        `sequence_axis="time"`; it must divide the length of the examples and the number of devices.
      init_from: the work directory or export with the initial weights; "" for random weights.

    Raises:
      UserError: a value is out of its range, or not exactly one of `steps` and `epochs` is given.
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
    matmul_precision: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    select: Literal["accuracy", "loss", "rmse"] = "accuracy"
    test_curve: bool = False
    record_eigenvalues: bool = False
    record_gradient_norms: bool = False
    patience: int = 0
    least_improvement: float = 0.0
    improvement_over: Literal["best", "previous"] = "best"
    unroll: int = 0
    epochs: int = 0
    accumulate: int = 1
    time_devices: int = 1
    init_from: str = ""
    wandb: bool = False

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = int(name not in _MAY_BE_ZERO)
            if type(value) is int and value < least:
                raise UserError(f"config.train.{name} is {value}; expected at least {least}")
        if not 0 <= self.least_improvement < math.inf:
            raise UserError(
                f"config.train.least_improvement is {self.least_improvement}; expected a finite "
                "number of at least 0"
            )
        if self.steps > _MOST_STEPS:
            raise UserError(f"config.train.steps is {self.steps}; expected at most {_MOST_STEPS:,}")
        if (self.steps == 0) == (self.epochs == 0):
            raise UserError(
                f"config.train.steps is {self.steps} and epochs is {self.epochs}; expected one "
                "of them to be 0, and the other above 0"
            )

    def in_steps(self, steps_per_epoch: int | None) -> Settings:
        """Returns the settings with `steps` in place of `epochs`, and `eval_every` of one epoch.

        Settings without `epochs` are returned unchanged.

        Args:
          steps_per_epoch: the number of steps in a pass over the data; None changes nothing.

        Raises:
          UserError: the epochs have too many steps.

        Example:
          >>> Settings(steps=0, batch_size=1, epochs=3).in_steps(50).steps
          150
        """
        if not self.epochs or steps_per_epoch is None:
            return self
        steps = self.epochs * steps_per_epoch
        if steps > _MOST_STEPS:
            raise UserError(
                f"config.train.epochs is {self.epochs}, with {steps_per_epoch:,} steps each; "
                f"expected at most {_MOST_STEPS // steps_per_epoch:,}"
            )
        return dataclasses.replace(self, steps=steps, epochs=0, eval_every=steps_per_epoch)

    def spans(self, first_step: int) -> Iterator[tuple[int, int]]:
        """Yields the first step and the number of steps of each call, from `first_step` to the end.

        No call crosses a step at which the run logs, evaluates or saves.

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
        """The maximum number of steps in one call, at most `steps_per_call`.

        A call ends where the run ends, or a log, an evaluation or a checkpoint is due.
        """
        return min(self.steps_per_call, self.steps, *self._every)

    @property
    def _every(self) -> tuple[int, ...]:
        return self.log_every, self.eval_every, self.checkpoint_every
