"""The recurrence h_t = a_t * h_{t-1} + x_t with time spread over devices.

Each device runs its own part of the steps from a zero state. With e_d the state after device d's
part, P_d the product of the part's factors, and s_d the state after the part of the whole
sequence,

    s_d = P_d * s_{d-1} + e_d                              s_{-1} = h0
    h_t = (h_t from zero) + (product of the part's factors up to t) * s_{d-1}

the last term only as long as there was no reset. So all that travels is one e_d and one P_d a
device, `(..., N)`; everything with a time axis stays where it is.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from lru.ops.recurrence import earlier, recur, unless


@functools.partial(jax.jit, static_argnames=("reverse", "method", "axis"))
def recur_sharded(a, x, h0, reset, reverse, method, axis):
    """`lru.ops.recurrence.recur` with time, the leading axis, divided along a mesh axis.

    Args:
      axis: the name of an axis of the mesh that `jax.set_mesh` has set, of any size that divides
        T; other axes of the mesh, over the batch for example, are left to the compiler.

    Raises:
      ValueError: if no mesh with that axis is set, or its size does not divide T.
    """
    if _devices(axis, len(x)) == 1:  # the compiler stumbles over a manual axis of one device
        return recur(a, x, h0, reset, reverse, method)
    split, whole = PartitionSpec(axis), PartitionSpec()
    part = functools.partial(_part, reverse=reverse, method=method, axis=axis)
    run = jax.shard_map(
        part,
        in_specs=(whole if len(a) == 1 else split, split, whole, split),
        out_specs=(split, split),
        axis_names={axis},
        check_vma=False,  # a scan begins with the same zeros on all devices, and ends different
    )
    h, last = run(a, x, h0, reset)
    return h, last[0 if reverse else -1]


def _devices(axis: str, time: int) -> int:
    """The size of the mesh axis, once it is sure that time can be divided along it."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis not in mesh.shape:
        raise ValueError(
            f"sequence_axis={axis!r}, but the mesh has the axes {tuple(mesh.shape)}; "
            f"expected a mesh with that axis, set by jax.set_mesh"
        )
    if time % (devices := mesh.shape[axis]):
        raise ValueError(
            f"T = {time} steps cannot be divided among the {devices} devices of {axis!r}; "
            f"expected a multiple: pad the sequences, and give seq_lengths"
        )
    return devices


def _part(a, x, h0, reset, *, reverse, method, axis):
    """One device's steps: its states, and the last of them, with a leading axis of one device."""
    last = slice(1) if reverse else slice(-1, None)
    h, _ = recur(a, x, None, reset, reverse, method)
    products = lax.cumprod(jnp.broadcast_to(a, (len(x), *a.shape[1:])), reverse=reverse)
    seen = None if reset is None else lax.cumsum(reset.astype(int), reverse=reverse) > 0
    parts = products[last], h[last], None if seen is None else seen[last]
    products_of_parts, ends, cleared = lax.all_gather(parts, axis, tiled=True)
    states, _ = recur(products_of_parts, ends, h0, cleared, reverse, "sequential")
    start = jnp.zeros_like(ends[:1]) if h0 is None else jnp.broadcast_to(h0, ends[:1].shape)
    before = earlier(states, start, reverse)
    entering = lax.dynamic_slice_in_dim(before, lax.axis_index(axis), 1)
    h = h + products * unless(seen, entering)
    return h, h[last]
