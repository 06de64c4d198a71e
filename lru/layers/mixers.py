"""Base classes of layers and of their directions over time, and the call that the layers share.

This module handles the order of axes, checks of arguments, padding, resets, timesteps, one or two
directions, and chunks. By default, a direction has the form

    h_k = f(A h_{k-1} + B u_k),   y_k = C h_k + D u_k          f(0) = 0

Other directions, such as stacks of gated cells, override `Direction.chunk`.

Inside a layer's call, time is the first axis, `(T, ..., H)`, because recurrences scan over the
leading axis. Thus the states, which may be wider than the inputs, are never transposed.
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

from lru.layers.padding import flip, right_to_left, steps, with_axes, zero_padding
from lru.ops.arguments import as_array, as_lengths, as_resets, as_timesteps
from lru.ops.array_typing import (
    Array,
    ArrayLike,
    Carry,
    LayerOptions,
    Lengths,
    Resets,
    Shape,
    Timesteps,
)
from lru.ops.chunks import resolve_chunk_size, scan_chunks
from lru.ops.dtypes import promoted, result_type
from lru.ops.recurrence import earlier, fits, zero_where


class Direction(struct.PyTreeNode):
    """One direction of a layer: its weights, and the layer's equations as methods.

    A subclass defines `d_model`, `state`, and the methods `input_projection`, `transition`,
    `recurrence` and `output_projection`. Instead of these methods, it may override `chunk`, to
    compute the outputs in another way. In arrays of several steps, time is the first axis. N stands
    for all axes of one sequence's state.
    """

    @property
    def d_model(self) -> int:
        """H, the width of inputs and outputs."""
        raise NotImplementedError

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        """The shape of one sequence's state, and the least precise type that the state may have."""
        raise NotImplementedError

    def encode(self, carry: Any) -> Any:
        """Converts a carry `(..., N)` to the form in which `recurrence` takes the state."""
        return carry

    def decode(self, h: Any) -> Any:
        """Converts a state, in the form that `recurrence` returns, to a carry `(..., N)`."""
        return h

    def input_projection(self, u: Any) -> Any:
        """Returns B u for inputs `(T, ..., H)`."""
        raise NotImplementedError

    def transition(self, h: Any) -> Any:
        """Returns A h for one state `(..., N)`; with timesteps, A_k h for all k, `(T, ..., N)`."""
        raise NotImplementedError

    def recurrence(self, x: Any, h0: Any, clear: Any, reverse: bool) -> tuple[Any, Any]:
        """Returns all states h_k = f(A h_{k-1} + x_k), `(T, ..., N)`, and the final state.

        f is the identity in a linear layer. The final state is that after the last step consumed.

        Args:
          x: B u, `(T, ..., N)`.
          h0: the state before the first step consumed, `(..., N)`; None means zero.
          clear: `(T, ...)`, with axes of size 1 in place of N; True at a step clears the state
            before that step is consumed, as in `lru.linear_recurrence`. None means that the state
            is never cleared.
          reverse: whether to consume the last step first.
        """
        raise NotImplementedError

    def output_projection(self, h: Any, u: Any) -> Any:
        """Returns C h + D u for states `(T, ..., N)` and inputs `(T, ..., H)`.

        If a layer has two directions, only one of them adds D u.
        """
        raise NotImplementedError

    def chunk_steps(self, time_and_batch: Shape, reset: Resets, timesteps: Timesteps) -> int:
        """Returns the number of steps per chunk, 0 for all, for inputs `(*time_and_batch, H)`.

        A direction that can run in chunks has a field `chunk_size`; see `lru.LRU`.
        """
        chunk_size, arrays = getattr(self, "chunk_size", 0), 1 if timesteps is None else 2
        return chunk_size_for_state(chunk_size, time_and_batch, self.state, arrays)

    def with_timesteps(self, timesteps: Any) -> Any:
        """Returns this direction with the coefficients of steps of the given durations.

        Args:
          timesteps: the duration of each step in units of the regular step, `(T, ...)`, or `(...)`
            for one step; 0 on padding.

        Raises:
          ValueError: if the layer does not take timesteps.
        """
        raise ValueError(
            "timesteps are given to a layer that does not support them; use lru.LRU, S5, S4D, or "
            "DiagonalRNN with the parameterization 'exp' or 'stable_exp', or leave timesteps out"
        )

    def chunk(
        self, carry: Any, inputs_and_reset: Any, seq_lengths: Lengths, *, reverse: bool
    ) -> tuple[Any, Any]:
        """Runs this direction on whole sequences, or on one chunk of each.

        Args:
          carry: the carry before the first step consumed, `(..., N)`; None means zero, and is
            allowed only for whole sequences.
          inputs_and_reset: the inputs `(T, ..., H)`, and the resets `(T, ...)` or None.
          seq_lengths: `(...)`, the number of valid steps of each sequence, from 0 to T; None if all
            are valid.
          reverse: whether to go right to left.

        Returns:
          The carry after the last valid step consumed, and the outputs in the order of the inputs.
          If a sequence has no valid step, a zero carry stays zero, but another carry may change;
          `scan_chunks` then keeps the previous carry.
        """
        u, reset = inputs_and_reset
        h0 = None if carry is None else self.encode(full_state(carry, u, self.state))
        u = zero_padding(u, seq_lengths)
        x = self.input_projection(u)
        if reset is not None:
            reset = with_axes(reset, x.ndim)
        clear = reset
        if reverse and seq_lengths is not None and h0 is not None:
            # Padding comes first. Its x is zero, so a zero state stays zero until the first valid
            # step consumed, where the given carry enters. The transposed recurrence carries
            # gradients into the padding, but there they multiply zero inputs and zero states.
            enters = steps(x) == with_axes(seq_lengths[None], x.ndim) - 1
            entering = self.transition(h0)
            if entering.ndim < x.ndim:  # the same at all steps
                entering = entering[None]
            x, entering = promoted(x, entering)
            x, h0 = x + jnp.where(enters, entering, jnp.zeros_like(x)), None
        if reverse and reset is not None:  # clear the state after the reset step, not before
            clear = earlier(reset, jnp.zeros_like(reset[:1]), reverse=True)
        h, h_last = self.recurrence(x, h0, clear, reverse)
        if reverse and reset is not None:
            h_last = zero_where(reset[0], h_last)
        if not reverse and seq_lengths is not None:  # padding comes last
            last = with_axes(jnp.maximum(seq_lengths - 1, 0)[None], h.ndim)
            h_last = jnp.take_along_axis(h, last, axis=0)[0]
        return self.decode(h_last), zero_padding(self.output_projection(h, u), seq_lengths)


