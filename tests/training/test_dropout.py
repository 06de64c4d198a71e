"""Laws of dropout in training: a mask is a function of the seed and the step only."""

import jax
import numpy as np
import pytest

from lru.training.config import load_config
from lru.training.experiment import Experiment

SMOKE = "configs/lra_listops.py:smoke"


@pytest.fixture(scope="module")
def loss_of(tmp_path_factory):
    """Returns `loss_of(seed, step)` of one batch with fixed parameters."""
    config = load_config(SMOKE, ["--config.model.dropout=0.5"])
    experiment = Experiment(config, tmp_path_factory.mktemp("data"))
    state = experiment.init_state()
    batch = next(iter(experiment.training_calls(0))).batch(0)
    train = jax.jit(experiment._steps.train_step)

    def loss(seed, step):
        now = state.replace(seed=np.uint32(seed), step=np.int32(step))
        return float(train(now, batch).metrics.loss)

    return loss


def test_each_step_has_its_own_dropout_mask(loss_of):
    assert len({loss_of(0, step) for step in range(5)}) == 5


def test_each_seed_has_its_own_dropout_masks(loss_of):
    assert len({loss_of(seed, 3) for seed in range(5)}) == 5


def test_a_repeated_step_has_the_same_dropout_mask(loss_of):
    assert loss_of(0, 3) == loss_of(0, 3)
