"""The options of the configs equal the paper's tables, and all variants train."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.errors import UserError
from lru.training.build import build
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import train_and_evaluate
from lru.training.run_config import differences

ROOT = Path(__file__).resolve().parents[2]
PI = math.pi
# Orvieto et al. (2023), Table 10, with the rings of Table 8.
COLUMNS = """task depth H N steps batch factor decay dropout r_min r_max phase two_ways glu"""
TABLE_10 = [
    ("cifar", 6, 512, 384, 180_000, 50, 0.25, 0.05, 0.1, 0.9, 0.999, 2 * PI, False, "full"),
    ("listops", 6, 128, 256, 80_000, 32, 0.5, 0.05, 0.0, 0.0, 0.99, 2 * PI, False, "full"),
    ("text", 6, 256, 192, 50_000, 32, 0.1, 0.05, 0.1, 0.5, 0.9, 2 * PI, False, "full"),
    ("retrieval", 6, 128, 256, 100_000, 64, 0.5, 0.05, 0.1, 0.5, 0.9, 2 * PI, False, "full"),
    ("pathfinder", 6, 192, 256, 500_000, 64, 0.25, 0.05, 0.0, 0.9, 0.999, 2 * PI, True, "full"),
    ("pathx", 6, 128, 256, 250_000, 32, 0.25, 0.05, 0.0, 0.999, 0.9999, PI / 10, True, "half"),
]
# Table 8, "Stable Exp Param w/ Ring Init"; Path-X fails with any.
RING_WITHOUT_GAMMA = {
    "cifar": (0.9, 0.99),
    "listops": (0.0, 1.0),
    "text": (0.0, 0.9),
    "retrieval": (0.5, 0.9),
    "pathfinder": (0.9, 0.999),
}
TASKS = [row[0] for row in TABLE_10]
ABLATIONS = ["relu", "tanh", "linear", "real_imag", "exp", "stable_exp", "ring", "s4d", "s5"]


def load(task, variant=""):
    return load_config(f"configs/lra_{task}.py{':' if variant else ''}{variant}")


@pytest.mark.parametrize("row", TABLE_10, ids=TASKS)
def test_config_has_every_number_of_table_10(row):
    c = load(row[0])
    (_, factor, no_decay), (_, base, decay) = c.optimizer.groups
    mixer = c.model.mixer
    assert row == (
        row[0], c.model.num_layers, c.model.d_model, mixer.d_state, c.train.steps,
        c.train.batch_size, factor, decay, c.model.dropout, mixer.r_min, mixer.r_max,
        mixer.max_phase, mixer.bidirectional, c.model.glu,
    ), COLUMNS  # fmt: skip
    assert (base, no_decay, c.model.norm, mixer.type) == (1.0, 0.0, "batch", "lru:LRU")
    assert (c.optimizer.warmup_fraction, c.optimizer.end_learning_rate) == (0.1, 1e-7)  # App. D.2


def test_learning_rate_of_scifar_is_the_papers():
    assert load("cifar").optimizer.learning_rate == 0.004  # Appendix C.2


def parameters(task, variant="", vocab_size=None):
    """Returns the shapes of a config's parameters, by path."""
    config = load(task, variant)
    create = build(config.model, "config.model", later=("num_classes", "vocab_size"))
    classes = 10 if task in ("cifar", "listops") else 2
    pixels = jnp.ones((1, 4, 3 if task == "cifar" else 1))
    characters = jnp.ones((1, 2, 4) if task == "retrieval" else (1, 4), int)
    model = create(num_classes=classes, vocab_size=vocab_size)
    inputs = characters if vocab_size else pixels
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    leaves = jax.tree_util.tree_flatten_with_path(shapes)[0]
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize(
    "task, vocab_size, millions",
    [
        ("cifar", None, 7.89),
        ("listops", 18, 1.00),
        ("text", 135, 2.01),
        ("retrieval", 98, 1.07),
        ("pathfinder", None, 2.22),
        ("pathx", None, 1.29),
    ],
)
def test_models_have_the_parameter_counts_that_table_10_implies(task, vocab_size, millions):
    count = sum(math.prod(shape) for shape in parameters(task, "", vocab_size).values())
    assert count == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(
    "ablation, slow",
    [
        ("", "nu_log theta_log gamma_log B_re B_im"),
        ("relu", "A B"),
        ("real_imag", "a b B_re B_im"),
        ("exp", "nu theta B_re B_im"),
        ("stable_exp", "nu_log theta B_re B_im"),
        ("ring", "nu_log theta B_re B_im"),
        ("s4d", "nu_log Lambda_im log_step"),
        ("s5", "Lambda_re Lambda_im B_re B_im log_step"),
    ],
)
def test_factor_applies_to_a_b_gamma_and_delta_alone(ablation, slow):
    (pattern, factor, decay), (rest, _, _) = load("listops", ablation).optimizer.groups
    assert (factor, decay, rest) == (0.5, 0.0, ".*")
    found = {
        path for path in parameters("listops", f"smoke,{ablation}", 18) if re.search(pattern, path)
    }
    assert found == {f"stack/blocks_{i}/mixer/{name}" for i in range(2) for name in slow.split()}


