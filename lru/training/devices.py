"""Places arrays on devices, in one or several processes: divides batches, replicates the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lru.errors import UserError
from lru.training.settings import Settings


class Devices:
    """A mesh of devices with the axes `data` and `time`.

    Batches are divided along the axis `data`. A mixer with `sequence_axis="time"` divides the steps
    of each example along the axis `time`.

    Args:
      devices: the devices to use; None for the devices of all processes.
      settings: the section `train` of a config. Each group of `time_devices` devices shares the
        steps of its examples. Every training batch, and each of its `accumulate` parts, is divided
        evenly among the groups.

    Attributes:
      platform: the platform of the devices, such as "cpu".
      replicated: the sharding of an array that is copied to every device.
      split: the sharding of a batch `(B, ...)`.
      split_calls: the sharding of K stacked batches `(K, B, ...)`.

    Raises:
      UserError: a setting does not fit the number of devices.
    """

    def __init__(self, devices: Sequence[jax.Device] | None, settings: Settings):
        # In order of the processes, so that each process reads consecutive rows of a batch.
        ordered = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
        time = settings.time_devices
        if len(ordered) % time:
            raise UserError(
                f"config.train.time_devices is {time}; expected a divisor of {len(ordered)}, the "
                "number of devices"
            )
        _check_batch(settings, len(ordered) // time)
        grid = np.asarray(ordered).reshape(-1, time)
        self._mesh = Mesh(grid, ("data", "time"), axis_types=(AxisType.Auto,) * 2)
        self._shards_time = time > 1
        self.platform = ordered[0].platform
        self.replicated = NamedSharding(self._mesh, PartitionSpec())
        self.split = NamedSharding(self._mesh, PartitionSpec("data"))
        self.split_calls = NamedSharding(self._mesh, PartitionSpec(None, "data"))

    def mesh(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context manager for tracing; it sets the mesh if `time_devices` is above 1."""
        if not self._shards_time:
            return contextlib.nullcontext()
        return jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh)

    def replicate(self, tree: Any) -> Any:
        """Copies a tree of host arrays, which must be equal in all processes, to every device."""

        def put(x):
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, self.replicated, lambda at: x[at])

        return jax.tree.map(put, tree)

    def put(self, rows: Any, sharding: NamedSharding) -> Any:
        """Puts this process's rows of batches on its devices; returns global arrays."""
        # Not `device_put`, which communicates between processes: Grain's threads call this, in an
        # order that differs from process to process.
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows)

    def rows(self, batch_size: int) -> slice:
        """Returns the rows of a batch that this process reads for its own devices, as a slice."""
        shards = self.split.addressable_devices_indices_map((batch_size,)).values()
        bounds = [at[0].indices(batch_size) for at in shards if at]
        return slice(min(first for first, *_ in bounds), max(stop for _, stop, _ in bounds))

    def next_multiple(self, batch_size: int) -> int:
        """Returns the batch size, rounded up to a multiple of the number of groups of devices."""
        number = self._mesh.shape["data"]
        return -(-batch_size // number) * number


def _check_batch(settings: Settings, groups: int) -> None:
    """Checks that a batch and its `accumulate` parts divide evenly among the groups of devices."""
    if settings.batch_size % groups:
        shared = f" divided by train.time_devices={settings.time_devices}"
        raise UserError(
            f"config.train.batch_size is {settings.batch_size}; expected a multiple of {groups}, "
            f"the number of devices{shared if settings.time_devices > 1 else ''}"
        )
    if (each := settings.batch_size // groups) % settings.accumulate:
        raise UserError(
            f"config.train.accumulate is {settings.accumulate}; expected a divisor of {each}, the "
            "number of a device's examples in a batch"
        )
