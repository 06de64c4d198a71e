"""Parses the variant of a config: names separated by commas, at most one from each group."""

from collections.abc import Iterable

from lru.errors import UserError, did_you_mean


def choose(variant: str, *groups: Iterable[str]) -> list[str | None]:
    """Returns, for each group, the variant's name from that group, or None if there is none.

    Raises:
      UserError: if a name is in no group, or two names are in the same group.
    """
    names = [name for name in variant.split(",") if name]
    known = [list(group) for group in groups]
    for name in names:
        if not any(name in group for group in known):
            hint = did_you_mean(name, sum(known, []))
            raise UserError(f"config variant {name!r} does not exist; {hint}")
    chosen = [[name for name in names if name in group] for group in known]
    for found in chosen:
        if len(found) > 1:
            raise UserError(f"config variant {variant!r} names {' and '.join(found)}; choose one")
    return [found[0] if found else None for found in chosen]
