"""Initialization and discretization of S4D and S5: HiPPO matrices, step sizes, discrete modes.

h' = Lambda h + B u,   y = C h + D u          Lambda diagonal, complex, in conjugate pairs
"""

from __future__ import annotations

import functools
import math
from numbers import Integral
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from lru.ops.array_typing import Array, Complex, Float
from lru.ops.dtypes import at_least_float32
from lru.ops.initializers import Initializer

Discretization = Literal["zoh", "bilinear"]


def hippo_legs(d_state: int) -> np.ndarray:
    """Returns the HiPPO-LegS matrix A `(N, N)`.

    A_nk = -sqrt((2n + 1)(2k + 1)) for n > k,   -(n + 1) for n = k,   0 for n < k

    This is Eq. (2) of Gu et al., "Efficiently Modeling Long Sequences with Structured State
    Spaces".

    Example:
      >>> hippo_legs(2).round(3).tolist()
      [[-1.0, -0.0], [-1.732, -2.0]]
    """
    root = np.sqrt(2 * np.arange(d_state) + 1)
    return -np.tril(np.outer(root, root), -1) - np.diag(np.arange(d_state) + 1.0)


def hippo_normal(d_state: int) -> np.ndarray:
    """Returns the HiPPO-N matrix A + P P^T: -I/2 plus a skew-symmetric matrix.

    A is the HiPPO-LegS matrix, and P_n = sqrt(n + 1/2). S5 and S4D-LegS use HiPPO-N, because
    HiPPO-LegS cannot be diagonalized in a numerically stable way.

    Example:
      >>> hippo_normal(2).round(3).tolist()
      [[-0.5, 0.866], [-0.866, -0.5]]
    """
    p = np.sqrt(np.arange(d_state) + 0.5)
    return hippo_legs(d_state) + np.outer(p, p)


def check_even(d_state: int) -> None:
    """Checks that N is even and at least 2, because modes come in conjugate pairs.

    Raises:
      ValueError: if N is not an even integer of at least 2.
    """
    if not isinstance(d_state, Integral) or d_state < 2 or d_state % 2:
        raise ValueError(f"d_state={d_state}; expected an even number, for pairs of conjugates")


@functools.lru_cache
def hippo_modes(d_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns eigenvalues `(N/2,)` and orthonormal eigenvectors `(N, N/2)` of HiPPO-N.

    The eigenvalues are those with positive imaginary parts, one from each conjugate pair, in order
    of decreasing imaginary part. Both arrays are complex128.

    Raises:
      ValueError: if N is not an even integer of at least 2.
    """
    check_even(d_state)
    matrix = hippo_normal(d_state)
    frequencies, vectors = np.linalg.eigh(-1j * (matrix + np.eye(d_state) / 2))
    half = np.arange(d_state - 1, d_state // 2 - 1, -1)
    return -0.5 + 1j * frequencies[half], vectors[:, half]


def log_steps(dt_min: float, dt_max: float) -> Initializer:
    """Returns an initializer of log Delta, where Delta is log-uniform in [dt_min, dt_max].

    Raises:
      ValueError: unless 0 < dt_min <= dt_max, and both are finite.
    """
    if not 0 < dt_min <= dt_max < math.inf:
        raise ValueError(f"dt_min={dt_min}, dt_max={dt_max}; expected 0 < dt_min <= dt_max < inf")

    def init(key, shape, dtype=jnp.float32):
        u = jax.random.uniform(key, shape, at_least_float32(dtype))
        return (math.log(dt_min) + u * math.log(dt_max / dt_min)).astype(dtype)

    return init


def uneven_steps(
    rate: Complex[Array, "..."],
    timesteps: Float[Array, "..."],
    method: Discretization,
) -> tuple[Complex[Array, "..."], Complex[Array, "..."]]:
    """Discretizes steps of any duration: returns `(log_lam, factor)` of each step.

    A step of duration t Delta has the eigenvalues exp(log_lam), and its inputs are multiplied by
    `factor` in addition to the scale of a regular step. With z = lam Delta for each mode:

    `"zoh"`: log_lam = z t, factor = (exp(z t) - 1) / (exp(z) - 1).
    `"bilinear"`: exp(log_lam) = (1 + z t / 2) / (1 - z t / 2), factor =
    t (1 - z / 2) / (1 - z t / 2).

    Args:
      rate: z, the continuous-time eigenvalues times the regular step.
      timesteps: t, durations in units of the regular step, which must broadcast with z.
      method: `"zoh"` or `"bilinear"`; see `discretize`.

    Raises:
      ValueError: if the method is unknown.

    Example:
      >>> rate, timesteps = jnp.array([-0.5 + 1j]), jnp.array([[1.0], [2.0]])
      >>> log_lam, factor = uneven_steps(rate, timesteps, "zoh")
      >>> log_lam[1].tolist(), bool(jnp.allclose(factor[0], 1))
      ([(-1+2j)], True)
    """
    log_lam, scale = discretize(rate, timesteps, method)
    _, regular = discretize(rate, jnp.ones((), timesteps.dtype), method)
    return log_lam, scale / regular


def discretize(
    lam: Complex[Array, "*N"], step: Float[Array, "..."], method: Discretization = "zoh"
) -> tuple[Complex[Array, "..."], Complex[Array, "..."]]:
    """Discretizes h' = lam h + v as h_k = exp(log_lam) h_{k-1} + scale v_k.

    `"zoh"`, for v constant during a step: log_lam = lam Delta, scale = (exp(lam Delta) - 1) / lam.
    `"bilinear"`: exp(log_lam) = (1 + lam Delta / 2) / (1 - lam Delta / 2), scale =
    Delta / (1 - lam Delta / 2).

    Args:
      lam: the continuous-time eigenvalues.
      step: the step size Delta, of a shape that broadcasts with that of lam.
      method: `"zoh"` or `"bilinear"`.

    Returns:
      `(log_lam, scale)`, both of the shape that lam and step broadcast to.

    Raises:
      ValueError: if the method is unknown.
    """
    step = step.astype(lam.dtype)
    if method == "zoh":
        return lam * step, jnp.expm1(lam * step) / lam
    if method == "bilinear":
        half = lam * step / 2
        return jnp.log((1 + half) / (1 - half)), step / (1 - half)
    raise ValueError(f"discretization={method!r}; expected 'zoh' or 'bilinear'")
