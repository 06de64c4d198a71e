"""S5 (Smith et al. 2023): a diagonal state-space model with many inputs, initialized from HiPPO-N.

    h' = Lambda h + B u,   y = 2 Re[C h] + D * u

Discretized with a step size Delta for each mode, this model is the recurrence of `lru.LRU` with
different parameters. The modes come in conjugate pairs, and only one mode of each pair is computed.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lru.layers.hippo import Discretization, discretize, hippo_modes, log_steps
from lru.layers.mixers import Mixer
from lru.layers.parameters import drawn_together
from lru.layers.state_space import (
    DiagonalDirection,
    Modes,
    Parameters,
    diagonal_state,
    modes_of,
    pack,
    readouts,
)
from lru.ops.arguments import check_sizes
from lru.ops.array_typing import Array, Float, PRNGKeyArray
from lru.ops.dtypes import at_least_float32, compute_dtype, result_type
from lru.ops.initializers import scaled_normal
from lru.ops.recurrence import Method

ReadOut = Literal["lecun_normal", "trunc_standard_normal", "complex_normal"]


class S5(Mixer):
    """The S5 layer, with the call signature of `lru.LRU`.

    h_k = exp(Lambda Delta) h_{k-1} + Lambda^-1 (exp(Lambda Delta) - 1) B u_k
    y_k = 2 Re[C h_k] + D * u_k

    These are Eq. (1), (2) and (6) of Smith et al., "Simplified State Space Layers for Sequence
    Modeling" (ICLR 2023), with the initialization published in lindermanlab/S5. The call's argument
    `timesteps` multiplies Delta at each step, in both factors.

    Parameters, for N/2 pairs of modes: `Lambda_re Lambda_im log_step (N/2,)`, `B_re B_im
    (N/2, H)`, `C_re C_im (H, N/2)`, `D (H,)`; a bidirectional layer adds `C2_re C2_im`.

    Attributes:
      d_state: N, an even number: the layer has N/2 modes and their conjugates.
      blocks: the number of HiPPO-N matrices, each of size N / blocks, along the diagonal of the
        initial state matrix.
      dt_min, dt_max: the bounds between which each mode's step size is drawn log-uniformly.
      c_init: the distribution of C, named as in lindermanlab/S5. `"trunc_standard_normal"` and
        `"lecun_normal"` draw a complex matrix (H, N), of variance 1/N and 1/(N H) respectively, and
        multiply it by the eigenvectors V (N, N/2) of the initial state matrix. `"complex_normal"`
        draws C itself, with variance 1/2. The real and the imaginary parts each have the given
        variance.
      discretization: `"zoh"`, as above, or `"bilinear"`.
      clip_eigenvalues: whether to clip Re Lambda to at most -1e-4, which keeps the layer stable.
      bidirectional, method, chunk_size, dtype, param_dtype: see `lru.LRU`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lru.baselines import S5
      >>> u = jnp.ones((8, 100, 16))  # (B, T, H)
      >>> layer = S5(64, blocks=4)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> carry, y = layer.apply(variables, u, return_carry=True)
      >>> y.shape, carry.shape
      ((8, 100, 16), (8, 32))
    """

    d_state: int
    blocks: int = 1
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    c_init: ReadOut = "trunc_standard_normal"
    discretization: Discretization = "zoh"
    clip_eigenvalues: bool = False
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
        return diagonal_state(self.d_state // 2)

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Modes, ...]:
        """Returns the modes of each direction, with the layer's discretization and clipping."""
        return modes_of(self._discretized, params)

    def directions(self, inputs: Any) -> tuple[DiagonalDirection, ...]:
        params = self._parameters(inputs.shape[-1])
        dtype = compute_dtype(inputs, params["B_re"], self.dtype)
        return self._discretized(
            params, dtype=dtype, method=self.method, chunk_size=self.chunk_size
        )

    @nn.nowrap
    def _discretized(self, params: Parameters, **options: Any) -> tuple[DiagonalDirection, ...]:
        return s5_directions(params, self.discretization, self.clip_eigenvalues, **options)

    def _parameters(self, d_model: int) -> Parameters:
        check_sizes(d_model=d_model)
        lam, vectors = block_modes(self.d_state, self.blocks)
        modes = {"Lambda_re": lam.real, "Lambda_im": lam.imag}
        params = {
            name: self.param(name, lambda _, value=value: jnp.asarray(value, self.param_dtype))
            for name, value in modes.items()
        }
        steps = log_steps(self.dt_min, self.dt_max)
        params["log_step"] = self.param("log_step", steps, lam.shape, self.param_dtype)
        params |= drawn_together(
            self, lambda key: _parts("B", _draw_b(key, vectors, d_model)), self.param_dtype
        )
        for name in readouts(self.bidirectional):
            params |= drawn_together(
                self,
                lambda key, name=name: _parts(name, _draw_c(key, self.c_init, vectors, d_model)),
                self.param_dtype,
            )
        return params | {"D": self.param("D", scaled_normal(1.0), (d_model,), self.param_dtype)}


