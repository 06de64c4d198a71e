"""The call that every layer has, and one direction of a layer over time.

Order of axes, arguments that do not fit, padding, resets, one direction or two, chunks: written
once, for every layer that is

    h_k = f(A h_{k-1} + B u_k),   y_k = C h_k + D u_k          f(0) = 0

Everything here has time first, `(T, ..., H)`: recurrences scan over the leading axis, and only
H-wide arrays are ever transposed.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.recurrent import flip_sequences

from lru.ops.arguments import as_array, as_lengths, as_resets
from lru.ops.array_typing import Array, ArrayLike, Int, LayerOptions, Shape
from lru.ops.chunks import scan_chunks, steps_at_once
from lru.ops.dtypes import result_type
from lru.ops.recurrence import earlier, fits, unless


class Direction(struct.PyTreeNode):
    """One direction of a layer: its weights, and the layer's equations as methods.

    A subclass defines `d_model`, `state` and the four methods after them, each of which sees time
    first; or it overrides `chunk` with another way to get from inputs to outputs.
    """

    @property
    def d_model(self) -> int:
        """H, the width of inputs and outputs."""
        raise NotImplementedError

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        """Shape and least type of one sequence's state."""
        raise NotImplementedError

    def input_projection(self, u: Any) -> Any:
        """B u of inputs `(T, ..., H)`."""
        raise NotImplementedError

    def transition(self, h: Any) -> Any:
        """A h of one state `(..., N)`."""
        raise NotImplementedError

    def recurrence(self, x: Any, h0: Any, reset: Any, reverse: bool) -> tuple[Any, Any]:
        """All states h_k = f(A h_{k-1} + x_k) `(T, ..., N)`, and the last.

        Args:
          x: B u, `(T, ..., N)`.
          h0: the state before, `(..., N)`; None for zero.
          reset: `(T, ..., 1)`; True clears the state before that step, as in
            `lru.linear_recurrence`. None for nowhere.
          reverse: whether to consume the last step first.
        """
        raise NotImplementedError

    def output_projection(self, h: Any, u: Any) -> Any:
        """C h + D u of states `(T, ..., N)` and inputs `(T, ..., H)`."""
        raise NotImplementedError

    def chunk_steps(self, time_and_batch: Shape, reset: Any) -> int:
        """Returns the steps to compute at a time, 0 for all, for inputs `(*time_and_batch, H)`."""
        return 0

    def chunk(
        self, carry: Any, inputs_and_reset: Any, seq_lengths: Any, *, reverse: bool
    ) -> tuple[Any, Any]:
        """Runs this direction on a whole sequence or a chunk of it.

        Args:
          carry: the state before, `(..., N)`; None for zero, where the sequence is whole.
          inputs_and_reset: `(T, ..., H)`, and `(T, ...)` or None.
          seq_lengths: `(...)`, from 0 to T; None for T.
          reverse: whether to go right to left.

        Returns:
          The state after the last valid step consumed, and the outputs in the inputs' order.
        """
        u, reset = inputs_and_reset
        carry = full_state(carry, u, self.state)
        u = zero_padding(u, seq_lengths)
        x, h0 = self.input_projection(u), carry
        if reset is not None:
            reset = _with_axes(zero_padding(reset, seq_lengths), x.ndim)
        clear = reset
        if reverse and seq_lengths is not None:
            # Padding comes first. Its x is zero, so a zero state stays zero until the last valid
            # step; the given state is added there.
            is_last = steps(x) == _with_axes(seq_lengths[None], x.ndim) - 1
            x, h0 = x + jnp.where(is_last, self.transition(carry)[None], jnp.zeros_like(x)), None
        if reverse and reset is not None:  # no state crosses from a first step to the step before
            clear = earlier(reset, jnp.zeros_like(reset[:1]), reverse=True)
        h, h_last = self.recurrence(x, h0, clear, reverse)
        if reverse and reset is not None:
            h_last = unless(reset[0], h_last)
        if not reverse and seq_lengths is not None:  # padding comes last
            last = _with_axes(jnp.maximum(seq_lengths - 1, 0)[None], h.ndim)
            h_last = jnp.take_along_axis(h, last, axis=0)[0]
        return h_last, zero_padding(self.output_projection(h, u), seq_lengths)


