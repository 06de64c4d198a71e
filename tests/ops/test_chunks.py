"""Laws of scans over chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lru.ops.chunks import best_chunk_size, scan_chunks
from lru.ops.recurrence import linear_recurrence

T, B, N = 10, 3, 4


def decaying_sum(backward, decay, carry, x, seq_lengths):
    """A causal body; its lengths are those of the chunk."""
    if seq_lengths is not None:
        x = jnp.where((jnp.arange(len(x))[:, None] < seq_lengths)[..., None], x, 0)
    y, _ = linear_recurrence(decay, x.swapaxes(0, 1), carry, reverse=backward)
    y = y.swapaxes(0, 1)
    if seq_lengths is None:
        return y[0 if backward else -1], y
    last = jnp.zeros_like(seq_lengths) if backward else jnp.maximum(seq_lengths - 1, 0)
    return jnp.take_along_axis(y, last[None, :, None], 0)[0], y


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 10, 99])
@pytest.mark.parametrize("lengths", [None, jnp.array([10, 1, 7])], ids=["whole", "padded"])
@pytest.mark.parametrize("backward", [False, True])
def test_chunks_equal_the_whole_in_value_and_gradient(chunk_size, lengths, backward):
    x, carry = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(T, B, N), (B, N)]))

    def loss(chunk_size, decay, carry, x):
        carry, y = scan_chunks(
            lambda *a: decaying_sum(backward, *a), decay, carry, x,
            chunk_size=chunk_size, seq_lengths=lengths, reverse=backward,
        )  # fmt: skip
        valid = True if lengths is None else (jnp.arange(T)[:, None] < lengths)[..., None]
        y = jnp.where(valid, y, 0)
        return jnp.sum(y**2) + jnp.sum(carry**3), (carry, y)

    decay, arguments = jnp.linspace(0.5, 0.9, N), (1, 2, 3)
    if backward:  # from the right, this body would pass a carry through the padding
        carry, arguments = jnp.zeros_like(carry), (1, 3)
    gradient = jax.jit(jax.value_and_grad(loss, arguments, has_aux=True), static_argnums=0)
    got, want = gradient(chunk_size, decay, carry, x), gradient(0, decay, carry, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


def test_a_chunk_without_valid_steps_keeps_the_carry():
    """The body may change the carry on padding."""

    def body(_, carry, x, seq_lengths):
        return carry + 1, x

    carry, _ = scan_chunks(
        body,
        None,
        jnp.zeros((B, 1)),
        jnp.ones((T, B, 1)),
        chunk_size=2,
        seq_lengths=jnp.array([10, 0, 7]),
    )
    assert carry[:, 0].tolist() == [5, 0, 4]


@given(time=st.integers(1, 10**6), batch=st.integers(1, 64), width=st.sampled_from([4, 512, 2048]))
def test_chunks_are_equal_and_fit(time, batch, width):
    chunk_size = best_chunk_size((time, batch), width)
    chunks = -(-time // chunk_size)
    assert 0 <= chunks * chunk_size - time < chunks  # at most one step of padding per chunk
    assert chunk_size <= 16 or chunk_size * batch * width * 4 <= 2**21
