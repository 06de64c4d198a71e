"""The Linear Recurrent Unit (Orvieto et al. 2023): pure functions, and their Flax Linen modules.

    x_k = Lambda x_{k-1} + exp(gamma_log) * (B u_k)        Eq. (7)
    y_k = Re[C x_k] + D * u_k                              Appendix A
    Lambda = diag(exp(-exp(nu_log) + i exp(theta_log)))    section 3.3

Complex matrices are kept as real and imaginary parts, `B_re`, `B_im`; a product with them is one
real product with both parts side by side. Everything here works time first, `(T, ..., H)`: the
recurrence walks along the leading axis, and only H-wide arrays are ever transposed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences
from jax import lax

from lru.array_typing import Array, Bool, Complex, Float, Int, Num
from lru.initializers import gamma_log, lru_initializers
from lru.recurrence import Method, linear_recurrence

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


def project_in(params: Parameters, u: Num[Array, "*B H"], dtype: Any) -> Complex[Array, "*B N"]:
    """exp(gamma_log) * (B u), the product in `dtype`, its sum in float32 at least."""
    packed = jnp.concatenate([params["B_re"], params["B_im"]])  # (2N, H)
    packed = packed * jnp.exp(jnp.tile(params["gamma_log"], 2))[:, None]
    re, im = jnp.split(_matmul(u, packed, dtype), 2, axis=-1)
    return lax.complex(re, im)


def read_out(
    params: Parameters, states: dict[str, Complex[Array, "*B N"]], u: Num[Array, "*B H"], dtype: Any
) -> Float[Array, "*B H"]:
    """Re[C x] + D * u, with one x for each read-out matrix: {"C": x}, or {"C": x, "C2": x2}."""
    packed = [w for name in states for w in (params[f"{name}_re"], -params[f"{name}_im"])]
    parts = [part for x in states.values() for part in (x.real, x.imag)]
    y = _matmul(jnp.concatenate(parts, axis=-1), jnp.concatenate(packed, axis=-1), dtype)
    return (y + params["D"] * u).astype(dtype)


def _matmul(x, w, dtype):
    """x w^T with operands of type `dtype`, summed in float32 at least."""
    sum_type = jnp.promote_types(dtype, jnp.float32)
    return jnp.matmul(x.astype(dtype), w.T.astype(dtype), preferred_element_type=sum_type)


def lru_layer(
    params: Parameters,
    inputs: Num[Array, "..."],
    *,
    initial_carry: Any = None,
    seq_lengths: Int[Array, "*B"] | None = None,
    reset: Bool[Array, "..."] | None = None,
    return_carry: bool = False,
    time_major: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
    method: Method = "auto",
    dtype: Any = None,
) -> Any:
    """The layer as a function of its parameters; `LRU.__call__` explains the arguments.

    With `C2_re` and `C2_im` among the parameters the layer is bidirectional.
    """
    _check_inputs(params, inputs, seq_lengths, reset, time_major)
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
        reset = None if reset is None else jnp.moveaxis(reset, -1, 0)
    carry, outputs = _sequence(
        params, inputs, initial_carry, seq_lengths, reset, reverse, method, dtype
    )
    if reverse and not keep_order:
        batch = outputs.ndim - 2
        outputs = flip_sequences(outputs, seq_lengths, num_batch_dims=batch, time_major=True)
    outputs = outputs if time_major else jnp.moveaxis(outputs, 0, -2)
    return (carry, outputs) if return_carry else outputs


def _check_inputs(params, inputs, seq_lengths, reset, time_major) -> None:
    layout = "(T, ..., H)" if time_major else "(..., T, H)"
    if inputs.ndim < 2 or inputs.shape[-1] != params["D"].shape[0]:
        raise ValueError(
            f"inputs have shape {inputs.shape}; expected {layout} with H = {params['D'].shape[0]}"
        )
    batch = inputs.shape[1:-1] if time_major else inputs.shape[:-2]
    if seq_lengths is not None and seq_lengths.shape != batch:
        raise ValueError(f"seq_lengths have shape {seq_lengths.shape}; expected {batch}")
    if reset is not None and reset.shape != inputs.shape[:-1]:
        raise ValueError(f"reset has shape {reset.shape}; expected {inputs.shape[:-1]}")


def _sequence(params, inputs, initial_carry, seq_lengths, reset, reverse, method, dtype):
    """Inputs (T, ..., H) to the carry and the outputs, both in the order of the inputs."""
    dtype = dtype or jnp.result_type(inputs, params["B_re"])
    valid = None
    if seq_lengths is not None:
        valid = _steps(inputs) < seq_lengths
        inputs = jnp.where(valid[..., None], inputs, 0)
        reset = None if reset is None else reset & valid
    lam, x = eigenvalues(params), project_in(params, inputs, dtype)
    readouts = ("C", "C2") if "C2_re" in params else ("C",)
    if len(readouts) == 1 or initial_carry is None:
        initial_carry = (initial_carry,) * len(readouts)
    states, carry = {}, []
    for readout, h0, backward in zip(readouts, initial_carry, (reverse, not reverse)):
        run = _backward if backward else _forward
        states[readout], h_last = run(lam, x, h0, seq_lengths, reset, method)
        carry.append(h_last)
    outputs = read_out(params, states, inputs, dtype)
    if valid is not None:
        outputs = jnp.where(valid[..., None], outputs, 0)
    return (tuple(carry) if len(readouts) == 2 else carry[0]), outputs


def _forward(lam, x, h0, seq_lengths, reset, method):
    h, h_last = _recur(lam, x, h0, reset, False, method)
    if seq_lengths is not None:  # padding comes last: only the final state has to know of it
        last = jnp.maximum(seq_lengths - 1, 0)[None, ..., None]
        h_last = jnp.take_along_axis(h, last, axis=0)[0]
        h_last = _if_empty(seq_lengths, h0, h_last)
    return h, h_last


def _backward(lam, x, h0, seq_lengths, reset, method):
    """Right to left, in place: what `_forward` does on the mirrored sequence.

    Padding comes first here. Its x is zero, so a zero state stays zero until the last valid step;
    a given state is put in there.
    """
    start, border = h0, reset
    if seq_lengths is not None and h0 is not None:
        is_last = _steps(x) == seq_lengths - 1
        x, start = x + jnp.where(is_last[..., None], lam * h0, 0), None
    if reset is not None:  # nothing crosses from the first step of a sequence to the step before
        border = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
    h, h_last = _recur(lam, x, start, border, True, method)
    if seq_lengths is not None:
        h_last = _if_empty(seq_lengths, h0, h_last)
    if reset is not None:
        h_last = jnp.where(reset[0][..., None], 0, h_last)
    return h, h_last


def _recur(lam, x, h0, reset, reverse, method):
    """`linear_recurrence` along the leading axis."""
    reset = None if reset is None else jnp.moveaxis(reset, 0, -1)
    h, h_last = linear_recurrence(
        lam, jnp.moveaxis(x, 0, -2), h0, reset=reset, reverse=reverse, method=method
    )
    return jnp.moveaxis(h, -2, 0), h_last


def _if_empty(seq_lengths, h0, h_last):
    """A sequence without a step leaves the state as it was."""
    return jnp.where((seq_lengths == 0)[..., None], 0 if h0 is None else h0, h_last)


def _steps(x):
    """0 ... T-1 along the leading axis, to compare with lengths (...)."""
    return jnp.arange(x.shape[0]).reshape(-1, *(1,) * (x.ndim - 2))


class LRU(nn.Module):
    """The Linear Recurrent Unit: `nn.RNN(nn.GRUCell(...))`'s place in a model, linear inside.

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
      dtype: of the matrix products and the outputs; by default that of inputs and parameters
        together. The state is complex64 whatever it is.
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
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Num[Array, "..."],
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
            gave it for the steps before; zero if not given. Bidirectional: a pair of states, of
            the direction of time and of the other one.
          init_key: there for `flax.linen.Bidirectional`; the initial state is zero, not random.
          seq_lengths: `(...)`, how many steps of each sequence are valid. The padding on their
            right changes no result, in either direction; outputs on it are zero, and the carry
            is the state at the last valid step.
          reset: `(..., T)`; True at the first step of a new sequence. The state is cleared
            before that step, and right to left after it: nothing crosses the border.
          return_carry: return `(carry, outputs)` instead of the outputs.
          time_major: inputs, outputs and `reset` have time first, `(T, ..., H)`.
          reverse: consume the sequence right to left, and return the outputs in that order,
            padding still last.
          keep_order: in reverse, return the outputs in the order of the inputs.

        Returns:
          The outputs `(..., T, H)`, or `(carry, outputs)`.

        Raises:
          ValueError: if the shapes do not fit together.
        """
        return lru_layer(
            _parameters(self, inputs.shape[-1], self.bidirectional),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            reset=reset,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
            method=self.method,
            dtype=self.dtype,
        )


class LRUCell(nn.RNNCellBase):
    """One step of the LRU, with the parameters of the whole layer: for `nn.RNN`, or streaming.

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
        self, carry: Complex[Array, "*B N"], inputs: Num[Array, "*B H"]
    ) -> tuple[Complex[Array, "*B N"], Float[Array, "*B H"]]:
        """`carry (..., N)` and `inputs (..., H)` to the new carry and the outputs `(..., H)`."""
        params = _parameters(self, inputs.shape[-1], bidirectional=False)
        return lru_step(params, carry, inputs, dtype=self.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Complex[Array, "*B N"]:
        """The zero state for inputs of shape `(..., H)`; `rng` is not needed."""
        return jnp.zeros((*input_shape[:-1], self.d_state), _state_dtype(self.param_dtype))

    @property
    def num_feature_axes(self) -> int:
        return 1


def lru_step(params: Parameters, carry, inputs, *, dtype: Any = None):
    """One step of the LRU: `(..., N)` and `(..., H)` to the new carry and the outputs."""
    dtype = dtype or jnp.result_type(inputs, params["B_re"])
    carry = eigenvalues(params) * carry + project_in(params, inputs, dtype)
    return carry, read_out(params, {"C": carry}, inputs, dtype)


def _state_dtype(param_dtype):
    return jnp.promote_types(param_dtype, jnp.complex64)


def _parameters(module: Any, d_model: int, bidirectional: bool) -> Parameters:
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
