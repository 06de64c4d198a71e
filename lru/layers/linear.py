"""The Linear Recurrent Unit (Orvieto et al. 2023): pure functions, and Flax Linen modules.

h_k = Lambda h_{k-1} + exp(gamma_log) * (B u_k)        Eq. (7)
y_k = Re[C h_k] + D * u_k                              Appendix A
Lambda = diag(exp(-exp(nu_log) + i exp(theta_log)))    section 3.3

The paper writes x for the state h. If a step takes the time t instead of 1, Lambda^t replaces
Lambda, and nothing else changes: see `LRU`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lru.errors import did_you_mean
from lru.layers.mixers import Mixer, as_inputs, over_time
from lru.layers.state_space import (
    DiagonalDirection,
    Modes,
    Parameters,
    diagonal_state,
    modes_of,
    pack,
)
from lru.ops.arguments import as_array, as_timesteps
from lru.ops.array_typing import (
    Array,
    ArrayLike,
    Complex,
    Float,
    LayerOptions,
    Shape,
    Timesteps,
)
from lru.ops.dtypes import at_least_float32, compute_dtype
from lru.ops.initializers import gamma_log, lru_initializers
from lru.ops.recurrence import Method, fits


def eigenvalues(params: Parameters) -> Complex[Array, "N"]:
    """Returns the eigenvalues Lambda = exp(-exp(nu_log) + i exp(theta_log)).

    Example:
      >>> import jax.numpy as jnp
      >>> nu, theta = jnp.array([0.5]), jnp.array([jnp.pi])
      >>> lam = eigenvalues({"nu_log": jnp.log(nu), "theta_log": jnp.log(theta)})
      >>> bool(jnp.allclose(lam, -jnp.exp(-0.5)))
      True
    """
    return jnp.exp(log_eigenvalues(params))


def log_eigenvalues(params: Parameters) -> Complex[Array, "N"]:
    """Returns -exp(nu_log) + i exp(theta_log), the logarithms of the eigenvalues.

    The imaginary parts are the modes' angular frequencies, not reduced to [-pi, pi].
    """
    nu, theta = (
        jnp.exp(params[name].astype(at_least_float32(params[name])))
        for name in ("nu_log", "theta_log")
    )
    return lax.complex(-nu, theta)


def lru_directions(params: Parameters, **options: Any) -> tuple[DiagonalDirection, ...]:
    """Returns the directions of an LRU: two if the parameters include `C2_re`, otherwise one.

    Args:
      params: the parameters of an `LRU`.
      options: `dtype`, `method`, `chunk_size`, `sequence_axis`; see `DiagonalDirection`.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = lru.LRU(64).init(jax.random.key(0), jnp.ones((100, 16)))
      >>> direction, = lru_directions(variables["params"])
      >>> direction.lam.shape, direction.b.shape, direction.c.shape
      ((64,), (16, 128), (128, 16))
    """
    gamma = jnp.exp(params["gamma_log"])[:, None]
    b_re, b_im = gamma * params["B_re"], gamma * params["B_im"]
    rate = log_eigenvalues(params)
    return pack(params, jnp.exp(rate), b_re, b_im, rate=rate, **options)


def lru_step(
    params: Parameters,
    carry: ArrayLike,
    inputs: ArrayLike,
    *,
    timesteps: Timesteps = None,
    dtype: Any = None,
) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
    """Runs one step of the LRU as a function of its parameters.

    Args:
      params: the parameters of a unidirectional `LRU`.
      carry: the state before the step, `(..., N)`.
      inputs: the inputs of the step, `(..., H)`.
      timesteps: the time since the carry's step, in units of the regular step, `(...)`; None means
        1. It must be positive, which is not checked.
      dtype: see `LRU`.

    Returns:
      `(carry, outputs)`, of shapes `(..., N)` and `(..., H)`.

    Raises:
      ValueError: if the LRU is bidirectional, the inputs are not real numbers, the timesteps are
        not real floating-point numbers, or the shapes do not fit together.
    """
    if "C2_re" in params:
        raise ValueError(
            "the parameters are those of a bidirectional LRU; expected those of an LRU with one "
            "direction"
        )
    carry, inputs = as_array("carry", carry), as_array("inputs", inputs)
    dtype = compute_dtype(inputs, params["B_re"], dtype)
    (direction,) = lru_directions(params, dtype=dtype)
    (modes,), width = direction.state.shape, direction.d_model
    if inputs.shape[-1:] != (width,) or not fits(carry, (*inputs.shape[:-1], modes)):
        raise ValueError(
            f"the carry has shape {carry.shape} and the inputs have shape {inputs.shape}; expected "
            f"(..., {modes}) and (..., {width})"
        )
    timesteps = as_timesteps(timesteps, inputs.shape[:-1])
    if timesteps is not None:
        direction = direction.with_timesteps(timesteps)
    return direction.step(carry, inputs)


class LRUOptions(LayerOptions, total=False):
    """The options of `lru_layer` except `return_carry`, for type checkers and error messages."""

    dtype: Any
    method: Method
    chunk_size: int | None
    sequence_axis: str | None


if TYPE_CHECKING:

    @overload
    def lru_layer(
        params: Parameters,
        inputs: ArrayLike,
        *,
        return_carry: Literal[True],
        **options: Unpack[LRUOptions],
    ) -> tuple[Any, Array]: ...

    @overload
    def lru_layer(
        params: Parameters,
        inputs: ArrayLike,
        *,
        return_carry: Literal[False] = False,
        **options: Unpack[LRUOptions],
    ) -> Array: ...


def lru_layer(
    params: Parameters,
    inputs: ArrayLike,
    *,
    return_carry: bool = False,
    dtype: Any = None,
    method: Method = "auto",
    chunk_size: int | None = None,
    sequence_axis: str | None = None,
    **call: Any,
) -> Any:
    """Applies an LRU layer as a function of its parameters.

    The layer is bidirectional if the parameters include `C2_re` and `C2_im`.

    Args:
      params: the parameters of an `LRU`.
      inputs: real numbers `(..., T, H)`.
      dtype, method, chunk_size, sequence_axis: see `LRU`.
      return_carry: see `lru.layers.mixers.Mixer.__call__`.
      call: `initial_carry`, `seq_lengths`, `reset`, `timesteps`, `time_major`, `reverse` and
        `keep_order`; see `lru.layers.mixers.Mixer.__call__`.

    Returns:
      The outputs `(..., T, H)`, or `(carry, outputs)` if `return_carry`.

    Raises:
      TypeError: if an option is unknown.
      ValueError: if the arguments do not fit together, or T is 0.
    """
    known = LRUOptions.__optional_keys__
    for name in call.keys() - known:
        raise TypeError(
            f"lru_layer() got an unexpected keyword argument {name!r}; {did_you_mean(name, known)}"
        )
    call.pop("init_key", None)  # unused, as in `LRU`: the initial carry is not random
    inputs = as_inputs(inputs)
    directions = lru_directions(
        params,
        dtype=compute_dtype(inputs, params["B_re"], dtype),
        method=method,
        chunk_size=chunk_size,
        sequence_axis=sequence_axis,
    )
    return over_time(directions, inputs, return_carry=return_carry, **call)


class LRU(Mixer):
    """The Linear Recurrent Unit, a replacement for `nn.RNN(nn.GRUCell(...))` in a model.

    The call has the arguments of `nn.RNN`'s call and, in addition, `reset` and `timesteps`.
    `LRU(64)` has 64 complex modes, but its outputs are as wide as its inputs; the outputs of
    `nn.GRUCell(64)` are 64 wide.

    h_k = Lambda h_{k-1} + exp(gamma_log) * (B u_k),   y_k = Re[C h_k] + D * u_k
    with Lambda = diag(exp(-exp(nu_log) + i exp(theta_log))): Eq. (7) and Appendix A of
    Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences" (ICML 2023).

    The call's argument `timesteps` gives steps a duration other than 1. With the time t_k from step
    k - 1 to step k,

        h_k = Lambda^t_k h_{k-1} + exp(gamma_log) * (B u_k),
        Lambda^t = diag(exp(t (-exp(nu_log) + i exp(theta_log)))).

    The factor gamma = exp(gamma_log) does not depend on t_k: each input is an impulse, whose effect
    decays from its step on. A step of duration 2 therefore equals two regular steps, of which the
    first has the input 0. Gamma normalizes the states for regular steps, so express time in units
    of the typical gap between steps.

    Parameters have the names of Appendix A: `nu_log theta_log gamma_log (N,)`, `B_re B_im (N, H)`,
    `C_re C_im (H, N)`, `D (H,)`; a bidirectional layer adds `C2_re C2_im (H, N)`. H is the width
    of inputs and outputs.

    Attributes:
      d_state: N, the number of complex modes.
      r_min, r_max: the inner and outer radii of the ring from which the eigenvalues are drawn,
        between 0 and 1.
      max_phase: the largest phase in radians; the phases are drawn from [0, max_phase].
      bidirectional: whether to add a second state, which runs in the opposite direction and is read
        by `C2`.
      method: see `lru.linear_recurrence`.
      chunk_size: the number of steps computed at a time; 0 means all steps, and None chooses the
        number from the device and the shape of the inputs. In chunks, the N-wide states of the
        whole sequence are never in memory at once, not even in the backward pass.
      sequence_axis: the name of the axis, in the mesh set by `jax.set_mesh`, along which time is
        sharded over devices; None if time is not sharded. Each device computes its whole shard at
        once. T must be a multiple of the size of the axis.
      dtype: the type of the factors of matrix products, and of the outputs; by default, the common
        type of inputs and parameters. The carry is always at least complex64.
      param_dtype: the type of the parameters.
      time_major, return_carry, reverse, keep_order: the defaults of these arguments of the call,
        as in `nn.RNN`; keyword arguments only.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> u = jnp.ones((8, 100, 16))  # (B, T, H)
      >>> layer = lru.LRU(64, r_min=0.9, r_max=0.999)
      >>> variables = jax.jit(layer.init)(jax.random.key(0), u)
      >>> carry, y = layer.apply(variables, u, return_carry=True)
      >>> y.shape, carry.shape, carry.dtype.name
      ((8, 100, 16), (8, 64), 'complex64')
    """

    d_state: int
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    bidirectional: bool = False
    method: Method = "auto"
    chunk_size: int | None = None
    sequence_axis: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def causal(self) -> bool:
        """True if no output depends on a later input, and time is not sharded over devices."""
        return not (self.bidirectional or self.reverse or self.sequence_axis)

    @nn.nowrap
    def chunked_state(self) -> jax.ShapeDtypeStruct | None:
        """Returns the shape and narrowest type of one sequence's state; None if time is sharded."""
        return None if self.sequence_axis else diagonal_state(self.d_state)

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Modes, ...]:
        """Returns the modes of each direction."""
        return modes_of(lru_directions, params)

    def directions(self, inputs: Any) -> tuple[DiagonalDirection, ...]:
        """Returns the direction with `C` and, in a bidirectional layer, the direction with `C2`."""
        params = lru_parameters(self, inputs.shape[-1], self.bidirectional)
        return lru_directions(
            params,
            dtype=compute_dtype(inputs, params["B_re"], self.dtype),
            method=self.method,
            chunk_size=self.chunk_size,
            sequence_axis=self.sequence_axis,
        )


