"""The call that every mixer takes, and what it does around the mathematics of each.

Order of axes, arguments that do not fit, padding, resets, one direction or two, chunks: once, for
whatever can be written as

    x_k = f(A x_{k-1} + B u_k),   y_k = C x_k + D u_k          f(0) = 0

Everything here works time first, `(T, ..., H)`: recurrences walk along the leading axis, and only
H-wide arrays are ever transposed.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from lru.layers.arguments import as_array, as_lengths, as_resets
from lru.ops.array_typing import Array, ArrayLike, Int, LayerOptions, Shape
from lru.ops.chunks import scan_chunks, steps_at_once
from lru.ops.dtypes import result_type
from lru.ops.recurrence import earlier, fits, unless

Run = Callable[..., tuple[Any, Any]]


class Mixer(nn.Module, kw_only=True):
    """A layer that moves information along time, with outputs as wide as its inputs.

    A subclass says in `mix_time` what it does; its call, here, is that of `flax.linen.RNN`.

    Attributes:
      time_major, return_carry, reverse, keep_order: what the call takes where it is not given
        these, as of `flax.linen.RNN`; keyword arguments only.
    """

    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False

    @property
    def causal(self) -> bool:
        """Whether outputs depend on earlier inputs only, and a chunk on the state before it."""
        return False

    @nn.nowrap
    def chunked_state(self) -> jax.ShapeDtypeStruct | None:
        """One sequence's state, of a layer that hands it to `recurrent` with its `chunk_size`."""
        return None

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Any, ...]:
        """The modes of each direction, `lru.layers.state_space.Modes`, of a layer that has some.

        Args:
          params: the layer's parameters, by name.

        Returns:
          One `Modes` a direction; `()` if the layer is no linear recurrence of independent modes.
        """
        return ()

    @nn.nowrap
    def rematerialises(self, time_and_batch: Shape) -> bool:
        """Whether it takes such inputs in chunks, and so saves little for the backward pass."""
        state = self.chunked_state()
        if state is None:
            return False
        return steps_of_state(self.chunk_size, time_and_batch, state) not in (0, time_and_batch[0])

    def mix_time(self, inputs: Any, **call: Any) -> Any:
        """The layer; `call` holds the arguments of `__call__`, for `mix`."""
        raise NotImplementedError(f"{type(self).__name__} has no mix_time")

    if TYPE_CHECKING:

        @overload
        def __call__(
            self, inputs: ArrayLike, *, return_carry: Literal[True], **call: Unpack[LayerOptions]
        ) -> tuple[Any, Array]: ...

        @overload
        def __call__(
            self, inputs: ArrayLike, *, return_carry: Literal[False] | None = None,
            **call: Unpack[LayerOptions],
        ) -> Array: ...  # fmt: skip

    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Any = None,
        init_key: Any = None,
        seq_lengths: Any = None,
        reset: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Takes what `flax.linen.RNN` takes, and `reset`.

        Where `return_carry`, `time_major`, `reverse` or `keep_order` is None, the layer's attribute
        of that name decides.

        Args:
          inputs: real numbers `(..., T, H)`, any number of batch axes.
          initial_carry: the state before the first step, `(..., N)` for a state of N numbers, as
            `return_carry` gave it for the steps before; zero if not given. Bidirectional: a pair
            of states, the one that `C` reads first. (Parts of a sequence do not add up to the
            whole there: the state that `C2` reads comes from the steps that follow.)
          init_key: there for `flax.linen.Bidirectional`; the initial state is zero, not random.
          seq_lengths: whole numbers `(...)`, how many steps of each sequence are valid: none if
            negative, all if above T. The padding on their right changes no result, in either
            direction; outputs on it are zero, and the carry is the state after the last valid
            step consumed.
          reset: `(..., T)`; True (or not zero) at the first step of a new sequence. No state
            crosses the border before that step, in either direction. (So right to left the state
            is cleared *after* it, carry included, unlike in `lru.linear_recurrence`.)
          return_carry: return `(carry, outputs)` instead of the outputs.
          time_major: inputs, outputs and `reset` have time first, `(T, ..., H)`.
          reverse: consume the sequence right to left, and return the outputs in that order,
            padding still last.
          keep_order: in reverse, return the outputs in the order of the inputs.

        Returns:
          The outputs `(..., T, H)`, or `(carry, outputs)`.

        Raises:
          ValueError: if the arguments do not fit together, or T is 0.
        """
        flags: dict[str, Any] = dict(
            return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        for name, flag in flags.items():
            flags[name] = getattr(self, name) if flag is None else flag
        return self.mix_time(
            as_inputs(inputs),
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            reset=reset,
            **flags,
        )


def is_causal(module: Any) -> bool:
    """Whether a layer or model says that it is, and does not go right to left."""
    return getattr(module, "causal", False) and not getattr(module, "reverse", False)


def as_inputs(inputs: Any) -> Array:
    """A layer's inputs as an array of real numbers with axes for time and width.

    Raises:
      ValueError: they are complex, or have fewer axes.
    """
    inputs = as_array("inputs", inputs)
    if jnp.iscomplexobj(inputs):
        raise ValueError(f"inputs are {inputs.dtype}; expected real numbers")
    if inputs.ndim < 2:
        raise ValueError(f"inputs have shape {inputs.shape}; expected (..., T, H) with T >= 1")
    return inputs


def mix(
    run: Run,
    directions: Sequence[Any],
    inputs: ArrayLike,
    *,
    d_model: int,
    state_shape: Shape,
    initial_carry: Any = None,
    seq_lengths: Any = None,
    reset: Any = None,
    return_carry: bool = False,
    time_major: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
) -> Any:
    """A mixer's call around a function that runs one direction; their outputs are summed.

    Args:
      run: `(weights, x0, inputs, reset, seq_lengths, backward) -> (x_last, outputs)`. It sees time
        first and lengths of T at most, goes right to left if `backward`, and leaves the outputs in
        the order of the inputs; a state x0 of None is zero.
      directions: the weights of each: of one, or of two that go opposite ways.
      d_model: H.
      state_shape: of one sequence's state.
      inputs, initial_carry, seq_lengths, reset: as of `Mixer.__call__`.
      return_carry, time_major, reverse, keep_order: see there.
    """
    inputs, count = as_inputs(inputs), len(directions)
    _check_inputs(inputs, d_model, time_major)
    batch = inputs.shape[1:-1] if time_major else inputs.shape[:-2]
    time = inputs.shape[0 if time_major else -2]
    seq_lengths, reset = as_lengths(seq_lengths, batch, time), as_resets(reset, inputs.shape[:-1])
    starts = _starts(initial_carry, count, (*batch, *state_shape))
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
        reset = None if reset is None else jnp.moveaxis(reset, -1, 0)
    results = [
        run(weights, x0, inputs, reset, seq_lengths, backward)
        for weights, x0, backward in zip(directions, starts, (reverse, not reverse))
    ]
    ends = tuple(end for end, _ in results)
    outputs = functools.reduce(operator.add, (y for _, y in results))
    if reverse and not keep_order:
        outputs = flip(outputs, seq_lengths)
    outputs = outputs if time_major else jnp.moveaxis(outputs, 0, -2)
    return (ends[0] if count == 1 else ends, outputs) if return_carry else outputs


def _check_inputs(inputs, d_model, time_major) -> None:
    time = inputs.shape[0 if time_major else -2]
    if time == 0 or inputs.shape[-1] != d_model:
        layout = "(T, ..., H)" if time_major else "(..., T, H)"
        raise ValueError(
            f"inputs have shape {inputs.shape}; expected {layout} with T >= 1 and H = {d_model}"
        )


def _starts(initial_carry, count, shape):
    """The state that each direction begins with, None for zero."""
    if initial_carry is None:
        return (None,) * count
    carries = list(initial_carry) if isinstance(initial_carry, tuple | list) else [initial_carry]
    if len(carries) != count or isinstance(initial_carry, tuple | list) != (count == 2):
        wanted = "a pair of arrays, as the layer is bidirectional" if count == 2 else "one array"
        raise ValueError(f"initial_carry is a {type(initial_carry).__name__}; expected {wanted}")
    carries = [as_array("initial_carry", carry) for carry in carries]
    for carry in carries:
        if not fits(carry, shape):
            raise ValueError(f"initial_carry has shape {carry.shape}; expected {shape}")
    return carries


def flip(x: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """x `(T, *B, ...)` right to left, padding still last."""
    if seq_lengths is None:
        return jnp.flip(x, 0)
    return flip_sequences(x, seq_lengths, num_batch_dims=seq_lengths.ndim, time_major=True)


class System(NamedTuple):
    """x_k = f(A x_{k-1} + B u_k), y_k = C x_k + D u_k as functions of weights, a tree of arrays.

    Attributes:
      drive: `(weights, u)` to B u.
      transition: `(weights, x)` to A x.
      solve: `(weights, v, x0, reset, reverse)` to all x and the last, for v = B u and a state x0
        before, zero if None; a reset clears the state before that step, as in
        `lru.linear_recurrence`.
      read_out: `(weights, x, u)` to y.
    """

    drive: Callable[..., Any]
    transition: Callable[..., Any]
    solve: Callable[..., tuple[Any, Any]]
    read_out: Callable[..., Any]


def recurrent(system: System, state: jax.ShapeDtypeStruct, chunk_size: int | None) -> Run:
    """Runs a direction as a recurrence, chunk by chunk: what `mix` takes.

    Args:
      system: the recurrence, with f(0) = 0.
      state: shape and least type of one sequence's state.
      chunk_size: steps worked through at a time; chosen from the shape if None, all if 0.
    """

    def run(weights, x0, inputs, reset, seq_lengths, backward):
        return scan_chunks(
            functools.partial(_piece, system, backward),
            weights,
            full_state(x0, inputs, state),
            (inputs, reset),
            chunk_size=steps_of_state(chunk_size, inputs.shape[:-1], state),
            seq_lengths=seq_lengths,
            reverse=backward,
        )

    return run


def steps_of_state(
    chunk_size: int | None, time_and_batch: Shape, state: jax.ShapeDtypeStruct
) -> int:
    """The steps that `recurrent` takes at a time, 0 for all."""
    numbers = 2 if jnp.issubdtype(state.dtype, jnp.complexfloating) else 1
    return steps_at_once(chunk_size, time_and_batch, numbers * math.prod(state.shape))


def full_state(x0: Any, inputs: Any, state: jax.ShapeDtypeStruct) -> Any:
    """The state before inputs `(T, ..., H)`, `(..., *state.shape)`, in the type that it keeps."""
    if x0 is None:  # zeros that lie on devices as the inputs do
        x0 = jnp.zeros_like(inputs[0, ..., :1], state.dtype)
        x0 = jnp.expand_dims(x0, tuple(range(x0.ndim, x0.ndim + len(state.shape) - 1)))
    dtype = result_type(state.dtype, x0)
    if jnp.iscomplexobj(x0) and not jnp.issubdtype(state.dtype, jnp.complexfloating):
        raise ValueError(f"initial_carry is {x0.dtype}; expected real numbers")
    return jnp.broadcast_to(x0, (*inputs.shape[1:-1], *state.shape)).astype(dtype)


def _piece(system, backward, weights, x0, inputs_and_reset, seq_lengths):
    """One direction on the whole sequence or a chunk: the state and the outputs."""
    inputs, reset = inputs_and_reset
    inputs = zero_padding(inputs, seq_lengths)
    v = system.drive(weights, inputs)
    if reset is not None:
        if seq_lengths is not None:
            reset &= steps(reset) < seq_lengths[None]
        reset = _with_axes(reset, v.ndim)
    run = _backward if backward else _forward
    x, x_last = run(system, weights, v, x0, seq_lengths, reset)
    return x_last, zero_padding(system.read_out(weights, x, inputs), seq_lengths)


def zero_padding(x: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """x `(T, *B)` or `(T, *B, ...)` with zeros (or False) on padding, whatever was there."""
    if seq_lengths is None:
        return x
    return jnp.where(steps(x) < _with_axes(seq_lengths[None], x.ndim), x, jnp.zeros_like(x))


def _forward(system, weights, v, x0, seq_lengths, reset):
    x, x_last = system.solve(weights, v, x0, reset, False)
    if seq_lengths is not None:  # padding comes last: only the final state has to know of it
        last = _with_axes(jnp.maximum(seq_lengths - 1, 0)[None], x.ndim)
        x_last = jnp.take_along_axis(x, last, axis=0)[0]
    return x, x_last


def _backward(system, weights, v, x0, seq_lengths, reset):
    """Right to left, in place: what `_forward` does on the mirrored sequence.

    Padding comes first here. Its v is zero, so a zero state stays zero until the last valid step;
    the given state is put in there.
    """
    start, border = x0, reset
    if seq_lengths is not None:
        is_last = steps(v) == _with_axes(seq_lengths[None], v.ndim) - 1
        entering = system.transition(weights, x0)[None]
        v, start = v + jnp.where(is_last, entering, jnp.zeros_like(v)), None
    if reset is not None:  # nothing crosses from the first step of a sequence to the step before
        border = earlier(reset, jnp.zeros_like(reset[:1]), reverse=True)
    x, x_last = system.solve(weights, v, start, border, True)
    return x, x_last if reset is None else unless(reset[0], x_last)


def steps(x: Any) -> Any:
    """0 ... T-1 along the leading axis, `(T, 1, ..., 1)`."""
    return _with_axes(jnp.arange(x.shape[0]), x.ndim)


def _with_axes(x, ndim):
    """x with axes of size 1 behind its own, `ndim` in all."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))
