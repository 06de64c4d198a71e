"""What a variant of a config is made of: names, separated by commas, one of a kind at most."""

from collections.abc import Iterable

from lru.errors import UserError, did_you_mean


def choose(variant: str, *kinds: Iterable[str]) -> list[str | None]:
    """The name of each kind that a variant has, or None.

    Raises:
      UserError: if a name is of no kind, or two are of one.
    """
    names = [name for name in variant.split(",") if name]
    known = [list(kind) for kind in kinds]
    for name in names:
        if not any(name in kind for kind in known):
            hint = did_you_mean(name, sum(known, []))
            raise UserError(f"config variant {name!r} does not exist; {hint}")
    chosen = [[name for name in names if name in kind] for kind in known]
    for found in chosen:
        if len(found) > 1:
            raise UserError(f"config variant {variant!r} names {' and '.join(found)}; choose one")
    return [found[0] if found else None for found in chosen]
