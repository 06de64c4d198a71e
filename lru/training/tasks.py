"""The tasks: to predict labels or numbers of sequences or steps, or every next token of a text.

A task defines the content of a batch, how the model is applied to it, and the metrics, which
include the loss. The steps in `lru.training.step` are the same for all tasks.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np

from lru.data.builder import SequenceDataset
from lru.data.corpora import TextStream
from lru.data.pipeline import (
    Batch,
    evaluation_batches,
    read_ahead,
    read_all,
    training_batches,
    training_indices,
)
from lru.data.streams import begins_pass, stream_batches
from lru.errors import UserError
from lru.models.streaming import zero_carry
from lru.ops.array_typing import Array
from lru.training.description import Description
from lru.training.metrics import Metrics, RegressionMetrics
from lru.training.settings import Settings


class Task:
    """The interface of a task.

    Attributes:
      model_arguments: the model's arguments that depend on the data.
      items: the name and number of the items that a step reads, such as `("examples", 32)`.
      steps_per_epoch: the number of steps in a pass over the data; None if a batch may contain the
        end of one pass and the start of the next.
      selects: the metrics that `config.train.select` may name.
    """

    model_arguments: Mapping[str, Any]
    items: tuple[str, int]
    steps_per_epoch: int | None = None
    selects: tuple[str, ...] = ("accuracy", "loss")

    def summary(self) -> str:
        """Describes the training data in a few words."""
        raise NotImplementedError

    def example(self) -> Any:
        """Returns inputs with a batch size of 1, to infer the parameters' shapes."""
        raise NotImplementedError

    def check_sizes(self) -> None:
        """Checks that no batch size exceeds the size of the data.

        Reading a much larger batch might take hours.

        Raises:
          UserError: a batch size is too large.
        """

    def on_device(self) -> Batch | None:
        """Returns the whole training split if every device stores it, else None."""
        raise NotImplementedError

    def batches(self, seed: int, indices: bool, rows: slice) -> grain.MapDataset:
        """Returns the training batch of every step, or the indices of its examples.

        Args:
          seed: the seed of the shuffling.
          indices: whether to return indices into the split that `on_device` returns.
          rows: the rows of each batch that this process reads.
        """
        raise NotImplementedError

    def evaluation(self, split: str, batch_size: int, rows: slice) -> Iterable[Batch]:
        """Returns the batches of one pass over a split, each with the given rows only."""
        raise NotImplementedError

    def initial_carry(self, model: nn.Module, variables: Any, batch_size: int) -> Any:
        """Returns the carry before the first batch: a state of zeros on a text, else `()`."""
        raise NotImplementedError

    def step_carry(self, carry: Any, step: Any) -> Any:
        """Returns a step's initial carry: zeros if a pass over the text starts, else `carry`."""
        raise NotImplementedError

    def apply(
        self,
        model: nn.Module,
        variables: Any,
        carry: Any,
        batch: Mapping[str, Array],
        **options: Any,
    ) -> tuple[tuple[Any, Array], Any]:
        """Applies the model to a batch.

        Args:
          model: the model.
          variables: the model's parameters and batch statistics.
          carry: the carry before the batch.
          batch: the batch.
          **options: further arguments of `model.apply`, which must include `mutable`.

        Returns:
          `((carry, logits), updated)`: the carry after the batch, the outputs of the model, and the
          collections that `mutable` names.
        """
        raise NotImplementedError

    def empty_metrics(self) -> Any:
        """Returns metrics over zero examples."""
        return Metrics.empty()

    def metrics(self, outputs: Array, batch: Mapping[str, Array]) -> Any:
        """Returns the metrics of a batch, which include the loss."""
        return Metrics.of(outputs, batch)

    def report(self, metrics: Any) -> dict[str, float]:
        """Returns the metrics to log.

        They are `loss` and `accuracy` for classes; `loss`, `accuracy` and `bits_per_character` for
        a text; and `loss`, `rmse` and `r2` for real numbers.
        """
        return metrics.compute()


def make_task(
    dataset: SequenceDataset | Description,
    create_model: Callable[..., nn.Module],
    settings: Settings,
) -> Task:
    """Returns the task that fits a data set and a model.

    Raises:
      UserError: the data set, the model and the settings are not for the same task.
    """
    task = _make_task(dataset, create_model, settings)
    if settings.select not in task.selects:
        raise UserError(
            f"config.train.select is {settings.select!r}; expected {' or '.join(task.selects)} for "
            f"{dataset.name}"
        )
    return task


