"""The recurrence h_t = a_t * h_{t-1} + x_t as a GPU kernel, written with Pallas for Triton.

A kernel reads x once, writes h once, and keeps the state in registers, which is the least memory
traffic possible. One thread owns one channel, which is one n < N of one sequence, and scans along
time. There are fewer channels than a GPU needs threads. So time is split in chunks, each with its
own threads. With K chunks and P_k the product of chunk k's factors:

    1. e_k, the state after chunk k started from zero, and P_k    (reads x)
    2. s_k = P_k * s_{k-1} + e_k, the state after chunk k         (K steps of the same recurrence)
    3. h of chunk k, started from s_{k-1}                         (reads x, writes h)

Triton has no complex numbers. They are passed as a pair of arrays, (re, im), or as one array
(re,) where all is real. Splitting is free where `lax.complex` made x in the same program, and
joining is free where only h.real and h.imag are read, as in `lru.layers.linear`.

Without a GPU the kernel is interpreted, slowly, for tests; they also lower it for CUDA. On an H100
it agreed with a float64 loop to 4e-6, values and gradients. XLA cannot divide a kernel among
devices: where the batch is sharded over several, each device computes the whole batch, unless
`jax.shard_map` divides it.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

WARP = 32
BLOCK = 4 * WARP  # channels of a program, one per thread
UNROLL = 8  # steps loaded together, so that the threads wait once for all of them
THREADS = 2**17  # the number of threads to aim for: about a thousand per multiprocessor
MIN_CHUNK = 4 * UNROLL  # steps: joining the chunks takes time too, so short ones do not pay


def solve(a, x, reset, reverse):
    """Returns all h_t = a_t * h_{t-1} + x_t, starting from a zero state.

    It cannot be differentiated; `lru.ops.recurrence` defines the derivatives of every method.

    Args:
      a: the factors, `(1, ..., N)` if constant, `(T, ..., N)` if not.
      x: the terms added, `(T, ..., N)`.
      reset: `(T, ..., 1)`, True where the state is cleared before the step; or None.
      reverse: consume the last step first.

    Returns:
      h, `(T, ..., N)`.
    """
    # The batch axes and N become C channels, and complex arrays are split in two.
    if x.size == 0:
        return x
    if any(axis > 1 for axis in a.shape[1:-1]):  # not shared by all sequences
        a = jnp.broadcast_to(a, (len(a), *x.shape[1:]))
    if reset is not None:
        reset = jnp.broadcast_to(reset[..., 0], x.shape[:-1]).reshape(len(x), -1)
    parts, factors = _parts(x.reshape(len(x), -1)), _parts(a.reshape(len(a), -1))
    h = _scan_chunks(factors, parts, reset, reverse)
    return (h[0] if len(h) == 1 else lax.complex(*h)).reshape(x.shape)


def _parts(x):
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def _scan_chunks(a, x, reset, reverse):
    """Runs the three phases on real parts: a (1 or T, N or C), x (T, C), reset (T, B)."""
    time, channels = x[0].shape
    chunks = max(1, min(THREADS // channels, time // MIN_CHUNK))
    steps = pl.cdiv(time, chunks * UNROLL) * UNROLL
    chunks = pl.cdiv(time, steps)
    run = functools.partial(_run_kernel, a, x, reset, steps=steps, reverse=reverse)
    h_in = None
    if chunks > 1:
        per_chunk = _like(x, chunks - 1)  # no chunk starts from the state after the last one
        _, h_out, products = run(None, (None, per_chunk, per_chunk), chunks=chunks - 1)
        cleared = _any_reset(reset, chunks - 1, steps, reverse)
        h_in = _scan_chunks(products, h_out, cleared, reverse=False)
    h, _, _ = run(h_in, (_like(x, time), None, None), chunks=chunks)
    return h


def _like(x, rows):
    return tuple(jax.ShapeDtypeStruct((rows, part.shape[1]), part.dtype) for part in x)


def _any_reset(reset, chunks, steps, reverse):
    """Reduces (T, B) to (K, B): whether each of the first K chunks has a reset."""
    if reset is None:
        return None
    reset = (reset[::-1] if reverse else reset)[: chunks * steps]
    return reset.reshape(chunks, steps, -1).any(1)


def _run_kernel(a, x, reset, h_in, outputs, *, chunks, steps, reverse):
    """Runs the kernel on a grid of blocks and chunks; interprets it where it cannot be compiled."""
    channels = x[0].shape[1]
    block = min(BLOCK, max(WARP, pl.next_power_of_2(channels)))

    def call(*inputs, interpret):
        return pl.pallas_call(
            functools.partial(
                _kernel,
                block=block,
                steps=steps,
                unroll=2 if interpret else UNROLL,
                reverse=reverse,
            ),
            out_shape=outputs,
            grid=(pl.cdiv(channels, block), chunks),
            compiler_params=triton.CompilerParams(num_warps=block // WARP),
            interpret=interpret,
            name="linear_recurrence",
        )(*inputs)

    compiled, interpreted = (functools.partial(call, interpret=i) for i in (False, True))
    return lax.platform_dependent(
        a, x, reset, h_in, cuda=compiled, rocm=compiled, default=interpreted
    )


def _kernel(a, x, reset, h_in, *outputs, block, steps, unroll, reverse):
    """Computes one program: a chunk of `steps` steps, for a block of channels.

    The arguments are references, each a tuple of real parts, or None. It writes either h, or the
    state after the chunk and the product of the chunk's factors.
    """
    h, h_out, products = outputs
    time, channels = x[0].shape
    chunk = pl.program_id(1)
    lane = pl.program_id(0) * block + lax.iota(jnp.int32, block)
    inside = lane < channels
    column = lax.rem(lane, jnp.int32(a[0].shape[1]))  # of a, which the sequences may share
    if reset is not None:
        sequence = lax.div(lane, jnp.int32(channels // reset.shape[1]))
    constant = _load(a, 0, column, inside) if len(a[0]) == 1 else None

    def inputs(step):
        row, mask = (time - 1 - step if reverse else step), inside & (step < time)
        at = constant or _load(a, row, column, mask)
        clear = None if reset is None else _load((reset,), row, sequence, mask)[0]
        return row, mask, at, _load(x, row, lane, mask), clear

    def unrolled_steps(index, carry):
        state, product = carry
        first = chunk * steps + index * unroll
        # The list loads all inputs before the first is used.
        for row, mask, at, xt, clear in [inputs(first + i) for i in range(unroll)]:
            if clear is not None:
                state = tuple(jnp.where(clear, jnp.zeros_like(part), part) for part in state)
            state = tuple(map(operator.add, _times(at, state), xt))
            product = None if product is None else _times(at, product)
            if h is not None:
                _store(h, row, lane, state, mask)
        return state, product

    zero = jnp.zeros(block, x[0].dtype)
    state, product = (zero,) * len(x), None
    if h_in is not None:
        state = _load(h_in, jnp.maximum(chunk - 1, 0), lane, inside & (chunk > 0))
    if products is not None:
        product = (zero + 1, zero)[: len(x)]
    state, product = lax.fori_loop(0, steps // unroll, unrolled_steps, (state, product))
    if products is not None:
        _store(h_out, chunk, lane, state, inside)
        _store(products, chunk, lane, product, inside)


def _load(parts, row, column, mask):
    """Loads a block of one row of each part; zero, or False, outside the mask."""
    return tuple(
        triton.load(part.at[row, column], mask=mask, other=jnp.zeros((), part.dtype))
        for part in parts
    )


def _store(parts, row, column, values, mask):
    for part, value in zip(parts, values):
        triton.store(part.at[row, column], value, mask=mask)


def _times(a, b):
    """Multiplies two real or complex numbers given as real parts."""
    if len(a) == 1:
        return (a[0] * b[0],)
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
