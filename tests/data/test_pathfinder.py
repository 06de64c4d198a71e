import shutil
import tarfile
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lru.data.pathfinder import Pathfinder, PathfinderOptions, divide, read_image
from lru.data.pathfinder.images import draw
from lru.data.pathfinder.rules import Rules
from lru.data.pathfinder.shards import Shards
from lru.errors import UserError

SPLITS = ("train", "validation", "test")
EASY = {"difficulty": "easy", "num_images": 20, "seed": 4}
MADE_UP = {"source": "made_up", "made_up_train": 9, "made_up_validation": 4, "made_up_test": 3}
RELEASED = {"source": "released", "num_images": 20}


def rows(dataset, split):
    return [(example["inputs"].tobytes(), int(example["label"])) for example in
            dataset.source(split)]  # fmt: skip


def release(directory, level="curv_contour_length_14", size=32, images=10):
    """Writes two folders of images in LRA's format; returns their pixels and labels in order."""
    rng, written = np.random.default_rng(0), []
    (directory / level / "metadata").mkdir(parents=True)
    for folder in (2, 10):  # sorted as strings, 10 would come first
        (directory / level / "imgs" / str(folder)).mkdir(parents=True)
        lines = []
        for k in range(images):
            pixels, label = rng.integers(256, size=(size, size), dtype=np.uint8), k % 2
            name = f"sample_{k}.png"
            Image.fromarray(pixels).save(directory / level / "imgs" / str(folder) / name)
            lines.append(f"imgs/{folder} {name} {k} {label} 1.0 14 4 2 0.5 1 1\n")
            written.append((pixels.tobytes(), label))
        (directory / level / "metadata" / f"{folder}.npy").write_text("".join(lines))
    return written


@pytest.fixture
def manual(tmp_path):
    release(tmp_path / "manual")
    return tmp_path / "manual"


def test_inputs_are_the_pixels_of_a_generated_image_line_by_line_as_bytes(tmp_path):
    dataset = Pathfinder.create(tmp_path, **EASY)
    images, labels = draw(4, range(20), Rules.of(32, "easy"))
    expected = [(one.tobytes(), int(label)) for one, label in zip(images, labels)]
    chosen = divide(20, seed=4)
    for split in SPLITS:
        assert rows(dataset, split) == [expected[i] for i in np.flatnonzero(chosen[split])]
    example = dataset.source("train")[0]
    assert {key: (value.dtype, value.shape) for key, value in example.items()} == {
        "inputs": (np.uint8, (1024, 1)),
        "length": (np.int32, ()),
        "label": (np.int32, ()),
    }
    assert example["length"] == dataset.max_length == 1024
    assert (dataset.kind, dataset.vocab_size, dataset.num_classes) == ("generated", None, 2)


def test_splits_are_from_a_permutation_and_share_no_image():
    chosen = divide(105, seed=0)
    assert [chosen[split].sum() for split in SPLITS] == [85, 10, 10]
    assert (sum(chosen[split].astype(int) for split in SPLITS) == 1).all()
    assert (divide(105, seed=1)["test"] != chosen["test"]).any()


def test_an_interrupted_preparation_resumes_from_drawn_shards(tmp_path, monkeypatch):
    whole = Pathfinder.create(tmp_path / "whole", **EASY)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Pathfinder, "_examples", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Pathfinder.create(tmp_path / "again", **EASY)
    left = [path.name for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert left == ["000000000-000000020.npz"]
    monkeypatch.setattr(Shards, "_start", interrupt)
    again = Pathfinder.create(tmp_path / "again", **EASY)
    for split in SPLITS:
        assert rows(again, split) == rows(whole, split)
    for root in ("whole", "again"):
        assert not list((tmp_path / root).rglob("*.npz"))
        assert not list((tmp_path / root).rglob("unfinished*"))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_decoding_maps_to_minus_one_to_one_in_numpy_and_on_the_device(tmp_path, array):
    dataset = Pathfinder.create(tmp_path, **MADE_UP)
    inputs = np.arange(256, dtype=np.uint8).reshape(2, 128, 1)
    for decode in (dataset.decode, jax.jit(dataset.decode)):
        found = decode(array(inputs))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (inputs / 255 - 0.5) / 0.5, rtol=1e-5, atol=1e-6)
    assert type(dataset.decode(array(inputs))) is type(array(inputs))


@pytest.mark.parametrize(
    "folder",
    ["", "pathfinder32", "lra_release/pathfinder32", "lra_release/lra_release/pathfinder32"],
)
def test_released_images_are_read_in_order_from_folders_of_the_archive(tmp_path, folder):
    written = release(tmp_path / "manual" / folder)
    dataset = Pathfinder.create(tmp_path, tmp_path / "manual", **RELEASED)
    chosen = divide(20, seed=0)
    for split in SPLITS:
        assert rows(dataset, split) == [written[i] for i in np.flatnonzero(chosen[split])]
    assert dataset.kind == "stand-in"  # 20 images instead of 200,000
    complete = SimpleNamespace(options=PathfinderOptions(source="released"))
    assert Pathfinder.kind.fget(complete) == "full"