class LRUCell(nn.RNNCellBase):
    """One step of the LRU, with the parameters of a unidirectional `LRU`, for streams and `nn.RNN`.

    Attributes: see `LRU`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, lru
      >>> cell, u = lru.LRUCell(64), jnp.ones((8, 16))  # (B, H)
      >>> carry = cell.initialize_carry(jax.random.key(0), u.shape)
      >>> variables = jax.jit(cell.init)(jax.random.key(0), carry, u)
      >>> carry, y = cell.apply(variables, carry, u)
      >>> carry.shape, y.shape
      ((8, 64), (8, 16))
    """

    d_state: int
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, carry: ArrayLike, inputs: ArrayLike, *, timesteps: Timesteps = None
    ) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
        """Maps `carry (..., N)` and `inputs (..., H)` to the new carry and outputs `(..., H)`.

        Args:
          carry: the state before the step.
          inputs: the inputs of the step.
          timesteps: `(...)`, the time since the step that returned `carry`; see `lru_step`.
        """
        inputs = as_array("inputs", inputs)
        params = lru_parameters(self, inputs.shape[-1], bidirectional=False)
        return lru_step(params, carry, inputs, timesteps=timesteps, dtype=self.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: Shape) -> Complex[Array, "*B N"]:
        """Returns the zero carry for inputs of shape `(..., H)`; `rng` is not used."""
        state = diagonal_state(self.d_state, self.param_dtype)
        return jnp.zeros((*input_shape[:-1], *state.shape), state.dtype)

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Modes, ...]:
        """Returns the modes of the only direction, as a tuple with one entry."""
        return modes_of(lru_directions, params)

    @property
    def num_feature_axes(self) -> int:
        return 1


def lru_parameters(module: Any, d_model: int, bidirectional: bool) -> Parameters:
    """Returns the LRU parameters of a Linen module; the module's `init` creates them.

    Args:
      module: an `LRU`, or another module that has the attributes `d_state`, `r_min`, `r_max`,
        `max_phase` and `param_dtype`.
      d_model: H, the width of inputs and outputs.
      bidirectional: whether to include `C2_re` and `C2_im`.
    """
    table = lru_initializers(
        d_model,
        module.d_state,
        r_min=module.r_min,
        r_max=module.r_max,
        max_phase=module.max_phase,
        bidirectional=bidirectional,
    )
    params = {
        name: module.param(name, init, shape, module.param_dtype)
        for name, (init, shape) in table.items()
    }
    params["gamma_log"] = module.param("gamma_log", lambda _: gamma_log(params["nu_log"]))
    return params
