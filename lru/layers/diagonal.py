"""Ablations of the LRU: the diagonal linear RNNs in Tables 2, 7 and 8 of Orvieto et al. (2023).

    h_k = Lambda h_{k-1} + B u_k,   y_k = Re[C h_k] + D * u_k

The ablations differ in the parameterization of Lambda, and lack the LRU's gamma. With gamma, and
with log theta in place of theta as a parameter, the layer with the parameterization `"stable_exp"`
would be `lru.LRU`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lru.layers.mixers import Mixer
from lru.layers.parameters import drawn_together
from lru.layers.state_space import (
    DiagonalDirection,
    Modes,
    Parameters,
    diagonal_state,
    modes_of,
    pack,
)
from lru.ops.array_typing import Array, Complex, Float, PRNGKeyArray
from lru.ops.dtypes import at_least_float32, compute_dtype
from lru.ops.initializers import lru_initializers, phase_theta_log, ring_nu_log
from lru.ops.recurrence import Method

Parameterization = Literal["real_imag", "exp", "stable_exp"]

_NAMES = {"real_imag": ("a", "b"), "exp": ("nu", "theta"), "stable_exp": ("nu_log", "theta")}


def eigenvalues(params: Parameters) -> Complex[Array, "N"]:
    """Returns Lambda; the names of the parameters determine its parameterization.

    a, b: a + ib;   nu, theta: exp(-nu + i theta);   nu_log, theta: exp(-exp(nu_log) + i theta).

    See sections 3.2 and 3.3 of Orvieto et al. (2023). Only the last parameterization keeps Lambda
    in the unit disk, whatever the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> eigenvalues({"nu": jnp.log(jnp.array([2.0])), "theta": jnp.zeros(1)}).tolist()
      [(0.5+0j)]
    """
    if "a" in params:
        return lax.complex(*(params[x].astype(at_least_float32(params[x])) for x in ("a", "b")))
    return jnp.exp(_log_eigenvalues(params))


def _log_eigenvalues(params):
    wide = {name: p.astype(at_least_float32(p)) for name, p in params.items()}
    nu = wide["nu"] if "nu" in params else jnp.exp(wide["nu_log"])
    return lax.complex(-nu, wide["theta"])


def diagonal_directions(params: Parameters, **options: Any) -> tuple[DiagonalDirection, ...]:
    """Returns the directions of a `DiagonalRNN`. For the options, see `DiagonalDirection`."""
    if "a" not in params:  # non-integer powers of a + ib are not unique
        options["rate"] = _log_eigenvalues(params)
    return pack(params, eigenvalues(params), params["B_re"], params["B_im"], **options)


def draw_eigenvalues(
    key: PRNGKeyArray,
    d_state: int,
    parameterization: Parameterization,
    *,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
) -> dict[str, Float[Array, "N"]]:
    """Draws the parameters of N eigenvalues, uniform in area on a sector of a ring.

    See Lemma 3.2 of Orvieto et al. (2023).

    Args:
      key: the key of the random draws.
      d_state: N, the number of eigenvalues.
      parameterization, r_min, r_max, max_phase: see `DiagonalRNN`.

    Returns:
      The parameters, each `(N,)`, by name.

    Raises:
      ValueError: if the parameterization is unknown, or the ring or `max_phase` is invalid.

    Example:
      >>> import jax
      >>> list(draw_eigenvalues(jax.random.key(0), 4, "exp"))
      ['nu', 'theta']
    """
    if parameterization not in _NAMES:
        known = ", ".join(map(repr, _NAMES))
        raise ValueError(f"parameterization={parameterization!r}; expected one of {known}")
    keys = jax.random.split(key)
    nu_log = ring_nu_log(r_min, r_max)(keys[0], (d_state,))
    theta = jnp.exp(phase_theta_log(max_phase)(keys[1], (d_state,)))
    lam = eigenvalues({"nu_log": nu_log, "theta": theta})
    drawn = {
        "a": lam.real, "b": lam.imag, "nu": jnp.exp(nu_log), "nu_log": nu_log, "theta": theta
    }  # fmt: skip
    return {name: drawn[name] for name in _NAMES[parameterization]}


class DiagonalRNN(Mixer):
    """A linear RNN with a diagonal, complex Lambda: an ablation of `lru.LRU`, without gamma.

    h_k = Lambda h_{k-1} + B u_k,   y_k = Re[C h_k] + D * u_k

    Parameters: `B_re B_im (N, H)`, `C_re C_im (H, N)` and `D (H,)`, drawn as in the LRU; the
    parameters of Lambda, `(N,)` each; and, in a bidirectional layer, `C2_re C2_im (H, N)`.

    Attributes:
      d_state: N, the number of complex modes.
      parameterization: the formula of Lambda:
        `"real_imag"`: a + ib, with parameters `a b`;
        `"exp"`: exp(-nu + i theta), with parameters `nu theta`;
        `"stable_exp"`: exp(-exp(nu_log) + i theta), with parameters `nu_log theta`.
        During training, the eigenvalues of the first two may leave the unit disk. The first takes
        no timesteps, because non-integer powers of a + ib are not unique.
      r_min, r_max, max_phase: the region from which the eigenvalues are drawn; see `lru.LRU`. The
        default is the whole disk, as for the eigenvalues of a large Gaussian matrix: Theorem 3.1 of
        Orvieto et al. (2023), whose ablations with "Ring Init" use a ring.
      bidirectional, method, chunk_size, dtype, param_dtype: see `lru.LRU`. All methods except
        `"sequential"` may multiply eigenvalues together, so products may overflow if Lambda leaves
        the unit disk.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import DiagonalRNN
      >>> u = jnp.ones((8, 100, 16))  # (B, T, H)
      >>> layer = DiagonalRNN(64, "real_imag")
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> layer.apply(variables, u).shape
      (8, 100, 16)
    """

    d_state: int
    parameterization: Parameterization = "stable_exp"
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    bidirectional: bool = False
    method: Method = "auto"
    chunk_size: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def causal(self) -> bool:
        return not (self.bidirectional or self.reverse)

    @nn.nowrap
    def chunked_state(self) -> jax.ShapeDtypeStruct:
        return diagonal_state(self.d_state)

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Modes, ...]:
        """Returns the modes of each direction."""
        return modes_of(diagonal_directions, params)

    def directions(self, inputs: Any) -> tuple[DiagonalDirection, ...]:
        params = self._parameters(inputs.shape[-1])
        dtype = compute_dtype(inputs, params["B_re"], self.dtype)
        return diagonal_directions(
            params, dtype=dtype, method=self.method, chunk_size=self.chunk_size
        )

    def _parameters(self, d_model: int) -> Parameters:
        ring = dict(r_min=self.r_min, r_max=self.r_max, max_phase=self.max_phase)
        table = lru_initializers(d_model, self.d_state, bidirectional=self.bidirectional)
        params = drawn_together(
            self,
            lambda key: draw_eigenvalues(key, self.d_state, self.parameterization, **ring),
            self.param_dtype,
        )
        for name, (init, shape) in table.items():
            if name not in ("nu_log", "theta_log"):
                params[name] = self.param(name, init, shape, self.param_dtype)
        return params