class Mixer(nn.Module, kw_only=True):
    """Base class of layers that move information along time, with outputs as wide as their inputs.

    A subclass creates its parameters in `directions`, and inherits a call that has the arguments of
    `flax.linen.RNN`'s call and, in addition, `reset` and `timesteps`.

    Attributes:
      time_major, return_carry, reverse, keep_order: the defaults of these arguments of the call,
        as in `flax.linen.RNN`; keyword arguments only.
    """

    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False

    @property
    def causal(self) -> bool:
        """True if a sequence can run chunk by chunk, because no output depends on a later input."""
        return False

    @nn.nowrap
    def chunked_state(self) -> jax.ShapeDtypeStruct | None:
        """Returns the shape and narrowest type of one sequence's state, to choose a chunk size.

        Returns None if the layer cannot run in chunks, or can do so only in some calls. A layer for
        which this method does not return None must have an attribute `chunk_size`.
        """
        return None

    @nn.nowrap
    def modes(self, params: Any) -> tuple[Any, ...]:
        """Returns the modes of each direction, if the layer has modes.

        Args:
          params: the layer's parameters, by name.

        Returns:
          One `lru.layers.state_space.Modes` per direction; `()` if the layer is not a linear
          recurrence of independent modes.
        """
        return ()

    @nn.nowrap
    def rematerialises(self, time_and_batch: Shape) -> bool:
        """Returns whether every call on inputs `(*time_and_batch, H)` runs in several chunks.

        If so, the layer stores little for the backward pass.
        """
        state = self.chunked_state()
        if state is None:
            return False
        chunk_size = chunk_size_for_state(self.chunk_size, time_and_batch, state)
        return chunk_size not in (0, time_and_batch[0])

    def directions(self, inputs: Any) -> Sequence[Direction]:
        """Declares the parameters; returns one direction, or two that run in opposite orders.

        Args:
          inputs: the inputs of the call.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define directions")

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
        initial_carry: Carry = None,
        init_key: Any = None,
        seq_lengths: Lengths = None,
        reset: Resets = None,
        timesteps: Timesteps = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Applies the layer to sequences.

        The arguments are those of `flax.linen.RNN`'s call and, in addition, `reset` and
        `timesteps`. If `return_carry`, `time_major`, `reverse` or `keep_order` is None, the layer's
        attribute of that name is used.

        Args:
          inputs: real numbers `(..., T, H)`, with any number of batch axes.
          initial_carry: the state before the first step consumed, `(..., N)` for a state of N
            numbers; zero by default. To continue a sequence, give the carry returned by the call
            for the steps consumed before. A bidirectional layer takes a pair of states: `C` reads
            the first, and `C2` the second. Its results for the chunks of a sequence differ from its
            result for the whole sequence, because one of the two states comes from later steps.
          init_key: unused; `flax.linen.Bidirectional` passes it. The default initial carry is zero,
            not random.
          seq_lengths: integers `(...)`, the number of valid steps of each sequence. A negative
            number means 0, and a number above T means T. Padding follows the valid steps, and
            changes no result, in either direction. Outputs on padding are zero, and the carry is
            the state after the last valid step consumed.
          reset: `(..., T)`; True (or not zero) at the first step of a new sequence. The state is
            never passed between that step and the step to its left, in either direction. Right to
            left, the state is therefore cleared *after* that step, unlike in
            `lru.linear_recurrence`; if that step is the last one consumed, the carry is zero.
          timesteps: positive floating-point numbers `(..., T)`, for unevenly spaced steps:
            `timesteps[..., k]` is the time from step k - 1 to step k, in units of the regular step,
            and `timesteps[..., 0]` is the time between the initial carry's step and the first step
            consumed, in either direction. None means 1 everywhere. Right to left, step k takes the
            time `timesteps[..., k + 1]`, and the last valid step takes `timesteps[..., 0]`. To
            continue a sequence right to left, set `timesteps[..., 0]` to the time from the last
            step of this chunk to the first step of the chunk on its right. Timesteps on padding
            have no effect. Whether timesteps are positive is not checked, because their values may
            be unknown while a program is compiled.
            `lru.LRU`, `S5`, `S4D` and `DiagonalRNN` take timesteps, except a `DiagonalRNN` with the
            parameterization `"real_imag"`.
          return_carry: whether to return `(carry, outputs)` instead of the outputs.
          time_major: whether time is the first axis of inputs, outputs, `reset` and `timesteps`.
          reverse: whether to consume the sequence right to left, and return the outputs in that
            order, with padding still last.
          keep_order: whether to return the outputs in the order of the inputs even in reverse.

        Returns:
          The outputs `(..., T, H)`, or `(carry, outputs)` if `return_carry`.

        Raises:
          ValueError: if the shapes or types of the arguments do not fit together, T is 0, or
            timesteps are given to a layer that takes none.
        """
        flags = with_defaults(
            self,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )
        inputs = as_inputs(inputs)
        return over_time(
            self.directions(inputs),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            reset=reset,
            timesteps=timesteps,
            **flags,
        )