def block_modes(d_state: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the modes of a block-diagonal matrix, each block of which is a HiPPO-N matrix.

    These are the eigenvalues `(N/2,)` and eigenvectors `(N, N/2)`, one of each conjugate pair.

    Raises:
      ValueError: unless N and the number of blocks are positive integers, and N is a multiple of
        twice the number of blocks.

    Example:
      >>> lam, vectors = block_modes(8, 2)
      >>> lam.shape, vectors.shape, bool((lam[:2] == lam[2:]).all())
      ((4,), (8, 4), True)
    """
    check_sizes(blocks=blocks, d_state=d_state)
    if d_state % (2 * blocks):
        raise ValueError(
            f"d_state={d_state}, blocks={blocks}; expected an even number of states in each block"
        )
    lam, vectors = hippo_modes(d_state // blocks)
    return np.tile(lam, blocks), np.kron(np.eye(blocks), vectors)


def s5_directions(
    params: Parameters,
    discretization: Discretization = "zoh",
    clip_eigenvalues: bool = False,
    **options: Any,
) -> tuple[DiagonalDirection, ...]:
    """Returns the directions of an `S5`, discretized. For the options, see `DiagonalDirection`."""
    real, imaginary, log_step, b_re, b_im = (
        params[name].astype(at_least_float32(params[name]))
        for name in ("Lambda_re", "Lambda_im", "log_step", "B_re", "B_im")
    )
    if clip_eigenvalues:
        real = jnp.minimum(real, -1e-4)
    lam, step = lax.complex(real, imaginary), jnp.exp(log_step)
    log_lam, scale = discretize(lam, step, discretization)
    b = scale[:, None] * lax.complex(b_re, b_im)
    options |= dict(rate=lam * step.astype(lam.dtype), discretization=discretization)
    return pack(params, jnp.exp(log_lam), b.real, b.imag, scale=2.0, **options)


def _draw_b(key: PRNGKeyArray, vectors: np.ndarray, d_model: int) -> Any:
    """Returns V* B, for eigenvectors V and a real B `(N, H)` of variance 1/N, as in S5's code."""
    b = jax.nn.initializers.lecun_normal()(key, (len(vectors), d_model))
    rotation = jnp.asarray(vectors.conj().T)
    return rotation @ b.astype(result_type(rotation, b))


def _draw_c(key: PRNGKeyArray, c_init: ReadOut, vectors: np.ndarray, d_model: int) -> Any:
    d_state, modes = vectors.shape
    if c_init == "complex_normal":
        parts = scaled_normal(0.5)(key, (2, d_model, modes))
        return lax.complex(parts[0], parts[1])
    variances = {"trunc_standard_normal": 1 / d_state, "lecun_normal": 1 / (d_state * d_model)}
    if c_init not in variances:
        known = ", ".join(map(repr, [*variances, "complex_normal"]))
        raise ValueError(f"c_init={c_init!r}; expected one of {known}")
    draw = jax.nn.initializers.variance_scaling(
        variances[c_init] * d_state, "fan_in", "truncated_normal", batch_axis=0
    )
    parts = draw(key, (2, d_state, d_model))
    c, rotation = lax.complex(parts[0], parts[1]).T, jnp.asarray(vectors)
    return c.astype(result_type(c, rotation)) @ rotation


def _parts(name: str, value: Any) -> dict[str, Float[Array, "..."]]:
    return {f"{name}_re": value.real, f"{name}_im": value.imag}
