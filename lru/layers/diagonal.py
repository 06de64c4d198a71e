"""The ladder from a diagonal linear RNN to the LRU: Tables 2, 7 and 8 of Orvieto et al. (2023).

    x_k = Lambda x_{k-1} + B u_k,   y_k = Re[C x_k] + D * u_k

One rung a parameterization of Lambda, all without the LRU's gamma: with it, the last is `lru.LRU`.
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
    """Lambda by the names of its parameters, of section 3.2 and 3.3.

    a, b: a + ib;   nu, theta: exp(-nu + i theta);   nu_log, theta: exp(-exp(nu_log) + i theta).

    Only the last is inside the unit disk whatever is learned.

    Example:
      >>> import jax.numpy as jnp
      >>> eigenvalues({"nu": jnp.log(jnp.array([2.0])), "theta": jnp.zeros(1)}).tolist()
      [(0.5+0j)]
    """
    wide = {name: p.astype(at_least_float32(p)) for name, p in params.items()}
    if "a" in params:
        return lax.complex(wide["a"], wide["b"])
    nu = wide["nu"] if "nu" in params else jnp.exp(wide["nu_log"])
    return jnp.exp(lax.complex(-nu, wide["theta"]))


def diagonal_directions(params: Parameters, **options: Any) -> tuple[DiagonalDirection, ...]:
    """The directions of a `DiagonalRNN`; `options` as of `DiagonalDirection`."""
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
    """The parameters of N eigenvalues drawn uniformly on a ring, as Lemma 3.2 has it.

    Raises:
      ValueError: if there is no such parameterization, ring or phase.

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
    """A linear RNN with a diagonal, complex Lambda: `lru.LRU` without gamma, Lambda learned as is.

    x_k = Lambda x_{k-1} + B u_k,   y_k = Re[C x_k] + D * u_k

    Parameters: `B_re B_im (N, H)`, `C_re C_im (H, N)`, `D (H,)`, drawn as the LRU's, a
    bidirectional layer's `C2_re C2_im (H, N)`, and Lambda's, `(N,)`.

    Attributes:
      d_state: N, the number of complex modes.
      parameterization: of Lambda: `"real_imag"`, a + ib, with parameters `a b`; `"exp"`,
        exp(-nu + i theta), with `nu theta`; `"stable_exp"`, exp(-exp(nu_log) + i theta), with
        `nu_log theta`. The first two may leave the unit disk while they are trained.
      r_min, r_max, max_phase: where eigenvalues are drawn, as of `lru.LRU`: by default the whole
        disk, as for a large Gaussian matrix (Theorem 3.1); the rung "ring init" has a ring.
      bidirectional, method, chunk_size, dtype, param_dtype: as of `lru.LRU`. The methods that
        multiply factors together need a Lambda that stays inside the disk.

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
        """The modes of each direction."""
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