@pytest.mark.parametrize("task", TASKS)
def test_ablations_have_the_rings_of_table_7_and_table_8(task):
    for ablation in ("real_imag", "exp", "stable_exp"):
        mixer = load(task, ablation).model.mixer
        assert (mixer.r_min, mixer.r_max, mixer.max_phase) == (0.0, 1.0, 2 * PI)
        assert mixer.parameterization == ablation
    ring, lru = load(task, "ring").model.mixer, load(task).model.mixer
    assert ring.parameterization == "stable_exp" and ring.max_phase == lru.max_phase
    if task in RING_WITHOUT_GAMMA:
        assert (ring.r_min, ring.r_max) == RING_WITHOUT_GAMMA[task]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablation_changes_the_mixer_alone(task, ablation):
    """N, the directions and the dtype do not change."""
    changed = set(differences(load(task).to_dict(), load(task, ablation).to_dict()))
    changed.discard("model.chunk_size")  # S4D's convolution takes all steps at once
    assert changed and all(key.startswith("model.mixer.") for key in changed)
    kept = {"model.mixer.d_state", "model.mixer.bidirectional", "model.mixer.dtype"}
    assert not changed & kept


@pytest.mark.parametrize(
    "task, script",
    [
        ("cifar", dict(blocks=3, c_init="lecun_normal", clip_eigenvalues=True)),
        ("listops", dict(blocks=8, c_init="lecun_normal")),
        ("text", dict(blocks=12, c_init="lecun_normal")),
        ("retrieval", dict(blocks=16, c_init="trunc_standard_normal")),
        ("pathfinder", dict(blocks=8, c_init="trunc_standard_normal")),
        ("pathx", dict(blocks=16, c_init="complex_normal", dt_min=1e-4)),
    ],
)
def test_s5_has_the_options_of_its_own_script(task, script):
    mixer = load(task, "s5").model.mixer.to_dict()
    rest = {"type", "d_state", "bidirectional", "dtype", "method"}
    assert {name: value for name, value in mixer.items() if name not in rest} == script


def test_s5_has_one_block_if_n_is_no_multiple():
    assert load("text", "quick,s5").model.mixer.blocks == 1  # N = 32 is not a multiple of 24


def test_s4d_has_the_step_sizes_of_its_own_config():
    assert load("pathx", "s4d").model.mixer.dt_min == 1e-4
    assert "dt_min" not in load("text", "s4d").model.mixer  # the layer's default, 1e-3


def test_every_ablation_except_dense_has_a_method():
    for ablation in ABLATIONS:
        assert ("method" in load("text", ablation).model.mixer) == (ablation not in ABLATIONS[:3])


@pytest.mark.parametrize("task", TASKS)
def test_quick_keeps_the_rules_of_the_experiment(task):
    paper, quick = load(task), load(task, "quick")
    assert quick.optimizer == paper.optimizer
    assert quick.data.type == paper.data.type
    same = ("type", "norm", "glu", "dropout", "pooling")
    assert [quick.model[name] for name in same] == [paper.model[name] for name in same]
    ring = ("type", "r_min", "r_max", "max_phase", "bidirectional")
    assert [quick.model.mixer[name] for name in ring] == [paper.model.mixer[name] for name in ring]


def test_size_and_ablation_can_be_in_any_order():
    assert load("text", "quick,ring") == load("text", "ring,quick")


