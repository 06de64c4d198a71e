"""An Orbax handler that saves the run's history and the files' digests with each state."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from lru.training.digests import write_digests
from lru.training.history import FILE


class SealedHandler(ocp.StandardCheckpointHandler):
    """Saves a state as Orbax does, then the run's history, then the digests of all these files.

    Orbax calls `finalize` in its background thread, before it renames the directory. Every
    checkpoint that is saved completely therefore has its digests, and training does not wait for
    them.
    """

    async def async_save(self, directory: Any, *args: Any, **kwargs: Any) -> Any:
        # Serialized now, because the run appends to its rows while Orbax still writes. Orbax
        # finishes one save before it starts the next, so one history is enough.
        self._history = json.dumps(kwargs["args"].history)
        return await super().async_save(directory, *args, **kwargs)

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        (Path(directory) / FILE).write_text(self._history)
        write_digests(Path(directory))


@ocp.args.register_with_handler(SealedHandler, for_save=True)
@dataclasses.dataclass
class SealedSave(ocp.args.StandardSave):
    """The arguments for saving a state and the run's history.

    Attributes:
      history: the history of the run; see `lru.training.history`.
    """

    history: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@ocp.args.register_with_handler(SealedHandler, for_restore=True)
@dataclasses.dataclass
class SealedRestore(ocp.args.StandardRestore):
    """The arguments for restoring a state."""
