"""The rows of the tables: the config of each row, and the names of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from paper.charlm import DATA as TEXTS
from paper.charlm import NAMES as MODEL_NAMES
from paper.lra import NAMES as ABLATION_NAMES
from paper.lra import RINGS as PAPER_RINGS

from lru.training.config import load_config


class Row(NamedTuple):
    """A row of a table for one seed: a config, the seed, and options that override the config's."""

    label: str
    config: str
    seed: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the run's work directory and of its record.

        Example:
          >>> lra("text", "ring", "quick")._replace(overrides=("--config.data.pad_to=512",)).name
          'text-ring-quick-pad_to=512-seed0'
        """
        return "-".join([self.label, *map(_short, self.overrides), f"seed{self.seed}"])

    @property
    def arguments(self) -> list[str]:
        """The arguments of `lru.train` that select the config, the seed and the overrides."""
        return [f"--config={self.config}", f"--config.seed={self.seed}", *self.overrides]

    def load(self) -> dict[str, Any]:
        """Returns the config, with the seed and the overrides."""
        return load_config(self.config, self.arguments[1:]).to_dict()


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={value}".replace("/", "_")


def lra(task: str, ablation: str = "lru", size: str = "paper", ring: str = "") -> Row:
    """Returns the row of a task of the Long Range Arena with an ablation, at a size.

    Args:
      task: the task, as in the name of its config.
      ablation, size: see `lru.training.recipes.lra`. The ablation "lru" and the size "paper" are
        the defaults, and are not part of the variant.
      ring: "r_min/r_max", the bounds of the moduli of the initial eigenvalues; "" keeps the
        config's bounds.

    Example:
      >>> lra("text").config, lra("text", "ring", "quick").config
      ('configs/lra_text.py', 'configs/lra_text.py:quick,ring')
      >>> lra("cifar", ring="0.5/0.99").name
      'cifar-lru-paper-r_min=0.5-r_max=0.99-seed0'
    """
    variant = ",".join([size] * (size != "paper") + [ablation] * (ablation != "lru"))
    row = Row(f"{task}-{ablation}-{size}", f"configs/lra_{task}.py" + f":{variant}" * bool(variant))
    if not ring:
        return row
    mixer, (r_min, r_max) = row.load()["model"]["mixer"], ring.split("/")
    if (mixer.get("r_min"), mixer.get("r_max")) == (float(r_min), float(r_max)):
        return row
    key = "--config.model.mixer"
    return row._replace(overrides=(f"{key}.r_min={r_min}", f"{key}.r_max={r_max}"))


def charlm(data: str, model: str, size: str = "10m", depth: int = 2, percent: int = 0) -> Row:
    """Returns the row of a character model with `depth` layers on a text, at a size.

    Args:
      data, size: the data set and the budget; see `lru.training.recipes.charlm`.
      model: the model, as in the name of its config.
      depth: the number of layers.
      percent: the percentage of the text to train on; 0 keeps the config's percentage.

    Example:
      >>> charlm("ptb", "gru", percent=40).name
      'ptb-gru-10m-l2-percent=40-seed0'
    """
    config = f"configs/charlm_{model}.py:{data},{size},l{depth}"
    row = Row(f"{data}-{model}-{size}-l{depth}", config)
    if percent and row.load()["data"]["percent"] != percent:
        return row._replace(overrides=(f"--config.data.percent={percent}",))
    return row


def recall(ablation: str, length: int, rate: str, size: str = "table") -> Row:
    """Returns the row of Recall with an ablation, a length and a learning rate.

    Args:
      ablation, size: see `configs/recall.py`. The ablation "lru" and the size "table" are its
        defaults, and are not part of the variant.
      length: T, the number of steps of every sequence.
      rate: the learning rate.

    Example:
      >>> recall("ring", 256, "0.01").name
      'ring-table-length=256-learning_rate=0.01-seed0'
    """
    variant = ",".join([size] * (size != "table") + [ablation] * (ablation != "lru"))
    overrides = f"--config.data.length={length}", f"--config.optimizer.learning_rate={rate}"
    return Row(
        f"{ablation}-{size}", "configs/recall.py" + f":{variant}" * bool(variant), 0, overrides
    )


class Axis(NamedTuple):
    """The choices along one axis of a table, and the default choices.

    An axis whose default is empty is optional: if nothing is chosen, its argument of `Table.row` is
    0, which keeps the value of each row's config.
    """

    choices: Sequence[Any]
    default: Sequence[Any]


class Table(NamedTuple):
    """The rows of one table, as combinations of choices.

    Attributes:
      row: the function that returns a row.
      axes: an axis for each argument of `row` except `size`, by name; for one seed, the choice on
        the first axis changes most slowly.
      sizes: the choices of `size`; the first is the default.
    """

    row: Callable[..., Row]
    axes: Mapping[str, Axis]
    sizes: Sequence[str]

    def rows(
        self, chosen: Mapping[str, Sequence[Any]], size: str, seeds: int, overrides: Sequence[str]
    ) -> Iterator[Row]:
        """Yields all rows with the first seed, then all rows with the second, and so on.

        Args:
          chosen: the choices of each axis, by name; further keys are ignored.
          size: one of `sizes`.
          seeds: the number of seeds; the first seed is 0.
          overrides: options that override those of every config.
        """
        axes = [chosen[name] or [0] for name in self.axes]
        for seed, *cell in itertools.product(range(seeds), *axes):
            row = self.row(**dict(zip(self.axes, cell)), size=size)
            yield row._replace(seed=seed, overrides=(*row.overrides, *overrides))


TASKS = ("listops", "text", "cifar", "retrieval", "pathfinder", "pathx")  # the fastest first
ABLATIONS = tuple(ABLATION_NAMES)
RINGS = tuple(f"{r_min}/{r_max}" for ablation, r_min, r_max in PAPER_RINGS if ablation == "lru")
DATA = tuple(TEXTS)
MODELS = tuple(MODEL_NAMES)
RECALL_ABLATIONS = (
    "relu", "tanh", "linear", "real_imag", "exp", "stable_exp", "ring", "ring_full_phase",
    "full_phase", "lru", "s4d", "s4d_fit", "s5", "s5_fit",
)  # fmt: skip
RECALL_LENGTHS = (256, 1024, 4096)
RECALL_RATES = ("0.001", "0.003", "0.01")
GRU_TO_LRU = ("gru", "ps_lru", "rg_lru", "lru")
TABLES = {
    "lra": Table(
        lra,
        {"task": Axis(TASKS, TASKS), "ablation": Axis(ABLATIONS, ["lru"]), "ring": Axis(RINGS, [])},
        ["paper", "quick", "smoke"],
    ),
    "charlm": Table(
        charlm,
        {
            "data": Axis(DATA, DATA),
            "depth": Axis(range(1, 9), [2]),
            "percent": Axis(range(1, 101), []),
            "model": Axis(MODELS, GRU_TO_LRU),
        },
        ["10m", "24m", "talk", "quick", "converge", "smoke"],
    ),
    "recall": Table(
        recall,
        {
            "length": Axis(RECALL_LENGTHS, [1024]),
            "rate": Axis(RECALL_RATES, RECALL_RATES),
            "ablation": Axis(RECALL_ABLATIONS, RECALL_ABLATIONS),
        },
        ["table", "quick", "smoke"],
    ),
}
