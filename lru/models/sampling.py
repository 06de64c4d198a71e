"""Sampling from a language model, with constant memory and constant time per token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from lru.models.streaming import stream

UNKNOWN = 0


def sample(
    model: nn.Module,
    variables: Any,
    prompt: Sequence[int],
    *,
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Iterator[int]:
    """Draws an endless sequence of tokens, each from the model's prediction of the next token.

    The probability of a token is proportional to exp(logit / temperature). Token 0, which
    represents characters outside the vocabulary, is never drawn.

    Args:
      model: an `lru.models.LanguageModel`.
      variables: the model's variables, as returned by its `init`.
      prompt: the tokens to continue, at least one.
      seed: the seed of the random draws.
      temperature: the divisor of the logits. Below 1, likely tokens become more frequent; at 0, the
        likeliest token is drawn every time.
      top_k: the number of likeliest tokens to draw from; None for all tokens.

    Returns:
      An iterator over the tokens that follow the prompt.

    Raises:
      ValueError: if the prompt is empty, or `temperature` or `top_k` is out of range.

    Example:
      >>> import functools, itertools, jax, jax.numpy as jnp
      >>> from lru.lattice import Lattice
      >>> from lru.models import LanguageModel
      >>> model = LanguageModel(5, 8, functools.partial(Lattice, 8, 2))
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 1), int))
      >>> tokens = sample(model, variables, [1, 2], seed=0)
      >>> len(list(itertools.islice(tokens, 20)))
      20
    """
    if len(prompt) == 0:
        raise ValueError("the prompt is empty; expected at least one token")
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(
            f"temperature={temperature} and top_k={top_k}; expected temperature >= 0 and top_k >= 1"
        )
    return _sample(model, variables, prompt, np.random.default_rng(seed), temperature, top_k)


def _sample(model, variables, prompt, rng, temperature, top_k) -> Iterator[int]:
    step, carry = stream(model, variables, jnp.zeros((1, 1), jnp.int32))
    for token in prompt:
        carry, logits = step(carry, jnp.full((1, 1), token, jnp.int32))
    while True:
        token = _draw(np.array(logits[0, 0], np.float64), rng, temperature, top_k)
        yield token
        carry, logits = step(carry, jnp.full((1, 1), token, jnp.int32))


def _draw(logits: np.ndarray, rng: np.random.Generator, temperature: float, top_k: int | None):
    logits[UNKNOWN] = -np.inf
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits[np.argsort(-logits, kind="stable")[top_k:]] = -np.inf
    odds = np.exp((logits - logits.max()) / temperature)
    return int(rng.choice(len(odds), p=odds / odds.sum()))
