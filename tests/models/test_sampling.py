"""Laws of sampling a text from a model."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lru
from lru.lattice import Lattice
from lru.models import LanguageModel
from lru.models.sampling import sample

MODELS = {
    "lattice": LanguageModel(6, 8, functools.partial(Lattice, 8, 2)),
    "linear": LanguageModel(6, 8, functools.partial(lru.LRU, 8), num_layers=2),
}


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    """A model whose predictions differ from step to step."""
    model = MODELS[request.param]
    variables = jax.jit(model.init)(jax.random.key(1), jnp.ones((1, 1), int))
    return model, jax.tree.map(lambda p: 2 * p, variables)


def draw(trained, prompt, number, **options):
    return list(itertools.islice(sample(*trained, prompt, **options), number))


def test_temperature_0_draws_the_models_likeliest_token(trained):
    model, variables = trained
    prompt = [1, 4, 2]
    found = draw(trained, prompt, 8, seed=0, temperature=0.0)
    logits = jax.jit(model.apply)(variables, jnp.array([prompt + found]))[0]
    likeliest = 1 + jnp.argmax(logits[:, 1:], axis=-1)
    assert found == likeliest[len(prompt) - 1 : -1].tolist()


def test_top_1_equals_temperature_0_at_any_temperature(trained):
    options = dict(temperature=50.0, top_k=1)
    assert draw(trained, [1], 8, seed=3, **options) == draw(
        trained, [1], 8, seed=0, temperature=0.0
    )


def test_the_draws_are_a_function_of_the_seed(trained):
    one, same, other = (draw(trained, [1, 2], 40, seed=seed) for seed in (5, 5, 6))
    assert one == same != other


def test_the_unknown_token_is_never_drawn(trained):
    assert 0 not in draw(trained, [0], 300, seed=0, temperature=20.0)


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_are_drawn_with_the_models_probabilities(top_k, temperature):
    """The first token after a prompt, in 4,000 draws, within four standard errors."""
    from lru.models.sampling import _draw

    logits = np.array([9.0, 0.3, -0.2, 1.0, -2.0])
    odds = np.exp(logits[1:] / temperature)
    if top_k:
        odds[np.argsort(odds)[:-top_k]] = 0
    odds /= odds.sum()
    rng = np.random.default_rng(0)
    found = [_draw(logits.copy(), rng, temperature, top_k) for _ in range(4_000)]
    counts = np.bincount(found, minlength=5)[1:] / 4_000
    assert (np.abs(counts - odds) <= 4 * np.sqrt(odds * (1 - odds) / 4_000)).all()


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [([], {}, "prompt is empty"), ([1], {"temperature": -1.0}, "temperature=-1.0"),
     ([1], {"top_k": 0}, "top_k=0")],
)  # fmt: skip
def test_invalid_arguments_raise(prompt, options, message):
    with pytest.raises(ValueError, match=message):
        sample(MODELS["lattice"], {}, prompt, seed=0, **options)