def with_defaults(layer: Any, **flags: bool | None) -> dict[str, Any]:
    """Returns a call's flags; a flag of None becomes the layer's attribute of the same name."""
    return {name: getattr(layer, name) if flag is None else flag for name, flag in flags.items()}


def is_causal(module: Any) -> bool:
    """Returns whether a layer or model declares itself causal, and does not go right to left."""
    return getattr(module, "causal", False) and not getattr(module, "reverse", False)


def as_inputs(inputs: Any) -> Array:
    """Returns a layer's inputs as an array of real numbers with axes for time and width.

    Raises:
      ValueError: if the inputs are not real numbers, or have fewer than two axes.
    """
    inputs = as_array("inputs", inputs)
    if jnp.iscomplexobj(inputs):
        raise ValueError(f"inputs have dtype {inputs.dtype}; expected real numbers")
    if inputs.ndim < 2:
        raise ValueError(f"inputs have shape {inputs.shape}; expected (..., T, H) with T >= 1")
    return inputs


def over_time(
    directions: Sequence[Direction],
    inputs: ArrayLike,
    *,
    initial_carry: Carry = None,
    seq_lengths: Lengths = None,
    reset: Resets = None,
    timesteps: Timesteps = None,
    return_carry: bool = False,
    time_major: bool = False,
    reverse: bool = False,
    keep_order: bool = False,
) -> Any:
    """Runs a layer's directions over time and sums their outputs: the call that layers share.

    Args:
      directions: the layer's directions: one, or two that run in opposite orders.
      inputs, initial_carry, seq_lengths, reset, timesteps: see `Mixer.__call__`.
      return_carry, time_major, reverse, keep_order: see `Mixer.__call__`.

    Returns:
      The outputs, or `(carry, outputs)` if `return_carry`.
    """
    inputs, (first, *others) = as_inputs(inputs), directions
    _check_inputs(inputs, first.d_model, time_major)
    batch = inputs.shape[1:-1] if time_major else inputs.shape[:-2]
    time = inputs.shape[0 if time_major else -2]
    seq_lengths, reset = as_lengths(seq_lengths, batch, time), as_resets(reset, inputs.shape[:-1])
    timesteps = as_timesteps(timesteps, inputs.shape[:-1])
    carries = _initial_carries(initial_carry, len(directions), (*batch, *first.state.shape))
    if not time_major:
        inputs = jnp.moveaxis(inputs, -2, 0)
        reset, timesteps = (v if v is None else jnp.moveaxis(v, -1, 0) for v in (reset, timesteps))
    results = []
    for direction, carry, backward in zip(directions, carries, (reverse, not reverse)):
        chunk_size = direction.chunk_steps(inputs.shape[:-1], reset, timesteps)
        if chunk_size not in (0, inputs.shape[0]) or carry is not None:
            carry = full_state(carry, inputs, direction.state)
        chunk, xs = type(direction).chunk, [inputs, reset]
        if timesteps is not None:
            chunk = _uneven_chunk
            xs.append(right_to_left(timesteps, seq_lengths) if backward else timesteps)
        chunk = functools.partial(chunk, reverse=backward)
        results.append(
            scan_chunks(
                chunk, direction, carry, xs,
                chunk_size=chunk_size, seq_lengths=seq_lengths, reverse=backward,
            )
        )  # fmt: skip
    carry = tuple(carry for carry, _ in results) if others else results[0][0]
    outputs = functools.reduce(operator.add, (y for _, y in results))
    if reverse and not keep_order:
        outputs = flip(outputs, seq_lengths)
    outputs = outputs if time_major else jnp.moveaxis(outputs, 0, -2)
    return (carry, outputs) if return_carry else outputs