def _make_task(
    dataset: SequenceDataset | Description,
    create_model: Callable[..., nn.Module],
    settings: Settings,
) -> Task:
    arguments = inspect.signature(create_model).parameters
    if dataset.spec is not None:
        return ArrayPrediction(dataset, settings, arguments)
    text = dataset.is_text if isinstance(dataset, Description) else isinstance(dataset, TextStream)
    if (text and "num_outputs" in arguments) or text == ("num_classes" in arguments):
        given = getattr(create_model, "func", create_model).__qualname__
        if text:
            what, fitting = "a text", "LanguageModel"
        elif dataset.name == "retrieval":
            what, fitting = "labeled pairs of sequences", "SequenceMatcher"
        else:
            what, fitting = "labeled sequences", "SequenceClassifier"
        raise UserError(
            f"config.model.type is {given}, but the data of {dataset.name} are {what}; expected a "
            f"model such as lru.models:{fitting}"
        )
    return LanguageModelling(dataset, settings) if text else Classification(dataset, settings)


class Classification(Task):
    """Predicts a label for each sequence; the examples are reshuffled in every epoch."""

    def __init__(self, dataset: Any, settings: Settings):
        if settings.epochs or settings.unroll:
            raise UserError(
                f"config.train.epochs is {settings.epochs} and unroll is {settings.unroll}, "
                f"which are only for texts; for {dataset.name}, expected both to be 0, and "
                "config.train.steps above 0"
            )
        self._settings, self._dataset = settings, dataset
        self.items = ("examples", settings.batch_size)
        self.model_arguments = dict(num_classes=dataset.num_classes, vocab_size=dataset.vocab_size)

    def summary(self) -> str:
        number, most = len(self._dataset.source("train")), self._dataset.max_length
        return f"{number:,} training examples of up to {most:,} steps"

    def example(self) -> Any:
        if isinstance(self._dataset, Description):
            return self._dataset.example()
        inputs = self._dataset.source("train")[0]["inputs"]
        return self._dataset.decode(jnp.asarray(inputs)[None])

    def check_sizes(self) -> None:
        number = len(self._dataset.source("train"))
        for name in ("batch_size", "eval_batch_size"):
            _check_size(name, getattr(self._settings, name), number, "training examples")

    def on_device(self) -> Batch | None:
        most_bytes = self._settings.device_data_mb * 1_000_000
        return read_all(self._dataset.source("train"), most_bytes) if most_bytes else None

    def batches(self, seed: int, indices: bool, rows: slice) -> grain.MapDataset:
        order = training_indices if indices else training_batches
        source = self._dataset.source("train")
        return order(source, batch_size=self._settings.batch_size, seed=seed, rows=rows)

    def evaluation(self, split: str, batch_size: int, rows: slice) -> Iterable[Batch]:
        return evaluation_batches(self._dataset.source(split), batch_size=batch_size, rows=rows)

    def initial_carry(self, model: nn.Module, variables: Any, batch_size: int) -> Any:
        return ()

    def step_carry(self, carry: Any, step: Any) -> Any:
        return carry

    def apply(self, model, variables, carry, batch, **options):
        inputs = self._dataset.decode(batch["inputs"])
        logits, updated = model.apply(variables, inputs, seq_lengths=batch["length"], **options)
        return (carry, logits), updated


class ArrayPrediction(Classification):
    """Predicts classes or real numbers, for each sequence or for each step of the user's arrays.

    The loss is the cross entropy, or the mean squared error of standardized numbers.
    """

    def __init__(
        self, dataset: Any, settings: Settings, arguments: Mapping[str, inspect.Parameter]
    ):
        super().__init__(dataset, settings)
        self._spec = dataset.spec
        self.model_arguments = array_arguments(self._spec, arguments)
        if not self._spec.of_classes:
            self.selects = ("loss", "rmse")

    def empty_metrics(self) -> Any:
        spec = self._spec
        return Metrics.empty() if spec.of_classes else RegressionMetrics.empty(spec.num_outputs)

    def metrics(self, outputs: Array, batch: Mapping[str, Array]) -> Any:
        return (Metrics if self._spec.of_classes else RegressionMetrics).of(outputs, batch)

    def report(self, metrics: Any) -> dict[str, float]:
        return (
            metrics.compute() if self._spec.of_classes else metrics.compute(self._spec.outputs.std)
        )


