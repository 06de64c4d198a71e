"""Base classes for the options of data sets, with checks of their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

from lru.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The base class of the options of a data set; each data set uses a subclass."""

    @classmethod
    def choose(cls, given: Mapping[str, Any]) -> Self:
        """Returns the options with the given values; all other options have their defaults.

        Raises:
          UserError: if an option is unknown, or a value is invalid or does not have the type of the
            default.
        """
        expected = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        for key, value in given.items():
            if key not in expected:
                known = did_you_mean(key, expected)
                raise UserError(f"the data set has no option {key!r}; {known}")
            if type(value) is not expected[key]:
                raise UserError(f"{key} is {value!r}; expected {expected[key].__name__}")
        return cls(**given)

    def unused(self) -> Collection[str]:
        """Returns the names of the options that have no effect, given the values of the others."""
        return ()

    def used(self) -> dict[str, Any]:
        """Returns the options that have an effect, by name."""
        unused = self.unused()
        return {key: v for key, v in dataclasses.asdict(self).items() if key not in unused}

    def changed(self) -> dict[str, Any]:
        """Returns the options that have an effect and differ from their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {key: value for key, value in self.used().items() if value != defaults[key]}

    def directory_name(self) -> str:
        """Returns a name made of all used options, so that different data have different names."""
        return ",".join(f"{key}={value}" for key, value in self.used().items())

    def check_least(self, **least: int) -> None:
        """Raises a UserError if one of the named options is below its minimum."""
        for key, value in least.items():
            if getattr(self, key) < value:
                raise UserError(f"{key} is {getattr(self, key)}; expected at least {value}")

    def check_choice(self, key: str, *choices: str) -> None:
        """Raises a UserError if the value of the option `key` is not one of the choices."""
        if (given := getattr(self, key)) not in choices:
            raise UserError(f"{key} is {given!r}; {did_you_mean(given, choices)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedOptions(Options):
    """Options of a data set that is read from a release, or synthesized for tests and trials.

    Attributes:
      source: "released"; or "made_up", random synthetic examples of the same form, which a model
        can learn and which need no file.
      made_up_train: the number of synthetic training examples.
      made_up_validation: the number of synthetic validation examples.
      made_up_test: the number of synthetic test examples.
      seed: the seed of the data, such as synthetic examples and randomly drawn splits.
    """

    sources: ClassVar[tuple[str, ...]] = ("released", "made_up")

    source: str = "released"
    made_up_train: int = 512
    made_up_validation: int = 128
    made_up_test: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_choice("source", *self.sources)
        self.check_least(made_up_train=1, made_up_validation=1, made_up_test=1, seed=0)

    @property
    def synthetic(self) -> bool:
        """Whether the examples are synthetic, so that no file is read."""
        return self.source == "made_up"

    @property
    def synthetic_sizes(self) -> dict[str, int]:
        """The number of synthetic examples of each split."""
        return {
            "train": self.made_up_train,
            "validation": self.made_up_validation,
            "test": self.made_up_test,
        }

    def unused(self) -> Collection[str]:
        return () if self.synthetic else {f"made_up_{split}" for split in self.synthetic_sizes}
