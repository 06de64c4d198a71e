"""Laws of widths for a budget of parameters."""

import jax
import jax.numpy as jnp
import pytest

from lru.baselines import GRU, LSTM, RHN, GridLSTM
from lru.errors import UserError
from lru.lattice import PSLRU, RGLRU, Lattice
from lru.models import LanguageModel
from lru.models.budget import count_parameters, hidden_size

WIDTHS = {  # for 10 and for 24 million parameters, two layers and a vocabulary of 51
    GRU: (908, 1409),
    LSTM: (787, 1221),
    GridLSTM: (557, 864),
    PSLRU: (787, 1221),
    RGLRU: (704, 1093),
    Lattice: (643, 998),
    RHN: (908, 1410),
}


@pytest.mark.parametrize("stack", WIDTHS, ids=lambda stack: stack.__name__)
def test_widths_of_the_papers_budgets(stack):
    for budget, width in zip((10_000_000, 24_000_000), WIDTHS[stack]):
        assert hidden_size(stack, budget, vocab_size=51, num_layers=2) == width
        assert count_parameters(stack, width, 51, 2) == pytest.approx(budget, rel=0.01)


@pytest.mark.parametrize("stack", WIDTHS, ids=lambda stack: stack.__name__)
def test_the_count_equals_that_of_the_model(stack):
    model = LanguageModel(11, 6, lambda **options: stack(6, 3, **options))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 2), int))
    assert count_parameters(stack, 6, 11, 3) == sum(p.size for p in jax.tree.leaves(shapes))


@pytest.mark.parametrize("depth", [1, 2, 8])
@pytest.mark.parametrize("budget", [500_000, 1_234_567])
def test_the_nearest_width_is_found(depth, budget):
    found = hidden_size(GRU, budget, 27, depth)
    miss = [abs(count_parameters(GRU, found + d, 27, depth) - budget) for d in (-1, 0, 1)]
    assert min(miss) == miss[1]


def test_a_width_far_from_the_budget_is_logged(caplog):
    with caplog.at_level("INFO", "lru"):
        width = hidden_size(GridLSTM, 300_000, 51, 8, within=0.05)
    count = count_parameters(GridLSTM, width, 51, 8)
    assert 0.01 < abs(count / 300_000 - 1) < 0.05
    (line,) = caplog.messages
    assert line == (
        f"note: for 300,000 parameters, the nearest width is {width}, with {count:,} parameters, "
        f"{100 * (count / 300_000 - 1):.1f} % more"
    )
    caplog.clear()
    with caplog.at_level("INFO", "lru"):
        hidden_size(GRU, 10_000_000, 51, 2)
    assert not caplog.messages


@pytest.mark.parametrize("budget", [0, 10, 700])
def test_a_budget_that_no_width_meets_raises(budget):
    with pytest.raises(UserError, match="within 1 % of"):
        hidden_size(Lattice, budget, 51, 2)
