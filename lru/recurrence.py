"""The diagonal linear recurrence h_t = a_t * h_{t-1} + x_t.

One public function, and one private function a method. What the methods share (checks, types,
resets, the choice among them) is done once, in `linear_recurrence`; each of them sees time
first: `(a, x, h0, reverse) -> h` with x and h `(T, ..., N)`, h0 `(..., N)` or None, and a either
`(N,)` or `(T, ..., N)`, its batch axes of size 1 where all sequences share them.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from lru.array_typing import Array, Bool, Num

Method = Literal["auto", "associative", "sequential", "chunked"]


def linear_recurrence(
    a: Num[Array, "..."],
    x: Num[Array, "*B T N"],
    h0: Num[Array, "*B N"] | None = None,
    *,
    reset: Bool[Array, "*B T"] | None = None,
    reverse: bool = False,
    method: Method = "auto",
) -> tuple[Num[Array, "*B T N"], Num[Array, "*B N"]]:
    """Solves h_t = a_t * h_{t-1} + x_t, elementwise in N, for all t.

    This is the recurrence of Eq. (7) of Orvieto et al. (2023), with a = Lambda and
    x_t = exp(gamma_log) * (B u_t). All methods give the same values and the same derivatives.

    Args:
      a: the factors: `(N,)`, the same at every step, or `(..., T, N)`.
      x: what is added, `(..., T, N)` with T >= 1, real or complex.
      h0: the state before the first step consumed, `(..., N)`; zero if not given.
      reset: `(..., T)`; True clears the state *before* that step is consumed: h_t = x_t there,
        whatever came before, h0 included.
      reverse: consume the last step first: h_t = a_t * h_{t+1} + x_t.
      method: `"sequential"`, a `lax.scan`: least work, least memory. `"associative"`, the
        paper's `lax.associative_scan`: log2(T) rounds, for parallel hardware. `"chunked"`:
        about 2 sqrt(T) steps, each over all chunks of the sequence at once. `"auto"`: what is
        fastest for the platform and the shape.

    Returns:
      `(h, h_last)`: all states `(..., T, N)`, and the state after the last step consumed
      `(..., N)`, which is `h[..., -1, :]`, or `h[..., 0, :]` in reverse. Both are float32 or
      complex64 at least, whatever the inputs are.

    Raises:
      ValueError: if the shapes do not fit together, T is 0, or the method is unknown.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> h, h_last = lru.linear_recurrence(jnp.array([0.5]), jnp.ones((4, 1)))
      >>> h[:, 0].tolist()
      [1.0, 1.5, 1.75, 1.875]
    """
    _check_shapes(a, x, h0, reset)
    dtype = jnp.result_type(jnp.float32, a, x, *([] if h0 is None else [h0]))
    a, x = a.astype(dtype), x.astype(dtype)
    h0 = None if h0 is None else jnp.broadcast_to(h0, x.shape[:-2] + x.shape[-1:]).astype(dtype)
    if reset is not None:
        a = jnp.where(reset[..., None], 0, a)  # a factor of zero lets nothing pass
    if a.ndim > 1:
        a = a.reshape((1,) * (x.ndim - a.ndim) + a.shape)
        a = jnp.moveaxis(jnp.broadcast_to(a, a.shape[:-2] + x.shape[-2:]), -2, 0)
    x = jnp.moveaxis(x, -2, 0)
    h = _method(method, x.shape)(a, x, h0, reverse)
    return jnp.moveaxis(h, 0, -2), h[0 if reverse else -1]


def _check_shapes(a, x, h0, reset) -> None:
    if x.ndim < 2 or x.shape[-2] == 0:
        raise ValueError(f"x has shape {x.shape}; expected (..., T, N) with T >= 1")
    *batch, time, width = x.shape
    wanted = {"a": (a, (*batch, time, width), "(N,) or (..., T, N)")}
    if h0 is not None:
        wanted["h0"] = (h0, (*batch, width), "(..., N)")
    if reset is not None:
        wanted["reset"] = (reset, (*batch, time), "(..., T)")
    for name, (array, shape, letters) in wanted.items():
        fits = array.ndim <= len(shape) and all(
            have in (1, want) for have, want in zip(array.shape[::-1], shape[::-1])
        )
        if not fits:
            raise ValueError(
                f"{name} has shape {array.shape}, which does not fit x of shape {x.shape}; "
                f"expected {letters}"
            )


def _sequential(a, x, h0, reverse):
    if h0 is None:
        h0 = jnp.zeros_like(x[0])

    def step(h, at_and_xt):
        at, xt = at_and_xt
        h = at * h + xt
        return h, h

    if a.ndim > 1:
        return lax.scan(step, h0, (a, x), reverse=reverse)[1]
    return lax.scan(lambda h, xt: step(h, (a, xt)), h0, x, reverse=reverse)[1]


def _associative(a, x, h0, reverse):
    if h0 is not None:  # the first step consumed brings the initial state along
        first = -1 if reverse else 0
        x = x.at[first].add((a if a.ndim == 1 else a[first]) * h0)
    # Shared factors stay (T, 1, ..., N): they are not copied for each sequence of the batch.
    a = a if a.ndim > 1 else jnp.broadcast_to(a, x.shape[:1] + (1,) * (x.ndim - 2) + a.shape)

    def then(left, right):
        (a_left, x_left), (a_right, x_right) = left, right
        return a_right * a_left, a_right * x_left + x_right

    return lax.associative_scan(then, (a, x), reverse=reverse)[1]


def _chunked(a, x, h0, reverse):
    """Splits time into C chunks of K steps, runs all chunks abreast from zero, then joins them.

    With P_k the product of a chunk's first k factors, h_k = (state from zero)_k + P_k * h_in.
    """
    if reverse:
        a = a if a.ndim == 1 else a[::-1]
        return _chunked(a, x[::-1], h0, False)[::-1]
    time = x.shape[0]
    steps = math.isqrt(time - 1) + 1  # K, the root of T rounded up
    x = _split(x, steps, 0)
    if a.ndim == 1:
        a = jnp.broadcast_to(a, (steps, *(1,) * (x.ndim - 2), *a.shape))
    else:
        a = _split(a, steps, 1)
    zero, one = jnp.zeros_like(x[0]), jnp.ones_like(a[0])

    def step(carry, at_and_xt):
        (product, h), (at, xt) = carry, at_and_xt
        carry = at * product, at * h + xt
        return carry, carry

    _, (products, h) = lax.scan(step, (one, zero), (a, x))  # (K, C, ..., N)
    ends = _sequential(jnp.broadcast_to(products[-1], h[-1].shape), h[-1], h0, False)
    entering = jnp.concatenate([ends[:1] * 0 if h0 is None else h0[None], ends[:-1]])
    h = h + products * entering
    return jnp.swapaxes(h, 0, 1).reshape(-1, *h.shape[2:])[:time]


def _split(x, steps: int, fill: int):
    """(T, ...) -> (K, C, ...): K steps of C chunks, the last chunk filled up."""
    x = jnp.pad(x, [(0, -len(x) % steps)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return jnp.swapaxes(x.reshape(-1, steps, *x.shape[1:]), 0, 1)


_METHODS = {"associative": _associative, "sequential": _sequential, "chunked": _chunked}


def _method(name: str, shape: tuple[int, ...]):
    """The function behind a method's name; the one place where "auto" is resolved."""
    if name == "auto":  # on two CPU cores the scan led at every shape tried, from T=256 to 16384
        parallel = jax.default_backend() != "cpu" and shape[0] > 1
        name = "associative" if parallel else "sequential"
    if name not in _METHODS:
        raise ValueError(f"method {name!r} is unknown; expected one of auto, {', '.join(_METHODS)}")
    return _METHODS[name]