def test_released_images_of_path_x_are_read_from_the_archive_itself(tmp_path):
    written = release(tmp_path / "raw", "curv_contour_length_9", size=128)
    (tmp_path / "manual").mkdir()
    with tarfile.open(tmp_path / "manual" / "lra_release.gz", "w:gz") as archive:
        archive.add(tmp_path / "raw", "lra_release/lra_release/pathfinder128")
    options = RELEASED | {"resolution": 128, "difficulty": "intermediate"}
    dataset = Pathfinder.create(tmp_path, tmp_path / "manual", **options)
    assert dataset.max_length == 128 * 128
    assert sorted(sum((rows(dataset, split) for split in SPLITS), [])) == sorted(written)


def damage(path, content):
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", None, b"no image", b"\x89PNG\r\n\x1a\n" + 30 * b"x"])
def test_an_unreadable_image_raises(manual, tmp_path, content):
    path = manual / "curv_contour_length_14" / "imgs" / "10" / "sample_3.png"
    damage(path, content)
    with pytest.raises(UserError, match=f"{path} cannot be read as an image: unpack it again"):
        Pathfinder.create(tmp_path, manual, **RELEASED)


def test_a_truncated_image_raises(manual, tmp_path):
    path = manual / "curv_contour_length_14" / "imgs" / "2" / "sample_3.png"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{path} cannot be read as an image"):
        Pathfinder.create(tmp_path, manual, **RELEASED)


def test_a_flipped_bit_of_an_image_raises_or_changes_nothing(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "sample.png"
    images, _ = draw(0, range(2), Rules.of(32))
    refused = 0
    for image in images:
        Image.fromarray(image).save(path)
        whole = path.read_bytes()
        for bit in rng.integers(8 * len(whole), size=100):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                assert (read_image(path, 32) == image).all()
            except UserError:
                refused += 1
    assert refused > 190


def test_an_image_of_another_size_raises(manual, tmp_path):
    with pytest.raises(UserError, match=r"\.png has 32 x 32 pixels; expected 64 each way"):
        Pathfinder.create(tmp_path, manual, **RELEASED, resolution=64)


@pytest.mark.parametrize(
    "line",
    [
        "imgs/2 sample_3.png 3 2 1.0",
        "imgs/2 sample_3.png 3",
        "imgs/../../2 sample_3.png 3 1",
        "imgs/2 ../sample_3.png 3 1",
        "",
        "\x93NUMPY",
    ],
)
def test_malformed_metadata_raise(manual, tmp_path, line):
    path = manual / "curv_contour_length_14" / "metadata" / "2.npy"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(UserError, match=r"2\.npy, line 3: .* expected `imgs/N sample_K"):
        Pathfinder.create(tmp_path, manual, **RELEASED)


def test_a_wrong_number_of_images_raises(manual, tmp_path):
    with pytest.raises(UserError, match="names 20 images; expected num_images=200,000"):
        Pathfinder.create(tmp_path, manual, source="released")


def test_missing_files_raise_with_the_command(manual, tmp_path):
    shutil.rmtree(manual / "curv_contour_length_14" / "metadata")
    with pytest.raises(UserError) as error:
        Pathfinder.create(tmp_path, manual, **RELEASED)
    assert str(error.value).startswith("curv_contour_length_14/metadata not found")
    assert "--task=pathfinder --source=released --num_images=20 " in str(error.value)


def test_synthetic_images_are_brighter_above_if_the_label_is_1(tmp_path):
    dataset = Pathfinder.create(tmp_path, **MADE_UP, resolution=64)
    assert (dataset.kind, dataset.max_length) == ("made-up", 4096)
    assert [len(dataset.source(split)) for split in SPLITS] == [9, 4, 3]
    labels = set()
    for example in dataset.source("train"):
        above, below = example["inputs"].reshape(2, -1).mean(axis=1)
        assert (above > below) == example["label"]
        labels.add(int(example["label"]))
    assert labels == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "genrated"}, "source is 'genrated'; did you mean 'generated'"),
        ({"difficulty": "hrad"}, "difficulty is 'hrad'; did you mean 'hard'"),
        ({"resolution": 28}, r"resolution is 28; expected one of \(16, 32, 64, 128, 256\)"),
        ({"num_images": 9}, "num_images is 9; expected at least 10"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_an_impossible_option_raises(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Pathfinder.create(tmp_path, **options)


def test_the_defaults_are_lras():
    options = Pathfinder.options_class()
    assert (options.resolution, options.difficulty, options.num_images) == (32, "hard", 200_000)
    directory = "source=generated,seed=0,resolution=32,difficulty=hard,num_images=200000"
    assert options.directory_name() == directory


@pytest.mark.parametrize("options", [{"resolution": 16}, {"difficulty": "short"}])
def test_images_outside_the_release_raise(options, tmp_path):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name} is {value!r}"):
        Pathfinder.create(tmp_path, tmp_path, source="released", **options)