def array_arguments(spec: Any, arguments: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Returns the model's arguments that depend on the arrays.

    Args:
      spec: the `lru.data.array_spec.ArraySpec` of the arrays.
      arguments: the parameters of the function that creates the model, by name.

    Raises:
      UserError: the model does not fit the target of the arrays.
    """
    if "num_outputs" in arguments and "per_step" in arguments:
        if spec.per_step or arguments["per_step"].default is not True:
            return dict(
                num_outputs=spec.num_outputs, per_step=spec.per_step, vocab_size=spec.vocab_size
            )
    elif "num_classes" in arguments and spec.target == "classes":
        return dict(num_classes=spec.num_outputs, vocab_size=spec.vocab_size)
    raise UserError(
        f"config.model.type does not fit the target {spec.target!r} of the arrays; expected "
        "lru.models:SequencePredictor, which fits every target"
    )


class LanguageModelling(Task):
    """Predicts every next token of a text, which is read as B streams in order, T steps at a time.

    Every pass over the text starts with a state of zeros. Within a pass, the final state of a batch
    is the initial state of the next batch. Gradients do not flow from one batch to another.
    """

    def __init__(self, dataset: Any, settings: Settings):
        if not settings.unroll:
            raise UserError(
                "config.train.unroll is 0; expected the number of characters of a text between two "
                "updates of the parameters, such as 50"
            )
        self._dataset, self._settings = dataset, settings
        known = dataset.steps_per_epoch if isinstance(dataset, Description) else None
        self.steps_per_epoch = known or len(self._train)
        self.items = ("characters", settings.batch_size * settings.unroll)
        self.model_arguments = dict(vocab_size=dataset.vocab_size)

    def check_sizes(self) -> None:
        size = self._settings.eval_batch_size or self._settings.batch_size
        for split in ("train", "validation", "test"):
            number = len(self._dataset.tokens(split))
            _check_size("eval_batch_size", size, number, f"characters in the split {split}")

    @functools.cached_property
    def _tokens(self) -> np.ndarray:
        return self._dataset.tokens("train")

    @functools.cached_property
    def _train(self) -> grain.MapDataset:
        return self._streams(self._tokens, self._settings.batch_size)

    def _streams(
        self, tokens: np.ndarray, batch_size: int, rows: slice = slice(None)
    ) -> grain.MapDataset:
        for name, size in (("batch_size", batch_size), ("unroll", self._settings.unroll)):
            _check_size(name, size, len(tokens), "characters")
        unroll = self._settings.unroll
        return stream_batches(tokens, batch_size=batch_size, unroll=unroll, rows=rows)

    def summary(self) -> str:
        return (
            f"{len(self._tokens):,} training characters, {self.steps_per_epoch:,} steps per epoch"
        )

    def example(self) -> Any:
        return jnp.zeros((1, 1), jnp.int32)

    def on_device(self) -> None:
        return None

    def batches(self, seed: int, indices: bool, rows: slice) -> grain.MapDataset:
        return self._streams(self._tokens, self._settings.batch_size, rows).repeat()

    def evaluation(self, split: str, batch_size: int, rows: slice) -> Iterable[Batch]:
        return read_ahead(self._streams(self._dataset.tokens(split), batch_size, rows))

    def initial_carry(self, model: nn.Module, variables: Any, batch_size: int) -> Any:
        return zero_carry(model, variables, jax.ShapeDtypeStruct((batch_size, 1), np.int32))

    def step_carry(self, carry: Any, step: Any) -> Any:
        reset = begins_pass(step, len(self._train))
        return jax.tree.map(lambda leaf: jnp.where(reset, jnp.zeros_like(leaf), leaf), carry)

    def apply(self, model, variables, carry, batch, **options):
        return model.apply(
            variables, batch["inputs"], initial_carry=carry, return_carry=True, **options
        )

    def report(self, metrics: Metrics) -> dict[str, float]:
        found = metrics.compute()
        return {"bits_per_character": found["loss"] / math.log(2), **found}


def _check_size(name: str, size: int, most: int, what: str) -> None:
    if size > most:
        raise UserError(
            f"config.train.{name} is {size:,}; expected at most {most:,}, the number of {what}"
        )