@pytest.mark.parametrize(
    "variant, words",
    [
        ("quik", "variant 'quik' does not exist; did you mean 'quick'?"),
        ("quick,smoke", "names quick and smoke; choose one"),
        ("ring,s5", "names ring and s5; choose one"),
    ],
)
def test_unknown_variant_raises(variant, words):
    with pytest.raises(UserError, match=re.escape(words)):
        load("text", variant)


def test_listops_has_the_options_of_the_long_range_arena():
    data = load("listops").data
    want = dict(max_depth=10, max_args=10, min_length=500, max_length=2000, pad_to=2048)
    want |= dict(num_train=96_000, num_validation=2_000, num_test=2_000, source="generated")
    assert {name: data[name] for name in want} == want
    quick = load("listops", "quick").data
    assert (quick.max_depth, quick.max_args) == (10, 10)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains(task, data_dir, tmp_path):
    config = load(task, "smoke")
    config.train.update(steps=4, log_every=4, eval_every=4, checkpoint_every=4)
    record = train_and_evaluate(config, tmp_path, data_dir=data_dir)
    assert record["steps"] == 4 and 0 <= record["test"]["accuracy"] <= 1


BOTH_WAYS = [("pathfinder", "linear"), ("pathfinder", "s4d"), ("pathfinder", "s5")]


@pytest.mark.parametrize(
    "task, ablation", [("listops", ablation) for ablation in ABLATIONS] + BOTH_WAYS
)
def test_every_ablation_trains(task, ablation, data_dir):
    """Takes training steps without the loop, which does not depend on the ablation."""
    experiment = Experiment(load(task, f"smoke,{ablation}"), data_dir)
    before = experiment.init_state()
    untouched = jax.tree.map(np.asarray, before.params)  # the state is donated
    state = experiment.train_steps(before, next(iter(experiment.training_calls(0))))
    assert state.step > 0 and state.diverged_at == -1
    moved = jax.tree.map(lambda x, y: (x != y).any(), untouched, state.params)
    assert all(jax.tree.leaves(moved)), moved
    assert 0 <= experiment.evaluate(state, "test")["accuracy"] <= 1


# Options that the paper does not give, from the code of the Long Range Arena, S4 and S5.
NOT_IN_THE_PAPER = [
    ("cifar", 4e-3, 0.95, dict(source="released", color="rgb", num_validation=5_000, seed=0)),
    ("listops", 4e-3, 0.95, dict(source="generated", pad_to=2_048, max_length=2_000, seed=0)),
    (
        "text", 4e-3, 0.95,
        dict(source="released", pad_to=4_096, min_freq=15, protocol="held_out",
             num_validation=2_500, seed=0),
    ),
    ("retrieval", 2e-3, 0.95, dict(source="released", release="lra", pad_to=4_000)),
    (
        "pathfinder", 4e-3, 0.9,
        dict(source="generated", resolution=32, difficulty="hard", num_images=200_000, seed=0),
    ),
    (
        "pathx", 2e-3, 0.9,
        dict(source="generated", resolution=128, difficulty="hard", num_images=200_000, seed=0),
    ),
]  # fmt: skip


@pytest.mark.parametrize("task, rate, momentum, data", NOT_IN_THE_PAPER, ids=TASKS)
def test_options_missing_in_the_paper_are_those_of_published_code(task, rate, momentum, data):
    config = load(task)
    assert (config.optimizer.learning_rate, config.model.norm_momentum) == (rate, momentum)
    assert {name: config.data[name] for name in data} == data
    assert (config.optimizer.b1, config.optimizer.b2, config.optimizer.eps) == (0.9, 0.999, 1e-8)
    assert (config.model.pooling, config.model.tie_dropout) == ("mean", True)
    kind = "Matcher" if task == "retrieval" else "Classifier"
    assert config.model.type == f"lru.models:Sequence{kind}"
    assert (config.seed, config.train.matmul_precision, config.model.dtype) == (
        0,
        "auto",
        "float32",
    )


def test_every_config_loads_by_config_flags_from_any_directory(tmp_path):
    files = sorted((ROOT / "configs").glob("*.py"))
    defined = "\n".join(
        f"config_flags.DEFINE_config_file('config{number}', {str(file)!r})"
        for number, file in enumerate(files)
    )
    script = f"""
from absl import app, flags
from ml_collections import config_flags
{defined}
def main(_):
    for number in range({len(files)}):
        print(flags.FLAGS[f"config{{number}}"].value.seed)
app.run(main)
"""
    (tmp_path / "program.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["0"] * len(files), done.stderr