class Mixer(nn.Module, kw_only=True):
    """A layer that moves information along time, with outputs as wide as its inputs.

    A subclass makes its parameters in `directions`; its call, here, is that of `flax.linen.RNN`.

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
        """One sequence's state, of a layer that has a `chunk_size`; None if it needs all steps."""
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

    def directions(self, inputs: Any) -> Sequence[Direction]:
        """Makes the parameters, and returns one direction, or two that go opposite ways.

        Args:
          inputs: those of the call.
        """
        raise NotImplementedError(f"{type(self).__name__} has no directions")

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
        inputs = as_inputs(inputs)
        return over_time(
            self.directions(inputs),
            inputs,
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


def over_time(
    directions: Sequence[Direction],
    inputs: ArrayLike,
    *,
    initial_carry: Any = None,
    seq_lengths: Any = None,
    reset: Any = None,
    return_carry: bool = False,
    time_major: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
) -> Any:
    """Runs a layer's directions over time and sums their outputs: the call of every layer.

    Args:
      directions: one, or two that go opposite ways.
      inputs, initial_carry, seq_lengths, reset: as of `Mixer.__call__`.
      return_carry, time_major, reverse, keep_order: see there.
    """
    inputs, (first, *others) = as_inputs(inputs), directions
    _check_inputs(inputs, first.d_model, time_major)
    batch = inputs.shape[1:-1] if time_major else inputs.shape[:-2]
    time = inputs.shape[0 if time_major else -2]
    seq_lengths, reset = as_lengths(seq_lengths, batch, time), as_resets(reset, inputs.shape[:-1])
    carries = _initial_carries(initial_carry, len(directions), (*batch, *first.state.shape))
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
        reset = None if reset is None else jnp.moveaxis(reset, -1, 0)
    results = []
    for direction, carry, backward in zip(directions, carries, (reverse, not reverse)):
        chunk_size = direction.chunk_steps(inputs.shape[:-1], reset)
        if chunk_size or carry is not None:
            carry = full_state(carry, inputs, direction.state)
        chunk = functools.partial(type(direction).chunk, reverse=backward)
        results.append(
            scan_chunks(
                chunk, direction, carry, (inputs, reset),
                chunk_size=chunk_size, seq_lengths=seq_lengths, reverse=backward,
            )
        )  # fmt: skip
    carry = tuple(carry for carry, _ in results) if others else results[0][0]
    outputs = functools.reduce(operator.add, (y for _, y in results))
    if reverse and not keep_order:
        outputs = flip(outputs, seq_lengths)
    outputs = outputs if time_major else jnp.moveaxis(outputs, 0, -2)
    return (carry, outputs) if return_carry else outputs


def _check_inputs(inputs, d_model, time_major) -> None:
    time = inputs.shape[0 if time_major else -2]
    if time == 0 or inputs.shape[-1] != d_model:
        layout = "(T, ..., H)" if time_major else "(..., T, H)"
        raise ValueError(
            f"inputs have shape {inputs.shape}; expected {layout} with T >= 1 and H = {d_model}"
        )


def _initial_carries(initial_carry, count, shape):
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


def steps_of_state(
    chunk_size: int | None, time_and_batch: Shape, state: jax.ShapeDtypeStruct
) -> int:
    """The steps of a chunk by a setting `chunk_size`, 0 for all."""
    numbers = 2 if jnp.issubdtype(state.dtype, jnp.complexfloating) else 1
    return steps_at_once(chunk_size, time_and_batch, numbers * math.prod(state.shape))


def full_state(carry: Any, inputs: Any, state: jax.ShapeDtypeStruct) -> Any:
    """The state before inputs `(T, ..., H)`, `(..., *state.shape)`, in the type that it keeps."""
    if carry is None:  # zeros that lie on devices as the inputs do
        carry = jnp.zeros_like(inputs[0, ..., :1], state.dtype)
        carry = jnp.expand_dims(carry, tuple(range(carry.ndim, carry.ndim + len(state.shape) - 1)))
    dtype = result_type(state.dtype, carry)
    if jnp.iscomplexobj(carry) and not jnp.issubdtype(state.dtype, jnp.complexfloating):
        raise ValueError(f"initial_carry is {carry.dtype}; expected real numbers")
    return jnp.broadcast_to(carry, (*inputs.shape[1:-1], *state.shape)).astype(dtype)


def zero_padding(x: Any, seq_lengths: Int[Array, "*B"] | None) -> Any:
    """x `(T, *B)` or `(T, *B, ...)` with zeros (or False) on padding, whatever was there."""
    if seq_lengths is None:
        return x
    return jnp.where(steps(x) < _with_axes(seq_lengths[None], x.ndim), x, jnp.zeros_like(x))


def steps(x: Any) -> Any:
    """0 ... T-1 along the leading axis, `(T, 1, ..., 1)`."""
    return _with_axes(jnp.arange(x.shape[0]), x.ndim)


def _with_axes(x, ndim):
    """x with axes of size 1 behind its own, `ndim` in all."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))
