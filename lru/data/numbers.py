"""What a data set can be asked for: its numbers, each checked before anything is read or made."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

from lru.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    """All that a data set can be asked for; every data set has a subclass of its own."""

    @classmethod
    def choose(cls, given: Mapping[str, Any]) -> Self:
        """Returns the numbers with those given in place of the defaults.

        Raises:
          UserError: if there is no such number, or a value has another type than the default.
        """
        expected = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        for key, value in given.items():
            if key not in expected:
                known = did_you_mean(key, expected)
                raise UserError(f"the data set has no number {key!r}; {known}")
            if type(value) is not expected[key]:
                raise UserError(f"{key} is {value!r}, expected {expected[key].__name__}")
        return cls(**given)

    def unused(self) -> Collection[str]:
        """Names the numbers that play no part, given the others."""
        return ()

    def used(self) -> dict[str, Any]:
        """The numbers that play a part."""
        unused = self.unused()
        return {key: v for key, v in dataclasses.asdict(self).items() if key not in unused}

    def changed(self) -> dict[str, Any]:
        """Those of them that are not the defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {key: value for key, value in self.used().items() if value != defaults[key]}

    def directory_name(self) -> str:
        """Names every number that is used, so that no two data sets share a directory."""
        return ",".join(f"{key}={value}" for key, value in self.used().items())

    def check_least(self, **least: int) -> None:
        """Raises a UserError if one of the numbers named is smaller than that."""
        for key, value in least.items():
            if getattr(self, key) < value:
                raise UserError(f"{key} is {getattr(self, key)}, expected at least {value}")

    def check_choice(self, key: str, *choices: str) -> None:
        """Raises a UserError if the number of that name is none of the choices."""
        if (given := getattr(self, key)) not in choices:
            raise UserError(f"{key} is {given!r}; {did_you_mean(given, choices)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedNumbers(Numbers):
    """The numbers of a data set that is released, or made up where a test or a trial needs no more.

    Attributes:
      source: "released", or "made_up": random examples of the same form, in which there is
        something to learn, from no file.
      made_up_train: how many examples of each split are made up.
      made_up_validation: see there.
      made_up_test: see there.
      seed: of whatever is random: what is made up, and a split that is not released.
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
    def made_up(self) -> bool:
        """Whether no file is read."""
        return self.source == "made_up"

    @property
    def made_up_sizes(self) -> dict[str, int]:
        """How many examples of each split are made up."""
        return {
            "train": self.made_up_train,
            "validation": self.made_up_validation,
            "test": self.made_up_test,
        }

    def unused(self) -> Collection[str]:
        return () if self.made_up else {f"made_up_{split}" for split in self.made_up_sizes}
