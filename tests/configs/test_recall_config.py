"""The config of Recall: ablations change only the recurrence, and all of them train."""

import math
import re

import jax
import numpy as np
import pytest
from report.rows import RECALL_ABLATIONS, RECALL_LENGTHS, RECALL_RATES, recall

from lru.errors import UserError
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.run_config import differences

FULL, SMALL = 2 * math.pi, math.pi / 10
ABLATIONS = [ablation for ablation in RECALL_ABLATIONS if ablation != "lru"]


def load(variant=""):
    return load_config(f"configs/recall.py{':' if variant else ''}{variant}")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablation_changes_the_mixer_alone(ablation):
    changed = set(differences(load().to_dict(), load(ablation).to_dict()))
    changed.discard("model.chunk_size")  # S4D's convolution takes all steps at once
    assert changed and all(key.startswith("model.mixer.") for key in changed)
    assert not changed & {"model.mixer.d_state", "model.mixer.bidirectional"}


@pytest.mark.parametrize(
    "ablation, kind, phase",
    [
        ("", "LRU", SMALL),
        ("full_phase", "LRU", FULL),
        ("ring", "DiagonalRNN", SMALL),
        ("ring_full_phase", "DiagonalRNN", FULL),
    ],
)
def test_gamma_and_phase_are_ablated_one_by_one_on_the_same_ring(ablation, kind, phase):
    mixer = load(ablation).model.mixer
    assert mixer.type.endswith(f":{kind}") and mixer.max_phase == phase
    assert (mixer.r_min, mixer.r_max) == (0.999, 0.9999)


@pytest.mark.parametrize("ablation", ["real_imag", "exp", "stable_exp"])
def test_other_diagonal_ablations_start_on_the_full_disk(ablation):
    mixer = load(ablation).model.mixer
    assert (mixer.r_min, mixer.r_max, mixer.max_phase) == (0.0, 1.0, FULL)


@pytest.mark.parametrize("name", ["s4d", "s5"])
def test_s4d_and_s5_have_default_and_fitting_time_scales(name):
    usual, fit = load(name).model.mixer.to_dict(), load(f"{name}_fit").model.mixer.to_dict()
    assert "dt_min" not in usual and "dt_max" not in usual  # the layer's defaults: 1e-3 to 1e-1
    assert fit == usual | dict(dt_min=1e-4, dt_max=1e-3)


def test_model_reads_the_last_step_and_recalls_the_first():
    config = load()
    assert (config.model.pooling, config.data.position) == ("last", 0)
    assert (config.model.num_layers, config.model.norm) == (1, "layer")


def test_no_training_example_repeats():
    for config in (load(), load("quick")):
        assert config.train.steps * config.train.batch_size <= config.data.num_train


def test_learning_rate_is_constant(data_dir):
    schedule = Experiment(load("smoke"), data_dir).base_schedule
    assert {float(schedule(step)) for step in range(6)} == {np.float32(3e-3)}


def test_unknown_ablation_raises():
    with pytest.raises(UserError, match=re.escape("did you mean 'full_phase'")):
        load("full_phas")


@pytest.mark.parametrize("ablation", ["", "full_phase", "ring_full_phase", "s4d_fit", "s5_fit"])
def test_the_ablations_of_recall_alone_train(ablation, data_dir):
    experiment = Experiment(load(f"smoke,{ablation}"), data_dir)
    before = experiment.init_state()
    untouched = jax.tree.map(np.asarray, before.params)  # the state is donated
    state = experiment.train_steps(before, next(iter(experiment.training_calls(0))))
    assert state.step > 0 and state.diverged_at == -1
    moved = jax.tree.map(lambda x, y: (x != y).any(), untouched, state.params)
    assert all(jax.tree.leaves(moved)), moved


def test_every_row_of_the_table_has_its_own_run():
    found = [
        recall(ablation, length, rate)
        for ablation in RECALL_ABLATIONS
        for length in RECALL_LENGTHS
        for rate in RECALL_RATES
    ]
    assert len({row.name for row in found}) == len(found)
    row = recall("ring", 4096, "0.01")
    assert row.name == "ring-table-length=4096-learning_rate=0.01-seed0"
    config = row.load()
    assert (config["data"]["length"], config["optimizer"]["learning_rate"]) == (4096, 0.01)
    assert config["optimizer"]["end_learning_rate"] == 0.01  # still constant
