"""The numbers of the configs are those of the paper's tables."""

import math

from lru.training.config import load_config


def test_listops_is_table_10_and_table_8():
    c = load_config("configs/lra_listops.py")
    (pattern, lr_factor, no_decay), (_, base, decay) = c.optimizer.groups
    got = {
        "depth": c.model.num_layers, "H": c.model.d_model, "N": c.model.mixer.d_state,
        "steps": c.train.steps, "batch": c.train.batch_size, "lr_factor": lr_factor,
        "decay": decay, "dropout": c.model.dropout, "r_min": c.model.mixer.r_min,
        "r_max": c.model.mixer.r_max, "max_phase": c.model.mixer.max_phase,
        "bidirectional": c.model.mixer.bidirectional, "glu": c.model.glu, "norm": c.model.norm,
    }  # fmt: skip
    assert got == {
        "depth": 6, "H": 128, "N": 256, "steps": 80_000, "batch": 32, "lr_factor": 0.5,
        "decay": 0.05, "dropout": 0.0, "r_min": 0.0, "r_max": 0.99, "max_phase": 2 * math.pi,
        "bidirectional": False, "glu": "full", "norm": "batch",
    }  # fmt: skip
    assert (base, no_decay) == (1.0, 0.0)
    assert all(name in pattern for name in ("nu_log", "theta_log", "gamma_log", "B_re", "B_im"))


def test_listops_is_made_by_the_rules_of_the_long_range_arena():
    data = load_config("configs/lra_listops.py").data
    want = dict(max_depth=10, max_args=10, min_length=500, max_length=2000, pad_to=2048)
    want |= dict(num_train=96_000, num_validation=2_000, num_test=2_000, source="generated")
    assert {name: data[name] for name in want} == want


def test_quick_changes_the_size_and_none_of_the_rules():
    paper, quick = (load_config(f"configs/lra_listops.py{v}") for v in ("", ":quick"))
    assert (quick.data.max_depth, quick.data.max_args) == (10, 10)
    assert quick.optimizer.groups == paper.optimizer.groups
    assert quick.model.mixer.type == paper.model.mixer.type == "lru:LRU"
