"""The Linear Recurrent Unit (Orvieto et al. 2023): pure functions, and their Flax Linen modules.

    x_k = Lambda x_{k-1} + exp(gamma_log) * (B u_k)        Eq. (7)
    y_k = Re[C x_k] + D * u_k                              Appendix A
    Lambda = diag(exp(-exp(nu_log) + i exp(theta_log)))    section 3.3

Complex matrices are kept as real and imaginary parts, `B_re`, `B_im`; a product with them is one
real product with both parts side by side. Everything here works time first, `(T, ..., H)`: the
recurrence walks along the leading axis, and only H-wide arrays are ever transposed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences
from jax import lax

from lru.array_typing import Array, Bool, Complex, Float, Int, Num, Real
from lru.chunks import scan_chunks, steps_at_once
from lru.initializers import gamma_log, lru_initializers
from lru.recurrence import Method, earlier, fits, recur, unless
from lru.sharding import recur_sharded

Parameters = Mapping[str, Array]


def eigenvalues(params: Parameters) -> Complex[Array, "N"]:
    """Lambda = exp(-exp(nu_log) + i exp(theta_log)): inside the unit disk whatever is learned.

    Example:
      >>> import jax.numpy as jnp
      >>> nu, theta = jnp.array([0.5]), jnp.array([jnp.pi])
      >>> lam = eigenvalues({"nu_log": jnp.log(nu), "theta_log": jnp.log(theta)})
      >>> bool(jnp.allclose(lam, -jnp.exp(-0.5)))
      True
    """
    nu, theta = (
        jnp.exp(params[name].astype(jnp.promote_types(params[name].dtype, jnp.float32)))
        for name in ("nu_log", "theta_log")
    )
    return jnp.exp(lax.complex(-nu, theta))


class Weights(NamedTuple):
    """An LRU's parameters as its products take them, real and imaginary parts side by side.

    Attributes:
      lam: the eigenvalues, complex `(N,)`.
      into: exp(gamma_log) * B, `(H, 2N)`.
      out: C, `(2N, H)`.
      skip: D, `(H,)`; None if another read-out of the same inputs has it.
    """

    lam: Complex[Array, "N"]
    into: Float[Array, "H N2"]
    out: Float[Array, "N2 H"]
    skip: Float[Array, "H"] | None


def pack(params: Parameters, readout: str = "C") -> Weights:
    """The weights of one direction: that of `C`, which has the skip, or of `C2`."""
    gamma = jnp.exp(params["gamma_log"])[:, None]
    into = jnp.concatenate([gamma * params["B_re"], gamma * params["B_im"]])
    out = jnp.concatenate([params[f"{readout}_re"], -params[f"{readout}_im"]], axis=-1)
    skip = params["D"] if readout == "C" else None
    return Weights(eigenvalues(params), into.T, out.T, skip)


def project_in(weights: Weights, u: Real[Array, "*B H"], dtype: Any) -> Complex[Array, "*B N"]:
    """exp(gamma_log) * (B u): the input's part of Eq. (7).

    Args:
      weights: see `pack`.
      u: inputs `(..., H)`.
      dtype: of the product's operands; it is summed in float32 at least.
    """
    return lax.complex(*jnp.split(_matmul(u, weights.into, dtype), 2, axis=-1))


def read_out(
    weights: Weights, x: Complex[Array, "*B N"], u: Real[Array, "*B H"], dtype: Any
) -> Float[Array, "*B H"]:
    """Re[C x] + D * u: the output of Appendix A.

    Args:
      weights: see `pack`.
      x: states `(..., N)`.
      u: inputs `(..., H)`.
      dtype: of the product's operands, and of the result.
    """
    y = _matmul(jnp.concatenate([x.real, x.imag], axis=-1), weights.out, dtype)
    if weights.skip is not None:
        y += weights.skip.astype(y.dtype).reshape((1,) * (u.ndim - 1) + (-1,)) * u.astype(y.dtype)
    return y.astype(dtype)


def _matmul(x, w, dtype):
    """x w with operands of type `dtype`, summed in float32 at least."""
    sum_type = jnp.promote_types(dtype, jnp.float32)
    return jnp.matmul(x.astype(dtype), w.astype(dtype), preferred_element_type=sum_type)


def lru_step(
    params: Parameters,
    carry: Num[Array, "*B N"],
    inputs: Real[Array, "*B H"],
    *,
    dtype: Any = None,
) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
    """One step of the LRU as a function of its parameters.

    Args:
      params: as of a unidirectional `LRU`.
      carry: the state before, `(..., N)`.
      inputs: `(..., H)`.
      dtype: as of `LRU`.

    Returns:
      `(carry, outputs)`, `(..., N)` and `(..., H)`.
    """
    dtype = dtype or jnp.result_type(inputs, params["B_re"])
    weights = pack(params)
    lam = weights.lam.reshape((1,) * (carry.ndim - 1) + (-1,))
    # The state's type must not change from step to step: `nn.RNN` scans over them.
    state_dtype = jnp.promote_types(carry.dtype, lam.dtype)
    carry = (lam * carry + project_in(weights, inputs, dtype)).astype(state_dtype)
    return carry, read_out(weights, carry, inputs, dtype)


def lru_layer(
    params: Parameters,
    inputs: Real[Array, "..."],
    *,
    initial_carry: Any = None,
    seq_lengths: Int[Array, "*B"] | None = None,
    reset: Bool[Array, "..."] | None = None,
    return_carry: bool = False,
    time_major: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
    sequence_axis: str | None = None,
    dtype: Any = None,
    method: Method = "auto",
    chunk_size: int | None = None,
) -> Any:
    """The layer as a function of its parameters; `LRU.__call__` explains the arguments.

    With `C2_re` and `C2_im` among the parameters the layer is bidirectional.
    """
    _check_arguments(params, inputs, initial_carry, seq_lengths, reset, time_major)
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
        reset = None if reset is None else jnp.moveaxis(reset, -1, 0)
    if seq_lengths is not None:
        seq_lengths = jnp.minimum(seq_lengths, len(inputs))
    solve = functools.partial(recur, method=method)
    if sequence_axis is not None:
        solve = functools.partial(recur_sharded, method=method, axis=sequence_axis)
    state = len(params["nu_log"])
    chunk_size = _steps_at_once(chunk_size, sequence_axis, inputs.shape[:-1], state)
    carry, outputs = _sequence(
        params, inputs, initial_carry, seq_lengths, reset, reverse, dtype, solve, chunk_size
    )
    if reverse and not keep_order:
        batch = outputs.ndim - 2
        outputs = flip_sequences(outputs, seq_lengths, num_batch_dims=batch, time_major=True)
    outputs = outputs if time_major else jnp.moveaxis(outputs, 0, -2)
    return (carry, outputs) if return_carry else outputs


def _check_arguments(params, inputs, initial_carry, seq_lengths, reset, time_major) -> None:
    state, width = params["B_re"].shape
    time = inputs.shape[0 if time_major else -2] if inputs.ndim > 1 else 0
    if time == 0 or inputs.shape[-1] != width:
        layout = "(T, ..., H)" if time_major else "(..., T, H)"
        raise ValueError(
            f"inputs have shape {inputs.shape}; expected {layout} with T >= 1 and H = {width}"
        )
    batch = inputs.shape[1:-1] if time_major else inputs.shape[:-2]
    if seq_lengths is not None and seq_lengths.shape != batch:
        raise ValueError(f"seq_lengths have shape {seq_lengths.shape}; expected {batch}")
    if reset is not None and reset.shape != inputs.shape[:-1]:
        raise ValueError(f"reset has shape {reset.shape}; expected {inputs.shape[:-1]}")
    if initial_carry is None:
        return
    count = 2 if "C2_re" in params else 1
    carries = list(initial_carry) if isinstance(initial_carry, tuple | list) else [initial_carry]
    if len(carries) != count or isinstance(initial_carry, tuple | list) != (count == 2):
        wanted = "a pair of arrays, as the layer is bidirectional" if count == 2 else "one array"
        raise ValueError(f"initial_carry is a {type(initial_carry).__name__}; expected {wanted}")
    for carry in carries:
        if not fits(carry, (*batch, state)):
            raise ValueError(f"initial_carry has shape {carry.shape}; expected {(*batch, state)}")


def _sequence(params, inputs, initial_carry, seq_lengths, reset, reverse, dtype, solve, chunk_size):
    """Inputs (T, ..., H) to the carry and the outputs, both in the order of the inputs."""
    readouts = ("C", "C2") if "C2_re" in params else ("C",)
    if len(readouts) == 1 or initial_carry is None:
        initial_carry = (initial_carry,) * len(readouts)
    dtype = dtype or jnp.result_type(inputs, params["B_re"])
    reset = None if reset is None else reset[..., None]
    carries, outputs = [], []
    for readout, h0, backward in zip(readouts, initial_carry, (reverse, not reverse)):
        weights = pack(params, readout)
        state = (*inputs.shape[1:-1], len(weights.lam))
        state_dtype = jnp.result_type(weights.lam, dtype, *(() if h0 is None else (h0,)))
        if h0 is None:  # zeros that lie on devices as the inputs do
            h0 = jnp.zeros_like(inputs[0, ..., :1], state_dtype)
        h0 = jnp.broadcast_to(h0, state)
        h_last, y = scan_chunks(
            functools.partial(_piece, backward, solve, dtype),
            weights,
            h0.astype(state_dtype),
            (inputs, reset),
            chunk_size=chunk_size,
            seq_lengths=seq_lengths,
            reverse=backward,
        )
        carries.append(h_last)
        outputs.append(y)
    return (tuple(carries) if len(carries) == 2 else carries[0]), sum(outputs[1:], outputs[0])


def _steps_at_once(chunk_size, sequence_axis, time_and_batch, d_state):
    """The layer's chunks; where time is divided among devices, each one's part is one chunk."""
    return steps_at_once(0 if sequence_axis else chunk_size, time_and_batch, 2 * d_state)


def _piece(backward, solve, dtype, weights, h0, inputs_and_reset, seq_lengths):
    """One direction of the layer, on the whole sequence or a chunk: the state and the outputs."""
    inputs, reset = inputs_and_reset
    valid = None
    if seq_lengths is not None:
        valid = _steps(inputs) < seq_lengths[None, ..., None]  # (T, ..., 1)
        inputs = jnp.where(valid, inputs, jnp.zeros_like(inputs))
        reset = None if reset is None else reset & valid
    x = project_in(weights, inputs, dtype)
    lam = weights.lam.reshape((1,) * (x.ndim - 1) + (-1,))
    run = _backward if backward else _forward
    h, h_last = run(lam, x, h0, seq_lengths, reset, solve)
    outputs = read_out(weights, h, inputs, dtype)
    if valid is not None:
        outputs = jnp.where(valid, outputs, jnp.zeros_like(outputs))
    return h_last, outputs


def _forward(lam, x, h0, seq_lengths, reset, solve):
    h, h_last = solve(lam, x, h0[None], reset, False)
    if seq_lengths is not None:  # padding comes last: only the final state has to know of it
        last = jnp.maximum(seq_lengths - 1, 0)[None, ..., None]
        h_last = jnp.take_along_axis(h, last, axis=0)[0]
    return h, h_last


def _backward(lam, x, h0, seq_lengths, reset, solve):
    """Right to left, in place: what `_forward` does on the mirrored sequence.

    Padding comes first here. Its x is zero, so a zero state stays zero until the last valid step;
    the given state is put in there.
    """
    start, border = h0[None], reset
    if seq_lengths is not None:
        is_last = _steps(x) == seq_lengths[None, ..., None] - 1
        x, start = x + lam * jnp.where(is_last, h0[None], jnp.zeros_like(x)), None
    if reset is not None:  # nothing crosses from the first step of a sequence to the step before
        border = earlier(reset, jnp.zeros_like(reset[:1]), reverse=True)
    h, h_last = solve(lam, x, start, border, True)
    return h, h_last if reset is None else unless(reset[0], h_last)


def _steps(x):
    """0 ... T-1 along the leading axis, `(T, 1, ..., 1)`."""
    return jnp.arange(len(x)).reshape(-1, *(1,) * (x.ndim - 1))


class LRU(nn.Module):
    """The Linear Recurrent Unit, to stand where `nn.RNN(nn.GRUCell(...))` stands in a model.

    It takes that call's arguments, but for one thing: `LRU(64)` has 64 complex modes, and outputs
    as wide as its inputs.

    x_k = Lambda x_{k-1} + exp(gamma_log) * (B u_k),   y_k = Re[C x_k] + D * u_k
    with Lambda = diag(exp(-exp(nu_log) + i exp(theta_log))): Eq. (7) and Appendix A of
    Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences" (ICML 2023).

    Parameters have Appendix A's names: `nu_log theta_log gamma_log (N,)`, `B_re B_im (N, H)`,
    `C_re C_im (H, N)`, `D (H,)`; a bidirectional layer adds `C2_re C2_im (H, N)`. H is the last
    dimension of the inputs, and of the outputs.

    Attributes:
      d_state: N, the number of complex modes.
      r_min, r_max: the ring of the unit disk in which the eigenvalues are drawn.
      max_phase: they are drawn with a phase in [0, max_phase], in radians.
      bidirectional: read a second state, which runs right to left, through `C2`.
      method: of `lru.linear_recurrence`.
      chunk_size: steps worked through at a time, so that not all N-wide states are in memory, in
        the backward pass neither; chosen from the shape if None, all of them if 0.
      sequence_axis: name of the axis of the mesh set by `jax.set_mesh` along which time is
        divided among devices, each of which works through its part at once; T must be a multiple
        of its size. None: time stays together.
      dtype: of the matrix products and the outputs; by default that of inputs and parameters
        together. The state is complex64 at least, whatever it is.
      param_dtype: of the parameters.

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
        """Whether a piece of time can be worked through without those that follow."""
        return not self.bidirectional and self.sequence_axis is None

    @nn.nowrap
    def rematerialises(self, time_and_batch: tuple[int, ...]) -> bool:
        """Whether it takes such inputs in chunks, and so keeps little for the backward pass."""
        steps = _steps_at_once(self.chunk_size, self.sequence_axis, time_and_batch, self.d_state)
        return steps < time_and_batch[0]

    @nn.compact
    def __call__(
        self,
        inputs: Real[Array, "..."],
        *,
        initial_carry: Any = None,
        init_key: Any = None,
        seq_lengths: Int[Array, "*B"] | None = None,
        reset: Bool[Array, "..."] | None = None,
        return_carry: bool = False,
        time_major: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
    ) -> Any:
        """Takes what `flax.linen.RNN` takes, and `reset`.

        Args:
          inputs: `(..., T, H)`, any number of batch axes.
          initial_carry: the state before the first step, complex `(..., N)`, as `return_carry`
            gave it for the steps before; zero if not given. Bidirectional: a pair of states, the
            one that `C` reads first. (Parts of a sequence do not add up to the whole there: the
            state that `C2` reads comes from the steps that follow.)
          init_key: there for `flax.linen.Bidirectional`; the initial state is zero, not random.
          seq_lengths: `(...)`, how many steps of each sequence are valid. The padding on their
            right changes no result, in either direction; outputs on it are zero, and the carry
            is the state after the last valid step consumed.
          reset: `(..., T)`; True at the first step of a new sequence. No state crosses the border
            before that step, in either direction. (So right to left the state is cleared *after*
            it, carry included, unlike in `lru.linear_recurrence`.)
          return_carry: return `(carry, outputs)` instead of the outputs.
          time_major: inputs, outputs and `reset` have time first, `(T, ..., H)`.
          reverse: consume the sequence right to left, and return the outputs in that order,
            padding still last.
          keep_order: in reverse, return the outputs in the order of the inputs.

        Returns:
          The outputs `(..., T, H)`, or `(carry, outputs)`.

        Raises:
          ValueError: if the shapes do not fit together, or T is 0.
        """
        return lru_layer(
            lru_parameters(self, inputs.shape[-1], self.bidirectional),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            reset=reset,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
            sequence_axis=self.sequence_axis,
            dtype=self.dtype,
            method=self.method,
            chunk_size=self.chunk_size,
        )


class LRUCell(nn.RNNCellBase):
    """One step of the LRU, Eq. (7), with the parameters of the layer: for streams, or `nn.RNN`.

    Attributes: as of `LRU`.

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
        self, carry: Num[Array, "*B N"], inputs: Real[Array, "*B H"]
    ) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
        """`carry (..., N)` and `inputs (..., H)` to the new carry and the outputs `(..., H)`."""
        params = lru_parameters(self, inputs.shape[-1], bidirectional=False)
        return lru_step(params, carry, inputs, dtype=self.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Complex[Array, "*B N"]:
        """The zero state for inputs of shape `(..., H)`; `rng` is not needed."""
        return jnp.zeros((*input_shape[:-1], self.d_state), _state_dtype(self.param_dtype))

    @property
    def num_feature_axes(self) -> int:
        return 1


def _state_dtype(param_dtype):
    return jnp.promote_types(param_dtype, jnp.complex64)


def lru_parameters(module: Any, d_model: int, bidirectional: bool) -> Parameters:
    """The parameters of a Linen module with the attributes of `LRU`, made when it is new."""
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
