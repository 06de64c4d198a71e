"""The configs of the language models have equal budgets and the authors' options, and train."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import lru
from lru.data import dataset_class
from lru.errors import UserError
from lru.models.budget import count_parameters
from lru.training.build import build
from lru.training.config import load_config
from lru.training.loop import train_and_evaluate
from lru.training.names import resolve
from lru.training.run_config import differences

MODELS = ["gru", "ps_lru", "rg_lru", "lru", "lstm", "rhn", "grid_lstm", "linear_lru"]
DATA = {"ptb": 51, "warpeace": 85, "enwik8": 206, "text8": 28}  # V, with one for unknown characters


def load(model, variant="", *overrides):
    return load_config(f"configs/charlm_{model}.py:{variant}", overrides)


def parameters(config, vocab_size):
    model = build(config.model, "config.model", later=["vocab_size"])(vocab_size=vocab_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 2), int))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("budget", ["10m", "24m", "quick"])
@pytest.mark.parametrize("model", MODELS)
def test_model_has_its_budget_of_parameters_within_one_per_cent(model, budget):
    wanted = {"10m": 10_000_000, "24m": 24_000_000, "quick": 300_000}[budget]
    for data, vocab_size in DATA.items():
        found = parameters(load(model, f"{data},{budget}"), vocab_size)
        assert found == pytest.approx(wanted, rel=0.01), data


@pytest.mark.parametrize("model", MODELS)
def test_every_variant_has_a_width(model):
    """The small budget has few widths to choose from, so parameters may differ by two per cent."""
    for data, depth in itertools.product(DATA, range(1, 9)):
        config = load(model, f"{data},quick,l{depth}")
        stack = {"linear_lru": lru.LRU}.get(model) or resolve(config.model.mixer.type, "c")
        found = count_parameters(stack, config.model.d_model, DATA[data], depth)
        assert found == pytest.approx(300_000, rel=0.021)


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_deeper_models_of_a_budget_are_narrower(depth):
    config = load("lru", f"10m,l{depth}")
    assert config.model.mixer.num_layers == depth
    assert parameters(config, 51) == pytest.approx(10_000_000, rel=0.01)


def test_layers_of_the_talks_models_have_equal_size():
    """Within 0.3 % for widths of the talk; the others have the nearest width."""
    widths = {"gru": 387, "lstm": 335, "grid_lstm": 237, "rg_lru": 300}
    sizes = {}
    for model in MODELS:
        shallow, deep = (load(model, f"talk,l{depth}") for depth in (2, 4))
        assert shallow.model.d_model == deep.model.d_model == widths.get(model, deep.model.d_model)
        sizes[model] = (parameters(deep, 51) - parameters(shallow, 51)) / 2
    for model, size in sizes.items():
        within = 0.003 if model in widths else 0.005
        assert size == pytest.approx(sizes["gru"], rel=within), model
    assert parameters(load("gru", "talk,l2"), 51) == pytest.approx(1.84e6, rel=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_options_are_the_authors(model):
    config = load(model)
    assert (config.optimizer.learning_rate, config.optimizer.end_learning_rate) == (1e-3, 1e-3)
    assert (config.optimizer.warmup_fraction, config.optimizer.groups[0][1:]) == (0.0, (1.0, 0.0))
    assert (config.train.batch_size, config.train.unroll) == (100, 50)
    rule = (config.train.patience, config.train.least_improvement, config.train.improvement_over)
    assert (rule, config.train.select) == ((3, 1e-4, "previous"), "loss")


def test_overridden_learning_rate_is_constant():
    config = load_config("configs/charlm_lru.py", ["--config.optimizer.learning_rate=0.002"])
    assert config.optimizer.end_learning_rate == 0.002


@pytest.mark.parametrize("name", ["ptb", "warpeace", "text8"])
def test_vocabulary_sizes_are_those_of_the_data(name, shared_data, tmp_path):
    """enwik8 is left out: the tests have only a prefix, with fewer different bytes."""
    dataset = dataset_class(name).create(tmp_path, shared_data(name))
    assert dataset.vocab_size == DATA[name]


@pytest.mark.parametrize(
    ("model", "data"),
    [("lru", "ptb"), ("linear_lru", "warpeace"), ("grid_lstm", "enwik8"), ("gru", "text8")],
)
def test_models_of_every_kind_train_on_synthetic_text(model, data, tmp_path):
    config = load(model, f"{data},smoke", "--config.train.epochs=2")
    record = train_and_evaluate(config, tmp_path / "run", data_dir=tmp_path)
    first, last = (loss for _, loss in record["curves"]["validation"])
    assert last < first and record["data"] == "made-up"


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("ptb,10mm", "'10mm' does not exist; did you mean '10m'"),
        ("ptb,text8", "names ptb and text8; choose one"),
        ("l2,l4", "names l2 and l4; choose one"),
    ],
)
def test_unknown_variant_raises(variant, message):
    with pytest.raises(UserError, match=message):
        load("lru", variant)


@pytest.mark.parametrize("data", DATA)
def test_default_trains_on_the_whole_released_text_for_100_epochs(data):
    config = load("lru", data)
    assert (config.data.source, config.data.percent, config.data.fraction_test) == (
        "released", 100, "fixed",
    )  # fmt: skip
    assert config.data.get("split") == ("mikolov" if data == "ptb" else None)
    assert (config.train.epochs, config.train.steps, config.train.test_curve) == (100, 0, True)
    assert (config.optimizer.b1, config.optimizer.b2, config.optimizer.eps) == (0.9, 0.999, 1e-8)
    assert (config.train.matmul_precision, config.model.dtype) == ("auto", "float32")


def test_quick_trains_on_a_tenth_of_the_text_for_three_epochs():
    config = load("lru", "quick")
    assert (config.data.percent, config.train.epochs, config.train.batch_size) == (10, 3, 20)


@pytest.mark.parametrize("size", ["10m", "24m", "talk"])
def test_size_of_the_paper_changes_the_width_alone(size):
    changed = differences(load("lru").to_dict(), load("lru", size).to_dict())
    assert changed.keys() <= {"model.d_model", "model.mixer.features"}
