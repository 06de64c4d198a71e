"""Training on several devices, which divide batches and the time of each example."""

import jax
import numpy as np
import pytest

from lru import export
from lru.errors import UserError
from lru.training.config import load_config
from lru.training.experiment import Experiment
from lru.training.loop import train_and_evaluate

LISTOPS = "configs/lra_listops.py:smoke"
SMOKE = "configs/lra_pathx.py:smoke"
TIME = ["model.mixer.sequence_axis=time"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def make(data_dir, number, *options, config=SMOKE):
    overrides = [f"--config.{option}" for option in options]
    return Experiment(load_config(config, overrides), data_dir, devices=jax.devices()[:number])


def losses(experiment):
    state, calls = experiment.init_state(), experiment.training_calls(0)
    for _ in range(2):
        state = experiment.train_steps(state, next(calls))
    return float(state.metrics.loss), experiment.evaluate(state, "test")["loss"]


@pytest.mark.several_devices
def test_a_batch_size_that_is_not_a_multiple_of_the_devices_raises(data_dir):
    with pytest.raises(UserError, match="batch_size is 7; expected a multiple of 2"):
        make(data_dir, 2, "train.batch_size=7", config=LISTOPS)


@pytest.mark.several_devices
def test_one_and_two_devices_give_the_same_losses(data_dir):
    one, two = (losses(make(data_dir, number, config=LISTOPS)) for number in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.several_devices
@pytest.mark.parametrize(
    ("devices", "time", "options"),
    [(4, 4, []), (4, 2, []), (4, 4, ["model.mixer.bidirectional=False", "model.norm=layer"])],
)
def test_devices_that_share_the_time_train_like_one(devices, time, options, data_dir):
    wanted = losses(make(data_dir, 1, *options))
    found = losses(make(data_dir, devices, *options, *TIME, f"train.time_devices={time}"))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.several_devices
def test_a_run_that_divided_the_time_is_exported_for_one_device(data_dir, tmp_path):
    options = [f"--config.{option}" for option in (*TIME, "train.time_devices=8")]
    record = train_and_evaluate(load_config(SMOKE, options), tmp_path / "run", data_dir=data_dir)
    about = export.export_run(tmp_path / "run", tmp_path / "out")
    assert about["config"]["train"]["time_devices"] == 1
    assert about["config"]["model"]["mixer"]["sequence_axis"] is None
    model, variables = export.load(tmp_path / "out")
    source = Experiment(load_config(SMOKE), data_dir, devices=jax.devices()[:1]).dataset
    examples = [source.source("test")[i] for i in range(len(source.source("test")))]
    inputs = source.decode(np.stack([example["inputs"] for example in examples]))
    found = model.apply(variables, inputs).argmax(-1)
    accuracy = np.mean(found == np.array([example["label"] for example in examples]))
    np.testing.assert_allclose(accuracy, record["test"]["accuracy"])


@pytest.mark.several_devices
def test_each_of_four_devices_needs_about_a_quarter_of_the_memory(data_dir):
    """Uses a wider model than the smoke test, so that its activations outweigh all else."""

    def temporary_bytes(number, *options):
        sizes = ["model.d_model=16", "model.mixer.d_state=32", "train.batch_size=4"]
        experiment = make(data_dir, number, *sizes, *options)
        call = next(experiment.training_calls(0))
        program = experiment.train_steps.lower(experiment.init_state(), call).compile()
        return program.memory_analysis().temp_size_in_bytes

    one = temporary_bytes(1, "model.mixer.chunk_size=0", "model.remat=False")
    four = temporary_bytes(4, *TIME, "train.time_devices=4", "model.remat=False")
    assert four < 0.35 * one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TIME, "time_devices is 1 and config.model.mixer.sequence_axis is 'time'; expected"),
        (["model.mixer.sequence_axis=x"], "sequence_axis is 'x'; expected sequence_axis='time' if"),
    ],
)
def test_a_mixer_and_devices_that_do_not_agree_raise(options, message, data_dir):
    with pytest.raises(UserError, match=message):
        make(data_dir, 1, *options)


@pytest.mark.several_devices
@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (4, ["train.time_devices=2"], "time_devices is 2 and config.model.mixer.sequence_axis"),
        (4, [*TIME, "train.time_devices=3"], "time_devices is 3; expected a divisor of 4"),
        (7, [*TIME, "train.time_devices=7"], "cannot be divided among the 7 devices"),
    ],
)
def test_devices_that_cannot_share_the_time_raise(number, options, message, data_dir):
    with pytest.raises(UserError, match=message):
        make(data_dir, number, *options)
