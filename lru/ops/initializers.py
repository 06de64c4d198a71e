"""Initializers of the Linear Recurrent Unit's parameters, and of other layers' weights.

An initializer has the signature of Flax's initializers, `(key, shape, dtype) -> array`. The names,
shapes and distributions of the parameters of a unidirectional Linear Recurrent Unit are those of
Appendix A of Orvieto et al. (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Float, PRNGKeyArray
from lru.ops.dtypes import at_least_float32

Initializer = Callable[..., Array]


def ring_nu_log(r_min: float = 0.0, r_max: float = 1.0) -> Initializer:
    """Returns an initializer of nu_log, for eigenvalues on the ring r_min <= |lambda| <= r_max.

    The modulus is |lambda| = exp(-nu), where nu = exp(nu_log). With u ~ U[0, 1] and
    theta ~ U[0, 2 pi], nu = -1/2 log(u (r_max^2 - r_min^2) + r_min^2) makes exp(-nu + i theta)
    uniform in area on the ring (Lemma 3.2 of Orvieto et al. 2023). The u drawn here never reaches
    0 or 1, so nu_log is finite even for the full disk, r_min = 0 and r_max = 1.

    Raises:
      ValueError: unless 0 <= r_min <= r_max <= 1, r_max > 0 and r_min < 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> nu_log = ring_nu_log(0.9, 0.999)(jax.random.key(0), (1000,))
      >>> modulus = jnp.exp(-jnp.exp(nu_log))
      >>> bool(((0.8999 < modulus) & (modulus < 0.9991)).all())
      True
    """
    if not (0 <= r_min <= r_max <= 1 and r_max > 0 and r_min < 1):
        raise ValueError(
            f"ring r_min={r_min}, r_max={r_max}; "
            "expected 0 <= r_min <= r_max <= 1, r_min < 1 and r_max > 0"
        )

    def init(key: PRNGKeyArray, shape, dtype=jnp.float32) -> Float[Array, "N"]:
        u = _open_uniform(key, shape, dtype)
        square = r_min**2 + u * (r_max**2 - r_min**2)
        one_minus_square = (1 - r_max**2) + (1 - u) * (r_max**2 - r_min**2)
        # Each of the two formulas is precise where rounding ruins the other.
        near_one = jnp.log1p(-jnp.minimum(one_minus_square, 0.75))
        log_square = jnp.where(square < 0.5, jnp.log(square), near_one)
        return jnp.log(-0.5 * log_square).astype(dtype)

    return init


def phase_theta_log(max_phase: float = 2 * math.pi) -> Initializer:
    """Returns an initializer of theta_log, for phases exp(theta_log) uniform on [0, max_phase].

    Raises:
      ValueError: unless max_phase is positive and finite.

    Example:
      >>> import jax
      >>> phase_theta_log(math.pi / 10)(jax.random.key(0), (2,)).shape
      (2,)
    """
    if not 0 < max_phase < math.inf:
        raise ValueError(f"max_phase={max_phase}; expected a positive, finite angle in radians")

    def init(key: PRNGKeyArray, shape, dtype=jnp.float32) -> Float[Array, "N"]:
        return jnp.log(max_phase * _open_uniform(key, shape, dtype)).astype(dtype)

    return init


def gamma_log(nu_log: Float[Array, "N"]) -> Float[Array, "N"]:
    """Returns log sqrt(1 - |lambda|^2), where |lambda| = exp(-exp(nu_log)).

    This is the logarithm of the normalization gamma in Eq. (7) of Orvieto et al. (2023). With
    gamma, white noise Bu of variance 1 gives a stationary state of variance 1.

    Example:
      >>> modulus = jnp.array([0.6])
      >>> jnp.exp(gamma_log(jnp.log(-jnp.log(modulus)))).round(6)
      Array([0.8], dtype=float32)
    """
    # `expm1` is precise even for |lambda| close to 1, where 1 - |lambda|^2 in float32 is not.
    return 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu_log)))


def scaled_normal(variance: float) -> Initializer:
    """Returns an initializer of N(0, variance).

    In an LRU, the real and imaginary parts of B have variance 1/(2H), and those of C have variance
    1/N. Then E|B_ij|^2 = 1/H and E|C_ij|^2 = 2/N. With gamma, and without D, a unidirectional layer
    preserves the variance of white noise on average: the 2 compensates for the imaginary part that
    Re[C h] drops.

    Example:
      >>> scaled_normal(1 / 64)(jax.random.key(0), (32, 64)).shape
      (32, 64)
    """
    return jax.nn.initializers.normal(math.sqrt(variance))


def uniform(bound: float) -> Initializer:
    """Returns an initializer of U(-bound, bound).

    PyTorch draws the parameters of its linear layers from this distribution, with
    bound = 1 / sqrt(fan_in).

    Example:
      >>> import jax
      >>> float(abs(uniform(0.1)(jax.random.key(0), (100,))).max()) <= 0.1
      True
    """
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def lru_initializers(
    d_model: int,
    d_state: int,
    *,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    bidirectional: bool = False,
) -> dict[str, tuple[Initializer, tuple[int, ...]]]:
    """Returns, by name, the initializer and the shape of every LRU parameter except gamma_log.

    The initial gamma_log is not drawn: it is computed from nu_log.

    Args:
      d_model: H, the width of the layer's input and output.
      d_state: N, the number of complex modes.
      r_min, r_max, max_phase: the radii and the largest phase of the eigenvalues; see `lru.LRU`.
      bidirectional: whether to add `C2_re` and `C2_im`, which read the second direction's states.

    Raises:
      ValueError: if a size is not an integer of at least 1, or the ring or `max_phase` is invalid.

    Example:
      >>> [name for name in lru_initializers(8, 4)]
      ['nu_log', 'theta_log', 'B_re', 'B_im', 'C_re', 'C_im', 'D']
    """
    check_sizes(d_model=d_model, d_state=d_state)
    readouts = ("C", "C2") if bidirectional else ("C",)
    table: dict[str, tuple[Initializer, tuple[int, ...]]] = {
        "nu_log": (ring_nu_log(r_min, r_max), (d_state,)),
        "theta_log": (phase_theta_log(max_phase), (d_state,)),
        "B_re": (scaled_normal(1 / (2 * d_model)), (d_state, d_model)),
        "B_im": (scaled_normal(1 / (2 * d_model)), (d_state, d_model)),
    }
    for readout in readouts:
        for part in ("re", "im"):
            table[f"{readout}_{part}"] = (scaled_normal(1 / d_state), (d_model, d_state))
    table["D"] = (scaled_normal(1.0), (d_model,))
    return table


def _open_uniform(key: PRNGKeyArray, shape, dtype) -> Float[Array, "N"]:
    """Draws uniformly between 0 and 1, but never 0 or 1, which may give infinite parameters."""
    dtype = at_least_float32(dtype)
    tiny = float(jnp.finfo(dtype).epsneg)
    return jax.random.uniform(key, shape, dtype, minval=tiny, maxval=1 - tiny)
