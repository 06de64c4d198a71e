import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.data import cifar10
from lru.data.cifar10 import CIFAR10, CIFAR10Options, grey, held_out, synthetic_images
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
MADE_UP = {"source": "made_up", "made_up_train": 9, "made_up_validation": 4, "made_up_test": 3}
NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


@pytest.fixture(params=["", "cifar-10-batches-bin"])
def released(request, tmp_path, monkeypatch):
    """A directory with four images per file instead of 10,000, and images `(24, 32, 32, 3)`."""
    monkeypatch.setattr(cifar10, "_PER_FILE", 4)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(24, 32, 32, 3), dtype=np.uint8)
    folder = tmp_path / "manual" / request.param
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        rows = [
            bytes([n % 10]) + images[n].transpose(2, 0, 1).tobytes()
            for n in range(4 * i, 4 * i + 4)
        ]
        (folder / name).write_bytes(b"".join(rows))
    return tmp_path / "manual", images


def rows(dataset, split):
    return [(example["inputs"].tobytes(), int(example["label"])) for example in
            dataset.source(split)]  # fmt: skip


def test_inputs_are_the_pixels_of_an_image_line_by_line_as_bytes(released, tmp_path):
    manual, images = released
    dataset = CIFAR10.create(tmp_path, manual, num_validation=5)
    expected = [
        (b"".join(images[n, y, x].tobytes() for y in range(32) for x in range(32)), n % 10)
        for n in range(24)
    ]
    assert rows(dataset, "test") == expected[20:]
    assert sorted(rows(dataset, "train") + rows(dataset, "validation")) == sorted(expected[:20])
    example = dataset.source("train")[0]
    assert {key: (value.dtype, value.shape) for key, value in example.items()} == {
        "inputs": (np.uint8, (1024, 3)),
        "length": (np.int32, ()),
        "label": (np.int32, ()),
    }
    assert example["length"] == dataset.max_length == 1024
    assert (dataset.kind, dataset.vocab_size, dataset.num_classes) == ("full", None, 10)


def test_the_seed_selects_the_validation_images_which_are_not_trained_on(released, tmp_path):
    manual, _ = released
    first, other = (CIFAR10.create(tmp_path, manual, num_validation=5, seed=s) for s in (0, 1))
    assert [len(first.source(split)) for split in SPLITS] == [15, 5, 4]
    assert not set(rows(first, "train")) & set(rows(first, "validation"))
    assert rows(first, "validation") != rows(other, "validation")
    assert rows(first, "test") == rows(other, "test")


def test_grey_images_are_the_converted_colour_images(released, tmp_path):
    manual, images = released
    dataset = CIFAR10.create(tmp_path, manual, num_validation=5, color="grey")
    found = np.stack([example["inputs"] for example in dataset.source("test")])
    assert (found.dtype, found.shape) == (np.uint8, (4, 1024, 1))
    weighted = images[20:].reshape(4, 1024, 3) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - weighted).max() < 0.51


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_grey_pixels_keep_their_value(value):
    assert grey(np.full((2, 3), value, np.uint8)).tolist() == [[value]] * 2


MEAN_AND_STD = {
    "rgb": ([0.4914, 0.4822, 0.4465], [0.247, 0.243, 0.261]),
    "grey": ([122.6 / 255], [61 / 255]),
}


@pytest.mark.parametrize("color", MEAN_AND_STD)
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray, lambda x: jnp.asarray(x, jnp.int32)])
def test_decoding_normalises_in_numpy_and_on_the_device(tmp_path, color, array):
    dataset = CIFAR10.create(tmp_path, **MADE_UP, color=color)
    inputs = np.stack([example["inputs"] for example in dataset.source("train")])
    mean, std = map(np.array, MEAN_AND_STD[color])
    given = array(inputs)
    for decode in (dataset.decode, jax.jit(dataset.decode)):
        found = decode(given)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (inputs / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert type(dataset.decode(given)) is type(given)


def test_the_lines_of_a_bright_bar_determine_the_class_of_synthetic_images(tmp_path):
    dataset = CIFAR10.create(tmp_path, **MADE_UP)
    assert (dataset.kind, dataset.max_length) == ("made-up", 1024)
    assert [len(dataset.source(split)) for split in SPLITS] == [9, 4, 3]
    for example in dataset.source("train"):
        lines = example["inputs"].reshape(32, -1).mean(axis=1)[:30].reshape(10, 3).mean(axis=1)
        assert lines.argmax() == example["label"]
    pixels, labels = synthetic_images(np.random.default_rng(0), 200)
    assert set(labels.tolist()) == set(range(10))
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_truncated_or_damaged_file_raises(released, tmp_path):
    manual, _ = released
    (path,) = manual.rglob("data_batch_3.bin")
    content = bytearray(path.read_bytes())
    content[2 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}, image 2: label 10; expected 0 to 9"):
        CIFAR10.create(tmp_path, manual, num_validation=5)
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match=f"{path} has 12,291 bytes; expected 12,292: download http"):
        CIFAR10.create(tmp_path, manual, num_validation=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "gray"}, "color is 'gray'; did you mean 'grey'"),
        ({"num_validation": 0}, "num_validation is 0; expected at least 1"),
        ({"num_validation": 50_000}, "num_validation is 50000; expected less than 50,000"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        CIFAR10.create(tmp_path, **options)


def test_the_checksum_and_size_of_the_release_are_pinned():
    wanted = cifar10._RELEASE
    assert (wanted.name, wanted.size) == ("cifar-10-binary.tar.gz", 170_052_171)
    assert wanted.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def test_seed_0_selects_the_same_images_as_before():
    # If a new NumPy draws other random numbers, increase CIFAR10.VERSION.
    held = np.flatnonzero(held_out(50_000, CIFAR10Options()))
    assert len(held) == 5_000
    assert hashlib.sha256(str(held.tolist()).encode()).hexdigest()[:16] == "766d35f941662c13"
