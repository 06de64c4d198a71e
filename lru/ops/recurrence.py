"""The diagonal linear recurrence h_t = a_t * h_{t-1} + x_t.

Users call `linear_recurrence`, and layers call `recur`. Each method of computing the states is a
private function; checks, types and the choice of the method are shared. All methods have the
signature `(a, x, h0, reset, reverse) -> h`, with time first and arrays of equal rank: x and h are
`(T, ..., N)`, h0 is `(1, ..., N)` or None, and reset is `(T, ..., 1)` or None. a is `(1, ..., N)`
if it is constant and `(T, ..., N)` if not, with batch axes of size 1 if all sequences share a.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from lru.ops import platform
from lru.ops.arguments import as_array, as_bool
from lru.ops.array_typing import Array, ArrayLike, Num, Shape
from lru.ops.dtypes import at_least_float32
from lru.ops.pairs import conjugate_pairs, from_pairs, times_pairs, to_pairs

Method = Literal["auto", "associative", "sequential", "pallas"]


def linear_recurrence(
    a: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    reset: ArrayLike | None = None,
    reverse: bool = False,
    method: Method = "auto",
) -> tuple[Num[Array, "*B T N"], Num[Array, "*B N"]]:
    """Solves h_t = a_t * h_{t-1} + x_t, elementwise in N, for all t.

    This is the recurrence of Eq. (7) of Orvieto et al. (2023), with a = Lambda and
    x_t = exp(gamma_log) * (B u_t). All methods give the same values and derivatives, up to
    rounding, unless products of factors overflow.

    Args:
      a: the factors: `(N,)`, the same at every step, or `(..., T, N)`. Batch axes of a, h0 and
        reset may be left out, or have size 1, if all sequences share the values.
      x: the terms added, `(..., T, N)` with T >= 1, real or complex.
      h0: the state before the first step consumed, `(..., N)`; by default, zero.
      reset: `(..., T)`; True (or not zero) clears the state *before* that step is consumed:
        h_t = x_t there, whatever came before, even h0 or NaN. In reverse, too, h_t = x_t at that
        step itself.
      reverse: whether to consume the last step first: h_t = a_t * h_{t+1} + x_t.
      method: the method of computing the states:
        `"sequential"`: a `lax.scan`, which needs the least work and memory.
        `"associative"`: the paper's `lax.associative_scan`, in O(log T) parallel rounds.
        `"pallas"`: a GPU kernel that reads x once, or twice if T is large and the batch has few
        channels, and writes h once (`lru/ops/pallas.py`).
        `"auto"`: sequential on a CPU, where it was the fastest in benchmarks, and for a single step
        or a symbolic number of steps. Otherwise, the kernel if all sizes are known and the kernel
        compiles for the device, or else associative.
        All methods except the sequential one may multiply factors together, so only the sequential
        method is safe if products of factors overflow.

    Returns:
      `(h, h_last)`: all states `(..., T, N)`, and the state after the last step consumed
      `(..., N)`, which is `h[..., -1, :]`, or `h[..., 0, :]` in reverse. Both are at least
      float32 or complex64, whatever the types of the inputs.

    Raises:
      ValueError: if the shapes or types of the arguments do not fit together, T is 0, or the method
        is unknown or needs sizes that are symbolic.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> h, h_last = lru.linear_recurrence(jnp.array([0.5]), jnp.ones((4, 1)))
      >>> h[:, 0].tolist()
      [1.0, 1.5, 1.75, 1.875]
    """
    a, x = as_array("a", a), as_array("x", x)
    h0 = None if h0 is None else as_array("h0", h0)
    reset = None if reset is None else as_bool(reset)
    _check_shapes(a, x, h0, reset)
    reset = None if reset is None else _time_first(reset[..., None], x.ndim)
    a = jnp.broadcast_to(a, (*a.shape[:-1], x.shape[-1]))
    if a.ndim == 1:
        a = a[None]
    if h0 is not None:
        h0 = jnp.broadcast_to(h0, (*h0.shape[:-1], x.shape[-1]))
        h0 = _time_first(h0[..., None, :], x.ndim)
    a, x = (_time_first(v, x.ndim) for v in (a, x))
    h, h_last = recur(a, x, h0, reset, reverse, method)
    return jnp.moveaxis(h, 0, -2), h_last


@functools.partial(jax.jit, static_argnames=("reverse", "method", "pairs"))
def recur(a, x, h0, reset, reverse, method, pairs=False):
    """Computes `linear_recurrence` for arrays with time first and equal numbers of axes.

    Args:
      a, x, h0, reset, reverse, method: see `linear_recurrence`; h0 is `(1, ..., N)`, and reset is
        `(T, ..., 1)`.
      pairs: whether a, x, h0 and the results are complex numbers as pairs; see `to_pairs`. The
        kernel computes with complex numbers as pairs, but the other methods do not. With pairs, the
        kernel's results may have a narrower type than float32: that of x.

    Returns:
      `(h, h_last)`: all states `(T, ..., N)`, and the state after the last step consumed
      `(..., N)`.
    """
    resolved = resolve_method(method, x.shape)
    is_complex = pairs or any(jnp.iscomplexobj(v) for v in (a, x, h0))
    on_pairs = resolved == "pallas" and is_complex
    if on_pairs != pairs:
        a, x, h0 = map(to_pairs if on_pairs else from_pairs, (a, x, h0))
    stored = x.dtype
    dtype = at_least_float32(*(v for v in (a, x, h0) if v is not None))
    a, x, h0 = (v if v is None else v.astype(dtype) for v in (a, x, h0))
    if on_pairs and pairs and at_least_float32(x) == dtype:  # the kernel stores any type
        x = x.astype(stored)
    if h0 is not None:
        h0 = jnp.broadcast_to(h0, (1, *x.shape[1:]))
    if resolved == "pallas":
        numbers = _kernel(on_pairs, beside_cpu=method == "auto")
    else:
        numbers = _Numbers(METHODS[resolved])
    h = _states(a, x, h0, reset, reverse, numbers)
    last = h[0 if reverse else -1]
    if on_pairs != pairs:
        h, last = map(from_pairs if on_pairs else to_pairs, (h, last))
    return h, last


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _states(a, x, h0, reset, reverse, numbers):
    return numbers.run(a, x, h0, reset, reverse)


@_states.defjvp
def _states_jvp(reverse, numbers, primals, tangents):
    """Differentiates the linear system h - a * (h one step earlier) = x, which starts from h0.

    The derivatives dh solve the same system from a zero state, with dx + da * (h one step earlier)
    in place of x, plus a * dh0 at the first step consumed. The backward pass solves the transposed
    system, which is a recurrence in the other direction. So no method has to be differentiated.
    Because da is among the unknowns of the system, the transposed system also gives the derivative
    with respect to a, which the kernel computes in the same pass if a is constant.
    """
    (a, x, h0, reset), (da, dx, dh0, _) = primals, tangents
    times, first = numbers.times, slice(-1, None) if reverse else slice(1)
    h = _states(a, x, h0, reset, reverse, numbers)
    if h0 is not None:
        h0, dh0 = (zero_where(None if reset is None else reset[first], v) for v in (h0, dh0))
        edge = times(da[first], h0) + times(a[first], dh0)
        dx = dx.at[first].add(edge.astype(dx.dtype))

    # To transpose the solve, JAX needs both terms to depend on a tangent, even if one is zero.
    dx, da = (v + jnp.where(False, w.sum(), 0).astype(v.dtype) for v, w in ((dx, da), (da, dx)))
    before = functools.partial(_before, reset=reset, reverse=reverse)

    def system(unknowns):
        dh, da = unknowns
        return dh - (times(a, before(dh)) + times(da, before(h))).astype(dh.dtype), da

    def solve(_, terms):
        dx, da = terms
        dx += times(da, before(h)).astype(dx.dtype)
        return numbers.run(a, dx, None, reset, reverse), da

    def solve_transpose(_, cotangents):
        g, g_a = cotangents
        z, sums = numbers.run_transposed(a, g, h, reset, reverse)
        return z, g_a + sums

    return h, lax.custom_linear_solve(system, (dx, da), solve, solve_transpose)[0]


def resolve_method(method: str, shape: Shape) -> str:
    """Returns the name of the method for x `(T, ..., N)`, with "auto" resolved.

    If sizes are symbolic, as in an export, "auto" selects a method that does not need them.

    Raises:
      ValueError: if the method is unknown, or needs sizes that are symbolic.
    """
    if method != "auto" and method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"method {method!r} is unknown; expected one of auto, {known}")
    symbolic, symbolic_time = any(map(is_symbolic_dim, shape)), is_symbolic_dim(shape[0])
    if method == "auto":
        # the scan was fastest in results/benchmark_cpu_recurrence.json
        if platform.is_cpu() or symbolic_time or shape[0] == 1:
            return "sequential"
        return "pallas" if not symbolic and platform.kernel_compiles() else "associative"
    if method == "pallas" and symbolic or method != "sequential" and symbolic_time:
        raise ValueError(
            f"method={method!r} needs known sizes, but x has the shape {shape}, with time first; "
            "export with method='sequential'"
        )
    return method


def earlier(v, edge, reverse):
    """Returns v shifted by one step: at each step, the value at the step consumed just before.

    At the first step consumed, the value is `edge`, `(1, ...)`.
    """
    return jnp.concatenate([v[1:], edge] if reverse else [edge, v[:-1]])


def zero_where(reset, v):
    """Returns v with zeros where there is a reset."""
    return v if reset is None else jnp.where(reset, jnp.zeros_like(v), v)


def _time_first(x, ndim):
    """Moves (..., T, N) to (T, ..., N), with batch axes of size 1 added up to `ndim` axes."""
    return jnp.moveaxis(x.reshape((1,) * (ndim - x.ndim) + x.shape), -2, 0)


def _check_shapes(a, x, h0, reset) -> None:
    if x.ndim < 2 or x.shape[-2] == 0:
        raise ValueError(f"x has shape {x.shape}; expected (..., T, N) with T >= 1")
    *batch, time, width = x.shape
    expected = {"a": (a, (*batch, time, width), "(N,) or (..., T, N)")}
    if h0 is not None:
        expected["h0"] = (h0, (*batch, width), "(..., N)")
    if reset is not None:
        expected["reset"] = (reset, (*batch, time), "(..., T)")
    for name, (array, shape, letters) in expected.items():
        short = name == "reset" and array.shape[-1:] != (time,)
        if not fits(array, shape) or array.ndim == 0 or short:
            raise ValueError(
                f"{name} has shape {array.shape}, which does not fit x of shape {x.shape}; "
                f"expected {letters}"
            )


def fits(array, shape: Shape) -> bool:
    """Returns whether the array can be broadcast to the shape."""
    axes = zip(array.shape[::-1], shape[::-1])
    return array.ndim <= len(shape) and all(have in (1, want) for have, want in axes)


def _sequential(a, x, h0, reset, reverse):
    constant = a[0] if a.shape[0] == 1 else None

    def step(h, inputs):
        xt, at, clear = inputs
        h = (constant if at is None else at) * zero_where(clear, h) + xt
        return h, h

    varying = None if constant is not None else a
    start = jnp.zeros_like(x[0]) if h0 is None else h0[0]
    return lax.scan(step, start, (x, varying, reset), reverse=reverse)[1]


def _associative(a, x, h0, reset, reverse):
    if h0 is not None:  # folded into the first step consumed
        first = slice(-1, None) if reverse else slice(1)
        x = x.at[first].add(a[first] * zero_where(None if reset is None else reset[first], h0))
    # Only time is broadcast: shared factors are not copied for each sequence.
    a = jnp.broadcast_to(a, x.shape[:1] + a.shape[1:])

    def combine(left, right):
        (a_left, x_left, reset_left), (a_right, x_right, reset_right) = left, right
        was_reset = None if reset is None else reset_left | reset_right
        return a_right * a_left, a_right * zero_where(reset_right, x_left) + x_right, was_reset

    return lax.associative_scan(combine, (a, x, reset), reverse=reverse)[1]


def _pallas(a, x, h0, reset, reverse, pairs=False):
    from lru.ops import pallas  # here, because the other methods need no Triton

    return pallas.solve(a, x, h0, reset, reverse, pairs)


def _pallas_transposed(a, g, h, reset, reverse, pairs):
    from lru.ops import pallas

    return pallas.solve_transposed(a, g, h, reset, reverse, pairs)


METHODS = {
    "associative": _associative,
    "sequential": _sequential,
    "pallas": _pallas,
}


def _before(v, reset, reverse):
    """Returns, for each step, the value of v at the step consumed before it.

    This is zero at resets and at the first step consumed.
    """
    return zero_where(reset, earlier(v, jnp.zeros_like(v[:1]), reverse))


class _Numbers(NamedTuple):
    """A method of the recurrence, and the arithmetic of the numbers that it computes with.

    Attributes:
      run: the method's function, `(a, x, h0, reset, reverse) -> h`.
      fused: a function that `run_transposed` calls if a is constant; None if the method has none.
      times: a function that multiplies two arrays.
      transpose: a function that maps a factor to the factor of the transposed multiplication.
    """

    run: Callable[..., Any]
    fused: Callable[..., Any] | None = None
    times: Callable[..., Any] = operator.mul
    transpose: Callable[..., Any] = lambda a: a

    def run_transposed(self, a, g, h, reset, reverse):
        """Solves the transpose of the linear system that `run` solves.

        Args:
          a, reset, reverse: the arguments of `run`.
          g: the cotangents of h.
          h: the result of `run`.

        Returns:
          `(z, sums)`: z is the cotangent of x, and `sums`, with the shape of a, is the cotangent of
          a for a state of zero before the first step consumed.
        """
        if self.fused and len(a) == 1:
            return self.fused(a, g, h, reset, reverse)

        def later(v):  # the edge that is filled in is never used: the solve starts from zero
            return v if v is None or len(v) != len(g) else earlier(v, v[:1], not reverse)

        z = self.run(later(self.transpose(a)), g, None, later(reset), not reverse)
        before = _before(h, reset, reverse)
        (sums,) = jax.linear_transpose(lambda da: self.times(da, before).astype(z.dtype), a)(z)
        return z, sums


def _kernel(pairs, beside_cpu):
    """Returns the kernel as a `_Numbers`, for complex numbers as pairs or for real numbers.

    Args:
      pairs: whether the numbers are pairs.
      beside_cpu: whether to run the scan instead in programs that are not compiled for a GPU, such
        as programs for the CPU of a machine with a GPU.
    """
    arithmetic = dict(times=times_pairs, transpose=conjugate_pairs) if pairs else {}
    run, fused = (functools.partial(f, pairs=pairs) for f in (_pallas, _pallas_transposed))
    if beside_cpu:
        scan = _Numbers(_sequential_pairs if pairs else _sequential, **arithmetic)
        run, fused = _on_gpu(run, scan.run), _on_gpu(fused, scan.run_transposed)
    return _Numbers(run, fused, **arithmetic)


def _sequential_pairs(a, x, h0, reset, reverse):
    h = _sequential(*map(from_pairs, (a, x, h0)), reset, reverse)
    return to_pairs(h).astype(x.dtype)


def _on_gpu(kernel, scan):
    """Returns a function that runs the kernel in programs for a GPU, and the scan in others."""

    def run(*arrays_and_reverse):
        *arrays, reverse = arrays_and_reverse
        on_gpu, otherwise = (functools.partial(f, reverse=reverse) for f in (kernel, scan))
        return lax.platform_dependent(*arrays, cuda=on_gpu, rocm=on_gpu, default=otherwise)

    return run