def _uneven_chunk(direction, carry, xs, seq_lengths, *, reverse):
    """Runs one chunk with timesteps, and computes the coefficients of its steps only."""
    # The coefficients, `(T, ..., N)`, of all steps at once could take too much memory.
    inputs, reset, timesteps = xs
    direction = direction.with_timesteps(zero_padding(timesteps, seq_lengths))
    return direction.chunk(carry, (inputs, reset), seq_lengths, reverse=reverse)


def _check_inputs(inputs, d_model, time_major) -> None:
    time = inputs.shape[0 if time_major else -2]
    if time == 0 or inputs.shape[-1] != d_model:
        layout = "(T, ..., H)" if time_major else "(..., T, H)"
        raise ValueError(
            f"inputs have shape {inputs.shape}; expected {layout} with T >= 1 and H = {d_model}"
        )


def _initial_carries(initial_carry, count, shape):
    """Returns the carry that each direction starts from; None means zero."""
    if initial_carry is None:
        return (None,) * count
    carries = list(initial_carry) if isinstance(initial_carry, tuple | list) else [initial_carry]
    if len(carries) != count or isinstance(initial_carry, tuple | list) != (count == 2):
        pair = "a pair of arrays, because the layer is bidirectional"
        expected = pair if count == 2 else "one array"
        sequence = isinstance(initial_carry, tuple | list)
        found = type(initial_carry).__name__ + f" of {len(carries)}" * sequence
        raise ValueError(f"initial_carry is a {found}; expected {expected}")
    carries = [as_array("initial_carry", carry) for carry in carries]
    for carry in carries:
        if not fits(carry, shape):
            raise ValueError(f"initial_carry has shape {carry.shape}; expected {shape}")
    return carries


def chunk_size_for_state(
    chunk_size: int | None, time_and_batch: Shape, state: jax.ShapeDtypeStruct, arrays: int = 1
) -> int:
    """Returns the number of steps per chunk, or 0 for all, for a state of the given shape and type.

    Args:
      chunk_size: see `lru.ops.chunks.resolve_chunk_size`.
      time_and_batch: `(T, ...)`, the shape of the inputs without their last axis.
      state: the shape and type of one sequence's state.
      arrays: the number of arrays that a chunk holds, each as large as all its states: the states
        themselves and, with timesteps, the factors of the steps.
    """
    numbers = 2 if jnp.issubdtype(state.dtype, jnp.complexfloating) else 1
    width = arrays * numbers * math.prod(state.shape)
    return resolve_chunk_size(chunk_size, time_and_batch, width)


def full_state(carry: Any, inputs: Any, state: jax.ShapeDtypeStruct) -> Any:
    """Broadcasts a carry to `(..., *state.shape)`, for inputs `(T, ..., H)`; None means zero.

    The result has the common type of the carry and the state.

    Raises:
      ValueError: if the carry is complex and the state is real.
    """
    if carry is None:  # zeros with the sharding of the inputs
        carry = jnp.zeros_like(inputs[0, ..., :1], state.dtype)
        carry = jnp.expand_dims(carry, tuple(range(carry.ndim, carry.ndim + len(state.shape) - 1)))
    dtype = result_type(state.dtype, carry)
    if jnp.iscomplexobj(carry) and not jnp.issubdtype(state.dtype, jnp.complexfloating):
        raise ValueError(f"initial_carry has dtype {carry.dtype}; expected real numbers")
    return jnp.broadcast_to(carry, (*inputs.shape[1:-1], *state.shape)).astype(dtype)
