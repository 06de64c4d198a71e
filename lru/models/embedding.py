"""An embedding of tokens, with a fast gradient on a GPU if the vocabulary is small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lru.ops import platform
from lru.ops.array_typing import Array, ArrayLike, Float, Int
from lru.ops.matmul import by_rows

SMALL_VOCABULARY = 1024  # tokens; for more, one-hot vectors would take too much memory


class Embedding(nn.Module):
    """A layer like `flax.linen.Embed`, with the same parameter.

    The gradient of a row of the table is a sum over all occurrences of the row's token. On a GPU,
    XLA adds the terms by atomic operations, in an order that changes from run to run, or sorts them
    first, which is slow. Therefore, on a GPU, the gradient of a small table is computed as a
    product with one-hot vectors.

    Attributes:
      num_embeddings: V, the number of tokens.
      features: H, the size of each token's vector.
      dtype: the type of the outputs; None means the type of the table.
      embedding_init: the initializer of the table.
    """

    num_embeddings: int
    features: int
    dtype: Any = None
    embedding_init: Callable[..., Any] = nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", out_axis=0
    )

    @nn.compact
    def __call__(self, tokens: ArrayLike) -> Float[Array, "... H"]:
        shape = self.num_embeddings, self.features
        table = self.param("embedding", self.embedding_init, shape, jnp.float32)
        (table,) = nn.dtypes.promote_dtype(table, dtype=self.dtype, inexact=False)
        if platform.is_gpu() and self.num_embeddings <= SMALL_VOCABULARY:
            return lookup(table, jnp.asarray(tokens))
        return jnp.take(table, tokens, axis=0)


@jax.custom_jvp
def lookup(table: Float[Array, "V H"], tokens: Int[Array, "..."]) -> Float[Array, "... H"]:
    """Returns `jnp.take(table, tokens, axis=0)`; derivatives are products with one-hot vectors.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> table, tokens = jnp.ones((3, 2)), jnp.array([0, 2, 2])
      >>> jax.grad(lambda table: lookup(table, tokens).sum())(table)[:, 0].tolist()
      [1.0, 0.0, 2.0]
    """
    return jnp.take(table, tokens, axis=0)


@lookup.defjvp
def _lookup_jvp(primals: Any, tangents: Any) -> Any:
    (table, tokens), (dtable, _) = primals, tangents
    one_hot = jax.nn.one_hot(tokens, len(table), dtype=dtable.dtype)

    def rows(x):  # full precision, as in a sum over occurrences
        return jnp.matmul(x, dtable, precision=lax.Precision.HIGHEST)

    return lookup(table, tokens), by_rows(rows, one_hot)
