"""The recurrence h_t = a_t * h_{t-1} + x_t with time sharded over devices.

Each device runs the recurrence on its shard of the steps, from a zero state. Let e_d be the state
after shard d run from zero, P_d the product of the shard's factors, and s_d the state of the whole
sequence after the shard. Then

    s_d = P_d * s_{d-1} + e_d                              s_{-1} = h0
    h_t = (h_t from zero) + (product of the shard's factors up to t) * s_{d-1}

If the shard has a reset, s_d = e_d, and the last term of h_t counts only before the first reset.
So each device communicates only e_d and P_d, `(..., N)` each, and whether its shard has a reset,
but no array with a time axis.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from lru.ops.recurrence import earlier, recur, zero_where


@functools.partial(jax.jit, static_argnames=("reverse", "method", "axis"))
def recur_sharded(a, x, h0, reset, reverse, method, axis):
    """Computes `lru.ops.recurrence.recur` with time, the leading axis, sharded along a mesh axis.

    Args:
      a, x, h0, reset, reverse, method: see `recur`.
      axis: the name of an axis of the mesh that `jax.set_mesh` has set. Its size must divide T. The
        compiler handles other axes of the mesh, such as an axis for the batch.

    Raises:
      ValueError: if no mesh with that axis is set, or the axis's size does not divide T.
    """
    if _devices(axis, len(x)) == 1:  # the compiler fails on a manual axis of one device
        return recur(a, x, h0, reset, reverse, method)
    sharded, replicated = PartitionSpec(axis), PartitionSpec()
    run = jax.shard_map(
        functools.partial(_recur_shard, reverse=reverse, method=method, axis=axis),
        in_specs=(replicated if len(a) == 1 else sharded, sharded, replicated, sharded),
        out_specs=(sharded, sharded),
        axis_names={axis},
        check_vma=False,  # a scan starts from equal zeros on all devices; then its states differ
    )
    h, last = run(a, x, h0, reset)
    return h, last[0 if reverse else -1]


def _devices(axis: str, time: int) -> int:
    """Returns the number of devices along the mesh axis, after checking that it divides T."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis not in mesh.shape:
        raise ValueError(
            f"sequence_axis={axis!r}, but the mesh has the axes {tuple(mesh.shape)}; "
            f"expected a mesh with that axis, set by jax.set_mesh"
        )
    if time % (devices := mesh.shape[axis]):
        raise ValueError(
            f"T = {time} steps cannot be divided among the {devices} devices of {axis!r}; "
            f"expected a multiple of {devices}: pad the sequences, and give seq_lengths"
        )
    return devices


def _recur_shard(a, x, h0, reset, *, reverse, method, axis):
    """Returns the states of one device's shard, and the state `(1, ..., N)` after all its steps."""
    last = slice(1) if reverse else slice(-1, None)
    h, _ = recur(a, x, None, reset, reverse, method)
    nothing, one = jnp.zeros((len(x), *a.shape[1:]), a.dtype), jnp.ones_like(a[:1])
    products, _ = recur(a, nothing, one, None, reverse, method)
    was_reset = None if reset is None else lax.cumsum(reset.astype(int), reverse=reverse) > 0
    ends = products[last], h[last], None if was_reset is None else was_reset[last]
    shard_products, from_zero, shard_reset = lax.all_gather(ends, axis, tiled=True)
    h_out, _ = recur(shard_products, from_zero, h0, shard_reset, reverse, "sequential")
    edge = h_out[:1]
    start = jnp.zeros_like(edge) if h0 is None else jnp.broadcast_to(h0, edge.shape)
    h_in = lax.dynamic_slice_in_dim(earlier(h_out, start, reverse), lax.axis_index(axis), 1)
    h = h + products * zero_where(was_reset, h_in)
    return h, h[last]
