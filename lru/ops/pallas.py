"""The recurrence h_t = a_t * h_{t-1} + x_t as a GPU kernel, written with Pallas for Triton.

Triton has no complex numbers. Here complex numbers are pairs: the last axis of an array has all
real parts first and then all imaginary parts, which is the layout of a matrix product with both
parts side by side. So the kernel reads the result of the product before it, and the product after
it reads the result of the kernel, without a copy.

One thread computes one channel, which is one n < N of one sequence. It scans along time with the
state in registers. The thread loads the next steps before it computes the loaded steps, so that
enough loads are in flight to keep the memory busy. If the batch has enough channels, or T is small,
x is read once. Otherwise, time is split into chunks, each with its own threads, and x is read
twice. With K chunks, and P_k the product of chunk k's factors:

    1. e_k, the state after chunk k run from zero, and P_k        (reads x)
    2. s_k = P_k * s_{k-1} + e_k, the state after chunk k         (K - 1 steps of this recurrence)
    3. h of chunk k, run from s_{k-1}                             (reads x, writes h)

For a constant a, the backward pass is the recurrence with the factor conj(a), in the other
direction. While the kernel writes the result z, it also reads the saved h, and sums the products of
z and h for the derivative of a.

Without a GPU, the kernel is interpreted, which is slow and meant for tests; the tests also lower
the kernel for CUDA. If the batch is sharded over several devices, each device runs the kernel on
its own sequences; see `lru.ops.partition`.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from lru.ops.dtypes import at_least_float32
from lru.ops.pairs import conjugate_pairs
from lru.ops.partition import divide_batch

WARP = 32
IN_FLIGHT = 2**21  # bytes to have in flight: about the latency of an H100 times its bandwidth
LOADED = 64  # numbers that a thread loads together; it holds as many from the previous load
MIN_UNROLL = 8  # steps loaded together
THREADS = 2**17  # the number of threads to aim for with chunks: about 1,000 per multiprocessor
MIN_CHUNK = 32  # steps; for shorter chunks, joining takes more time than they save


class Plan(NamedTuple):
    """The division of a recurrence among the kernel's programs, and of their steps into loads.

    Attributes:
      block: the number of channels of a program, one per thread.
      unroll: the number of steps loaded together.
      steps: the number of steps of a chunk, a multiple of `unroll`.
      chunks: the number of chunks; with a single chunk, x is read only once.
    """

    block: int
    unroll: int
    steps: int
    chunks: int


def plan(time: int, channels: int, loads: int = 2, itemsize: int = 4) -> Plan:
    """Chooses how to divide a recurrence, given the sizes of its arrays.

    Args:
      time: T, the number of steps.
      channels: N times the number of sequences.
      loads: the number of values that a thread loads at each step: the parts of x (two for pairs,
        one for real numbers); as many for a if a varies; as many for the saved states in the
        backward pass; and one for the reset, if there is one.
      itemsize: the size of a value in bytes.

    Example:
      >>> plan(2048, 32 * 256)
      Plan(block=32, unroll=32, steps=2048, chunks=1)
      >>> plan(2048, 256)
      Plan(block=128, unroll=8, steps=32, chunks=64)
    """
    step_bytes = channels * loads * itemsize
    wanted = pl.next_power_of_2(pl.cdiv(IN_FLIGHT, step_bytes))
    most = 2 ** (LOADED // loads).bit_length() // 2  # a power of 2 that fits into the registers
    unroll = max(MIN_UNROLL, min(wanted, most))
    if 2 * step_bytes * unroll >= IN_FLIGHT or time < 2 * MIN_CHUNK:
        unroll = min(unroll, pl.next_power_of_2(time))
        return Plan(WARP, unroll, pl.cdiv(time, unroll) * unroll, 1)
    chunks = max(1, min(THREADS // channels, time // MIN_CHUNK))
    steps = pl.cdiv(time, chunks * MIN_UNROLL) * MIN_UNROLL
    return Plan(4 * WARP, MIN_UNROLL, steps, pl.cdiv(time, steps))


def solve(a, x, h0, reset, reverse, pairs):
    """Returns all states h_t = a_t * h_{t-1} + x_t.

    This function cannot be differentiated; `lru.ops.recurrence` defines the derivatives, for every
    method.

    Args:
      a: the factors, `(1, ..., M)` if constant, `(T, ..., M)` if not. M is 2N for pairs, else N.
      x: the terms added, `(T, ..., M)`.
      h0: the state before the first step consumed, `(1, ..., M)`; None for zero.
      reset: `(T, ..., 1)`, True where the state is cleared before the step; or None.
      reverse: whether to consume the last step first.
      pairs: whether the numbers are complex, with all real parts first; otherwise they are real.

    Returns:
      h, `(T, ..., M)`, with the type of x.
    """
    return _solve(a, x, h0, reset, None, reverse, pairs)[0]


def solve_transposed(a, g, h, reset, reverse, pairs):
    """Solves the transpose of the recurrence for a constant a; with a single chunk, in one pass.

    Args:
      a, reset, reverse, pairs: see `solve`; a is constant.
      g: the cotangents of h, `(T, ..., M)`.
      h: the states that `solve` returned, `(T, ..., M)`.

    Returns:
      `(z, sums)`. z, with the shape and type of g, solves z_t = conj(a) * z_{t+1} + g_t, and is the
      cotangent of x. The sums of conj(h_{t-1}) * z_t over all steps but the first that `solve`
      consumed, and over the sequences that share a, have the shape of a, and are the cotangent of a
      for a zero state before that first step. A reset at step t clears the products conj(a) * z_t
      and conj(h_{t-1}) * z_t. With `reverse`, t - 1 and t + 1 change places.
    """
    shared = [axis for axis, size in enumerate(a.shape) if size == 1]
    if pairs:
        a = conjugate_pairs(a)
    if reset is not None:  # clear before the step that is consumed after the reset's own step
        edge = jnp.zeros_like(reset[:1])
        reset = jnp.concatenate([edge, reset[:-1]] if reverse else [reset[1:], edge])
    z, sums = _solve(a, g, None, reset, h, not reverse, pairs)
    return z, sums.sum(shared, keepdims=True)


def _solve(a, x, h0, reset, saved, reverse, pairs):
    """Returns `(h,)` or, if `saved` is not None, `(h, sums)`.

    The sums, `(1, ..., M)`, are those of `solve_transposed` over the steps of each sequence.
    """
    if x.size == 0:
        sums = jnp.zeros((1, *x.shape[1:]), at_least_float32(x))
        return (x,) if saved is None else (x, sums)
    others = {"h0": h0, "reset": reset, "saved": saved}
    given = {name: v for name, v in others.items() if v is not None}

    def run(x, a, *values):
        arrays = dict.fromkeys(others) | dict(zip(given, values))
        return _solve_here(a, x, **arrays, reverse=reverse, pairs=pairs)

    return divide_batch(run, x, a, *given.values())


def _solve_here(a, x, *, h0, reset, saved, reverse, pairs):
    """Computes `_solve` on one device."""
    if any(axis > 1 for axis in a.shape[1:-1]):  # not shared by all sequences
        a = jnp.broadcast_to(a, (len(a), *x.shape[1:]))
    if h0 is not None:
        h0 = jnp.broadcast_to(h0, (1, *x.shape[1:]))
    if reset is not None:
        reset = jnp.broadcast_to(reset[..., 0], x.shape[:-1])
    if saved is not None:
        saved = jnp.broadcast_to(saved, x.shape)
    parts = 2 if pairs else 1
    rows = [v if v is None else v.reshape(len(v), -1) for v in (a, x, h0, reset, saved)]
    h, sums = _scan_chunks(*rows, _Layout(x.shape[-1] // parts, parts, reverse))
    h = h.reshape(x.shape)
    return (h,) if sums is None else (h, sums.sum(0).reshape(1, *x.shape[1:]))


class _Layout(NamedTuple):
    """The layout of the numbers in a row, and the direction of the recurrence.

    Attributes:
      modes: N, the state size.
      parts: 2 for pairs, 1 for real numbers.
      reverse: whether the last step is consumed first.
    """

    modes: int
    parts: int
    reverse: bool


def _scan_chunks(a, x, h0, reset, saved, layout):
    """Runs the three phases in the module's docstring, or only the third if there is one chunk.

    Args:
      a: the factors, `(1 or T, M or S M)`, where S is the number of sequences, and M as in `solve`.
      x: the terms added, `(T, S M)`.
      h0: the state before the first step consumed, `(1, S M)`; None for zero.
      reset: `(T, S)`, True where the state is cleared before the step; or None.
      saved: h of `solve_transposed`, to multiply by the result and sum, `(T, S M)`; or None.
      layout: the layout of the numbers, and the direction.

    Returns:
      h `(T, S M)`, and the sums of each of the K chunks, `(K, S M)`; these are None if `saved` is.
    """
    time, width = x.shape
    varying, summing = len(a) > 1, saved is not None
    loads = layout.parts * (1 + varying + summing) + (reset is not None)
    planned = plan(time, width // layout.parts, loads, x.dtype.itemsize)
    run = functools.partial(_run_kernel, a, x, reset, planned=planned, layout=layout)
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=at_least_float32(x))
    if planned.chunks > 1:
        # No chunk follows the last one, so its final state is not needed here.
        ends = shape((planned.chunks - 1, width))
        outputs = _Outputs(h_out=ends, products=ends if varying else None)
        _, h_out, products, _ = run(None, None, outputs)
        if products is None:
            products = _power(a, planned.steps, layout.parts)
        cleared = _any_reset(reset, planned, layout.reverse)
        joined, _ = _scan_chunks(products, h_out, h0, cleared, None, layout._replace(reverse=False))
        h0 = jnp.concatenate([jnp.zeros_like(joined[:1]) if h0 is None else h0, joined])
    sums = shape((planned.chunks, width)) if summing else None
    h, _, _, sums = run(h0, saved, _Outputs(jax.ShapeDtypeStruct(x.shape, x.dtype), sums=sums))
    return h, sums


class _Outputs(NamedTuple):
    """The outputs of a kernel; those that it does not compute are None.

    S is the number of sequences, K the number of chunks, and M as in `solve`.

    Attributes:
      h: the states, `(T, S M)`.
      h_out: the state after each chunk but the last, `(K - 1, S M)`.
      products: the product of the factors of each chunk but the last, `(K - 1, S M)`.
      sums: the sums of each chunk, `(K, S M)`; see `solve_transposed`.
    """

    h: Any = None
    h_out: Any = None
    products: Any = None
    sums: Any = None


def _power(a, exponent, parts):
    """Raises `a` to a positive integer power by repeated squaring."""
    square, result = jnp.split(a, parts, axis=-1), None
    while exponent:
        if exponent % 2:
            result = square if result is None else _times(square, result)
        square, exponent = _times(square, square), exponent // 2
    return jnp.concatenate(result, axis=-1)


def _any_reset(reset, planned, reverse):
    """Returns whether each chunk but the last has a reset, for each sequence, `(K - 1, S)`.

    Returns None if `reset` is None.
    """
    if reset is None:
        return None
    chunks, steps = planned.chunks - 1, planned.steps
    reset = (reset[::-1] if reverse else reset)[: chunks * steps]
    return reset.reshape(chunks, steps, -1).any(1)


def _run_kernel(a, x, reset, h_in, saved, outputs, planned, layout):
    """Runs the kernel on a grid of blocks and chunks; interprets it if the device is not a GPU.

    If h is among the outputs, runs every chunk from its row of h_in, or from zero if h_in is None.
    Otherwise, runs every chunk except the last from zero.
    """
    chunks = planned.chunks if outputs.h_out is None else outputs.h_out.shape[0]

    def call(*inputs, interpret):
        unroll = min(2, planned.unroll) if interpret else planned.unroll
        return pl.pallas_call(
            functools.partial(_kernel, planned=planned._replace(unroll=unroll), layout=layout),
            out_shape=outputs,
            grid=(pl.cdiv(x.shape[1] // layout.parts, planned.block), chunks),
            compiler_params=triton.CompilerParams(num_warps=planned.block // WARP, num_stages=1),
            interpret=interpret,
            name="linear_recurrence",
        )(*inputs)

    compiled, interpreted = (functools.partial(call, interpret=i) for i in (False, True))
    return lax.platform_dependent(
        a, x, reset, h_in, saved, cuda=compiled, rocm=compiled, default=interpreted
    )


def _kernel(a, x, reset, h_in, saved, *outputs, planned, layout):
    """Runs one program: a chunk of steps for a block of channels.

    The positional arguments are references to arrays, or None. The last four are the fields of
    `_Outputs`.
    """
    (h, h_out, products, sums), (block, unroll, steps, _) = outputs, planned
    at, dtype, chunk = _Columns(x, block, layout), at_least_float32(x), pl.program_id(1)
    first, stop = chunk * steps, jnp.minimum(x.shape[0], (chunk + 1) * steps)
    constant = at.load(a, 0, at.inside) if a.shape[0] == 1 else None

    def row_and_mask(step):
        return (x.shape[0] - 1 - step if layout.reverse else step), at.inside & (step < stop)

    def load_steps(index):
        steps = [first + index * unroll + i for i in range(unroll)]
        return [
            (
                () if constant else at.load(a, row, mask),
                at.load(x, row, mask),
                () if reset is None else (_load(reset, row, at.sequence, mask),),
                # Before the first step the state is zero; zero times infinity would be NaN.
                () if saved is None else at.load(saved, row, mask & (step > 0)),
            )
            for step in steps
            for row, mask in [row_and_mask(step)]
        ]

    def compute_steps(index, carry):
        state, product, total, loaded = carry
        ahead = load_steps(index + 1)  # first, so that these loads overlap with the computation
        for i, (factor, xt, clear, kept) in enumerate(loaded):
            factor = constant or factor
            for cleared in clear:
                state, kept = (
                    tuple(jnp.where(cleared, jnp.zeros_like(part), part) for part in number)
                    for number in (state, kept)
                )
            total = total and tuple(map(operator.add, total, _times(_conjugate(kept), state)))
            state = tuple(map(operator.add, _times(factor, state), xt))
            product = product and _times(factor, product)
            if h is not None:
                row, mask = row_and_mask(first + index * unroll + i)
                at.store(h, row, mask, state)
        return state, product, total, ahead

    zero = jnp.zeros(block, dtype)
    state = (zero,) * layout.parts if h_in is None else at.load(h_in, chunk, at.inside)
    product = () if products is None else (zero + 1, zero)[: layout.parts]
    total = () if sums is None else (zero,) * layout.parts
    carry = state, product, total, load_steps(0)
    state, product, total, _ = lax.fori_loop(0, steps // unroll, compute_steps, carry)
    if h_out is not None:
        at.store(h_out, chunk, at.inside, state)
    if products is not None:
        at.store(products, chunk, at.inside, product)
    if sums is not None:
        at.store(sums, chunk, at.inside, total)


class _Columns:
    """The columns of one program's channels, in rows of pairs or of real numbers.

    Attributes:
      inside: a mask of the threads that have a channel.
      sequence: the index of each channel's sequence.
    """

    def __init__(self, x, block, layout):
        lane = pl.program_id(0) * block + lax.iota(jnp.int32, block)
        modes, self._width = jnp.int32(layout.modes), x.shape[1]
        self.inside = lane < self._width // layout.parts
        self.sequence, mode = lax.div(lane, modes), lax.rem(lane, modes)
        self._shared = [mode + part * layout.modes for part in range(layout.parts)]
        self._own = [self.sequence * (layout.parts * layout.modes) + c for c in self._shared]

    def load(self, ref, row, mask):
        """Loads the values of the program's channels from a row, one array per part of a number.

        The row may hold one value for each channel, or values that all sequences share.
        """
        columns = self._own if ref.shape[1] == self._width else self._shared
        return tuple(
            _load(ref, row, column, mask).astype(at_least_float32(ref)) for column in columns
        )

    def store(self, ref, row, mask, values):
        for column, value in zip(self._own, values):
            triton.store(ref.at[row, column], value.astype(ref.dtype), mask=mask)


def _load(ref, row, column, mask):
    """Loads a block of one row, with zero or False outside the mask."""
    return triton.load(ref.at[row, column], mask=mask, other=jnp.zeros((), ref.dtype))


def _conjugate(a):
    return (a[0], *(-part for part in a[1:]))


def _times(a, b):
    """Multiplies two numbers given as tuples: `(real,)`, or `(real, imaginary)`."""
    if len(a) == 1:
        return (a[0] * b[0],)
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
