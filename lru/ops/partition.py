"""Functions whose batch XLA may divide among devices.

XLA can divide its own operations, but not a kernel written by hand, for which it would gather the
whole batch on every device. `divide_batch` declares that the sequences of a batch are independent,
so each device computes only the sequences that it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, PartitionSpec

from lru.ops.array_typing import Array, Shape


def divide_batch(function: Callable[..., tuple[Array, ...]], *arrays: Array) -> tuple[Array, ...]:
    """Returns `function(*arrays)`, computed by each device for its own part of the batch.

    With a single device, or inside `jax.shard_map`, the function is simply called. Elsewhere, the
    results cannot be differentiated, and under `jax.vmap` the mapped axis is one more batch axis.

    Args:
      function: a function of arrays `(T, *B, M)`, with any number of batch axes, that computes each
        sequence independently of the others. Its results have all batch axes.
      *arrays: the arguments. The first has all batch axes; in the others, some may have size 1.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if jax.device_count() == 1 or AxisType.Manual in mesh.axis_types:  # inside `jax.shard_map`
        return function(*arrays)
    if AxisType.Explicit in mesh.axis_types:
        return _with_automatic_axes(function, arrays)

    @custom_vmap
    def run(*arrays):
        return _partitioned(function, arrays)

    @run.def_vmap
    def run_with_one_more_axis(size, batched, *arrays):
        moved = [jnp.moveaxis(v, 0, 1) if b else v[:, None] for v, b in zip(arrays, batched)]
        if not batched[0]:
            moved[0] = jnp.repeat(moved[0], size, axis=1)
        results = tuple(jnp.moveaxis(v, 1, 0) for v in divide_batch(function, *moved))
        return results, (True,) * len(results)

    return run(*arrays)


def _with_automatic_axes(function, arrays):
    """Runs `divide_batch` where the mesh has explicit axes.

    The batch axes of the results are sharded like those of the first array. The other axes of the
    results are not sharded.
    """
    spec = jax.typeof(arrays[0]).sharding.spec
    batch = PartitionSpec(None, *spec[1:-1], None)
    run = jax.sharding.auto_axes(functools.partial(divide_batch, function), out_sharding=batch)
    return run(*arrays)


def _partitioned(function, arrays):
    """Calls `function` through a primitive that tells XLA which axes may be divided."""

    def here(*arrays):
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return function(*arrays)

    def partition(mesh, arguments, results):
        shardings = (tuple(v.sharding for v in values) for values in (results, arguments))
        return mesh, here, *shardings

    shapes = [v.shape for v in (*arrays, *jax.eval_shape(function, *arrays))]
    names = [_axis_names(i, shape, shapes[0][1:-1]) for i, shape in enumerate(shapes)]
    arguments, results = (
        ", ".join(map(" ".join, part)) for part in (names[: len(arrays)], names[len(arrays) :])
    )
    whole = tuple(name for array in names for name in array if not name.startswith("b"))
    call = custom_partitioning(function)
    call.def_partition(
        partition, sharding_rule=f"{arguments} -> {results}", need_replication_factors=whole
    )
    return call(*arrays)


def _axis_names(index: int, shape: Shape, batch: Shape) -> list[str]:
    """Names the axes of an array; b0, b1 ... are the batch axes that devices may divide."""
    axes = enumerate(zip(shape[1:-1], batch))
    middle = [f"b{i}" if size == full else f"s{index}x{i}" for i, (size, full) in axes]
    return [f"t{index}", *middle, f"m{index}"]
