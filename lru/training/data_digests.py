"""Saves digests of a run's data in its work directory, to detect that the data have changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lru.data.builder import SequenceDataset
from lru.errors import UserError
from lru.io.files import write_atomically

FILE = "data.json"


def check_data(dataset: SequenceDataset, workdir: Path, write: bool = False) -> None:
    """Checks that the examples of a data set are the same as when a run started.

    The data set is not checked if an older version, which saved no digests, prepared it, or if the
    run has no `data.json`.

    Args:
      dataset: the data set as it is prepared now.
      workdir: the work directory of the run.
      write: whether to write `data.json` if the run has none yet.

    Raises:
      UserError: the examples have changed, or `data.json` is damaged.
    """
    now, file = dict(dataset.digests), workdir / FILE
    if not now:
        return
    if not file.exists():
        if write:
            write_atomically(
                file, json.dumps({"name": dataset.name, "digests": now}, indent=2) + "\n"
            )
        return
    before = _read(file)
    if other := [split for split in now if before.get(split) != now[split]]:
        raise UserError(
            f"the run in {workdir} was trained on other data: the source of {dataset.name} has "
            f"changed since, and so have its splits: {', '.join(other)}\n"
            "restore the source as it was, or choose another --workdir"
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text())["digests"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is damaged; delete it if you are sure that the data have not changed"
        ) from error
