"""Parses the variant of a config: names separated by commas, at most one from each group."""

from collections.abc import Iterable, Sequence

from lru.errors import UserError, did_you_mean


class UnknownVariant(UserError):
    """A config has no variant of this name.

    Args:
      name: the unknown name.
      groups: the names that the config has; a variant names at most one of each group.
    """

    def __init__(self, name: str, groups: Sequence[Sequence[str]]):
        names = [known for group in groups for known in group]
        super().__init__(f"config variant {name!r} does not exist; {did_you_mean(name, names)}")
        self.groups = groups


def choose(variant: str, *groups: Iterable[str]) -> list[str | None]:
    """Returns, for each group, the variant's name from that group, or None if there is none.

    Raises:
      UnknownVariant: if a name is in no group.
      UserError: if two names are in the same group.
    """
    names = [name for name in variant.split(",") if name]
    known = [list(group) for group in groups]
    for name in names:
        if not any(name in group for group in known):
            raise UnknownVariant(name, known)
    chosen = [[name for name in names if name in group] for group in known]
    for found in chosen:
        if len(found) > 1:
            raise UserError(f"config variant {variant!r} names {' and '.join(found)}; choose one")
    return [found[0] if found else None for found in chosen]
