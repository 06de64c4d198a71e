"""The user's own arrays: read safely, standardized by the training split, and checked."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest

from lru.data.array_examples import spec_of
from lru.data.array_files import Part, read_arrays
from lru.data.array_spec import ArraySpec, Scaling
from lru.data.arrays import Arrays, ArraysOptions
from lru.data.sources import SourceFile
from lru.errors import UserError

N, T, F = 20, 7, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, T, F)) * [1, 10, 100] + [0, 5, -50]
LENGTHS = RNG.integers(1, T, N, endpoint=True)
TOKENS = RNG.integers(0, 9, (N, T))
CLASSES = RNG.choice([-1, 3, 7], N)
SPLITS = ("train", "validation", "test")


def create(tmp_path, options=None, **arrays):
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    return Arrays.create(tmp_path / "data", path=str(file), **(options or {}))


def rows(dataset):
    """Returns the examples of all splits, in the order of the arrays, which is sorted by x."""
    return [example for split in SPLITS for example in dataset.source(split)]


KINDS = {
    "classes": (CLASSES, "classes", 3),
    "booleans": (CLASSES > 0, "classes", 2),
    "a number": (RNG.normal(size=N), "values", 1),
    "numbers": (RNG.normal(size=(N, 2)), "values", 2),
    "classes of steps": (RNG.integers(4, size=(N, T)), "step_classes", 4),
    "a number of steps": (RNG.normal(size=(N, T)), "step_values", 1),
    "numbers of steps": (RNG.normal(size=(N, T, 2)), "step_values", 2),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_target_follows_from_type_and_shape(name, tmp_path):
    y, target, outputs = KINDS[name]
    dataset = create(tmp_path, x=X, y=y, lengths=LENGTHS)
    assert (dataset.spec.target, dataset.spec.num_outputs) == (target, outputs)
    assert dataset.kind == "own" and dataset.note == f"the arrays of data.npz; target: {target}"


@pytest.mark.parametrize("name", KINDS)
def test_targets_are_read_back_in_their_units(name, tmp_path):
    """The examples of all splits together are those of the arrays, each once."""
    y, _, _ = KINDS[name]
    found = []
    dataset = create(tmp_path, x=X, y=y, lengths=LENGTHS)
    for example in rows(dataset):
        x = dataset.spec.inputs.undo(example["inputs"][: example["length"]])
        (i,) = np.flatnonzero(np.abs(X[:, 0] - x[0]).max(-1) < 1e-4)
        found.append(i)
        assert example["length"] == LENGTHS[i]
        label, want = example["label"], y[i]
        if dataset.spec.per_step:
            label, want = label[: LENGTHS[i]], want[: LENGTHS[i]]
            assert example["weight"].tolist() == [1] * LENGTHS[i] + [0] * (T - LENGTHS[i])
        if dataset.spec.of_classes:
            np.testing.assert_array_equal(np.array(dataset.spec.labels)[label], want)
        else:
            np.testing.assert_allclose(dataset.spec.values(label), want, atol=1e-5)
    assert sorted(found) == list(range(N))


def test_statistics_are_those_of_the_valid_steps_of_the_training_split_alone(tmp_path):
    y = RNG.normal(3, 5, (N, 2))
    given = {"x_train": X[:12], "y_train": y[:12], "lengths_train": LENGTHS[:12]}
    for split, at in (("validation", slice(12, 15)), ("test", slice(15, N))):
        given |= {f"x_{split}": 9 * X[at] + 7, f"y_{split}": 9 * y[at] + 7}
    spec = create(tmp_path, **given).spec
    valid = np.concatenate([x[:t] for x, t in zip(X[:12], LENGTHS)])
    np.testing.assert_allclose(spec.inputs.mean, valid.mean(0))
    np.testing.assert_allclose(spec.inputs.std, valid.std(0))
    np.testing.assert_allclose(spec.outputs.mean, y[:12].mean(0))
    np.testing.assert_allclose(spec.outputs.std, y[:12].std(0))


def test_padding_and_masked_targets_change_nothing(tmp_path):
    y, mask = RNG.normal(size=(N, T)), RNG.random((N, T)) < 0.7
    mask[:, 0] = True
    clean = create(tmp_path, x=X, y=y, lengths=LENGTHS, mask=mask)
    padding = np.arange(T) >= LENGTHS[:, None]
    x, dirty = np.where(padding[..., None], np.nan, X), np.where(padding | ~mask, np.inf, y)
    other = create(tmp_path, x=x, y=dirty, lengths=LENGTHS, mask=mask)
    assert clean.spec == other.spec and clean.data_dir != other.data_dir
    for one, two in zip(rows(clean), rows(other), strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    counted = sum(example["weight"].sum() for example in rows(clean))
    assert counted == (mask & ~padding).sum()


def test_a_large_mean_costs_no_precision(tmp_path):
    """Times in seconds since 1970 are standardized in float64."""
    seconds = 1.7e9 + np.arange(N * T).reshape(N, T, 1) / 100
    dataset = create(tmp_path, x=seconds, y=CLASSES)
    x = np.concatenate([dataset.spec.inputs.undo(example["inputs"]) for example in rows(dataset)])
    np.testing.assert_allclose(np.sort(x.ravel()), seconds.ravel(), rtol=0, atol=1e-5)


def test_a_constant_feature_becomes_zero(tmp_path):
    x = np.concatenate([X, np.full((N, T, 1), 0.1)], axis=-1)
    inputs = np.stack([example["inputs"] for example in rows(create(tmp_path, x=x, y=CLASSES))])
    assert np.abs(inputs[..., 3]).max() < 1e-6 < inputs[..., :3].std()


def test_the_moments_of_chunks_are_those_of_all_values():
    values = RNG.normal(1e6, 1e-2, (100, 2))
    whole, parts = Scaling.of([values]), Scaling.of(np.split(values, [1, 40]))
    np.testing.assert_allclose(whole.mean, values.mean(0), rtol=1e-15)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(parts.std, values.std(0), rtol=1e-6)


def test_tokens_are_read_back(tmp_path):
    dataset = create(tmp_path, x=TOKENS, y=CLASSES, lengths=LENGTHS)
    assert dataset.vocab_size == TOKENS.max() + 1 and dataset.spec.inputs is None
    found = sorted(example["inputs"][: example["length"]].tolist() for example in rows(dataset))
    assert found == sorted(x[:t].tolist() for x, t in zip(TOKENS, LENGTHS))


def test_real_inputs_of_two_axes_are_one_feature(tmp_path):
    dataset = create(tmp_path, x=X[..., 0], y=CLASSES)
    assert dataset.source("train")[0]["inputs"].shape == (T, 1)


def test_a_folder_of_npy_files_equals_an_npz_file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, array in {"x": X, "y": CLASSES, "lengths": LENGTHS}.items():
        np.save(folder / f"{name}.npy", array)
    one = create(tmp_path, x=X, y=CLASSES, lengths=LENGTHS)
    two = Arrays.create(tmp_path / "data", path=str(folder))
    assert one.digests == two.digests and one.data_dir != two.data_dir


def test_files_that_are_not_arrays_do_not_change_the_digest_of_a_folder(tmp_path):
    """A run's work directory, or notes, may be in the folder."""
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", CLASSES)
    before = ArraysOptions(path=str(tmp_path)).digest
    assert before == SourceFile.of(tmp_path).sha256[:16]  # as before other files were left out
    (tmp_path / "run").mkdir()
    np.save(tmp_path / "run" / "x.npy", X + 1)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "._x.npy").write_bytes(b"added by macOS")
    assert ArraysOptions(path=str(tmp_path)).digest == before
    assert Arrays.create(tmp_path / "data", path=str(tmp_path)).note.endswith("target: classes")
    np.save(tmp_path / "x.npy", X + 1)
    assert ArraysOptions(path=str(tmp_path)).digest != before


@pytest.mark.parametrize("path", ["~no_such_user/x.npz", "x\0.npz"])
def test_a_path_that_cannot_be_resolved_raises_one_line(path, tmp_path):
    with pytest.raises(UserError, match="cannot read '") as error:
        Arrays.create(tmp_path / "data", path=path)
    assert "\n" not in str(error.value) and "\0" not in str(error.value)


def test_splits_are_drawn_with_the_seed(tmp_path):
    options = dict(validation_fraction=0.2, test_fraction=0.3)
    sizes, first = [], []
    for seed in (0, 0, 1):
        dataset = create(tmp_path, options | {"seed": seed}, x=X, y=CLASSES)
        sizes.append([len(dataset.source(split)) for split in SPLITS])
        first.append(dataset.digests)
    assert sizes == [[10, 4, 6]] * 3
    assert first[0] == first[1] != first[2]


def test_changed_arrays_are_prepared_again_and_a_moved_file_is_not(tmp_path):
    first = create(tmp_path, x=X, y=CLASSES)
    changed = create(tmp_path, x=X + 1, y=CLASSES)
    assert (
        first.data_dir != changed.data_dir
        and first.digests == create(tmp_path, x=X, y=CLASSES).digests
    )
    (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
    moved = Arrays.create(tmp_path / "data", path=str(tmp_path / "moved.npz"))
    assert moved.data_dir == first.data_dir


def splits(**changes):
    given = {f"{name}_{split}": array for split in SPLITS for name, array in (("x", X), ("y", X))}
    return {key: array for key, array in (given | changes).items() if array is not None}


def without(array, at, value):
    changed = array * np.ones((), np.result_type(array, value))
    changed[at] = value
    return changed


LARGE = np.array([1, 2, 3, 2**63] * 5, np.uint64)
WRONG = [
    ({"y": CLASSES}, "has no array 'x'; expected the inputs of the examples there"),
    ({"x": X}, "has x, but no y; expected y, the targets"),
    ({"x": X, "Y": CLASSES}, "has an unknown array 'Y'; "),
    ({"x": X, "y": CLASSES, "x_test": X}, "has x and x_test; expected names with a split"),
    ({"x_train": X, "y_train": CLASSES}, "has no array 'x_validation'; expected the inputs"),
    ({"x": X[0, 0], "y": CLASSES[:F]}, "has shape (3,); expected numbers (n, T, features)"),
    ({"x": X, "y": CLASSES[:5]}, "y of DATA has shape (5,); expected 20 examples on the first"),
    ({"x": X.astype(str), "y": CLASSES}, "x of DATA has the type <U"),
    ({"x": X + 1j, "y": CLASSES}, "x of DATA has the type complex128; expected numbers"),
    ({"x": without(X, (4, 2, 1), np.nan), "y": CLASSES}, "x of example 4 of DATA has values that"),
    ({"x": X, "y": without(X[:, 0, 0], 3, np.inf)}, "y of example 3 of DATA has values that are"),
    ({"x": without(X, (..., 0), 1e200 * X[..., 0]), "y": CLASSES}, "x of DATA has values too l"),
    ({"x": X, "y": without(X[:, 0, 0], 3, 1e200)}, "y of DATA has values too large to stand"),
    ({"x": np.sign(X) * 1e308, "y": CLASSES}, "x of DATA has values too large to"),
    (splits(x_test=1e41 * X), "x of example 0 of DATA, split test has values too far from the me"),
    (splits(y_test=1e41 * X), "y of example 0 of DATA, split test has values too far from the me"),
    (splits(y_test=1e308 * np.sign(X)), "split test has values too far from the m"),
    ({"x": X, "y": CLASSES, "lengths": LENGTHS + T}, "expected 1 to 7, the number of steps of x"),
    ({"x": X, "y": CLASSES, "lengths": 0 * LENGTHS}, "has values from 0 to 0; expected 1 to 7"),
    ({"x": X, "y": CLASSES, "lengths": LENGTHS * 1.0}, "type float64; expected integers (20,)"),
    ({"x": X, "y": TOKENS[:, :4]}, "has shape (20, 4) and type int64; expected integers (n,)"),
    ({"x": X, "y": TOKENS[..., None]}, "expected integers (n, T) for the target 'step_classes'"),
    ({"x": X, "y": 0 * CLASSES}, "y of DATA has a single class; expected at least two"),
    ({"x": X, "y": LARGE}, "y of example 3 of DATA has the label 9223372036854775808; expected at"),
    ({"x": X, "y": CLASSES, "mask": TOKENS > 4}, "has a mask; expected none for the target"),
    ({"x": X, "y": TOKENS, "mask": TOKENS}, "expected integers or booleans (20, 7), 1"),
    ({"x": X, "y": TOKENS, "mask": 0 * TOKENS}, "of DATA is zero at every valid step; expected"),
    ({"x": TOKENS + 70_000, "y": CLASSES}, "expected less than 65536; give x as (n, T, feat"),
    ({"x": -1 - TOKENS, "y": CLASSES}, "has tokens from -"),
    ({"x": X[:2], "y": X[:2]}, "has 2 examples, of which 1 would be for validation"),
    (splits(x_test=X[..., :2]), "split test has inputs of 2 features and targets of the kind"),
    (splits(y_test=TOKENS), "the kind 'step_classes', but DATA, split train has inputs of 3"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "words"), WRONG)
def test_arrays_that_do_not_fit_raise_one_line(arrays, words, tmp_path):
    with pytest.raises(UserError) as error:
        create(tmp_path, **arrays)
    text = str(error.value)
    assert words.replace("DATA", str(tmp_path / "data.npz")) in text and "\n" not in text
    assert not list((tmp_path / "data").rglob("*.array_record*"))


@pytest.mark.parametrize(
    ("options", "y", "words"),
    [
        ({"target": "values"}, TOKENS[..., None], "numbers (n,) or (n, k) for the target 'values'"),
        ({"target": "classes"}, X[:, 0, 0], "and type float64; expected integers (n,)"),
        ({"target": "step_classes"}, CLASSES, "expected integers (n, T) for the target"),
        ({"target": "step_values"}, CLASSES, "expected numbers (n, T) or (n, T, k) for the"),
        ({"target": "clases"}, CLASSES, "target is 'clases'; did you mean 'classes'?"),
        ({"test_fraction": 0.95}, CLASSES, "expected numbers above 0 whose sum is below 1"),
        ({"validation_fraction": 0.0}, CLASSES, "validation_fraction is 0.0 and test_fraction"),
        ({"example": "spring"}, CLASSES, "example is 'spring'; "),
    ],
)
def test_options_that_do_not_fit_raise_one_line(options, y, words, tmp_path):
    with pytest.raises(UserError) as error:
        create(tmp_path, options, x=X, y=y)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_explicit_target_changes_what_integers_mean(tmp_path):
    counts = create(tmp_path, {"target": "values"}, x=X, y=CLASSES)
    assert counts.spec.outputs is not None and counts.spec.labels is None
    both = create(tmp_path, {"target": "values"}, x=X, y=X[:, :, 0])  # k equals T by chance
    assert (both.spec.num_outputs, both.spec.per_step) == (T, False)


MANY = {
    "values": (np.arange(N), "20 different integers in 20 targets"),
    "step_values": (np.arange(N * T).reshape(N, T), "140 different integers in 140 targets"),
    "values of many": (np.arange(3000) % 1001, "1001 different integers in 3000 targets"),
}


@pytest.mark.parametrize("name", MANY)
def test_many_different_integers_need_an_explicit_target(name, tmp_path):
    """Without it, a regression of counts would become a classification into thousands."""
    (y, words), values = MANY[name], name.removesuffix(" of many")
    x, classes = np.zeros((len(y), T, 1)), values.replace("values", "classes")
    hint = f"{words}; give --config.data.target={values} if they are numbers, or ={classes} if"
    with pytest.raises(UserError, match=hint):
        create(tmp_path, x=x, y=y)
    parts = {"train": Part.of({"x": x, "y": y}, "", tmp_path)}
    assert spec_of(parts, values).of_classes is False
    assert spec_of(parts, classes).num_outputs == len(np.unique(y))


@pytest.mark.parametrize("y", [np.arange(N) % 10, np.arange(3000) % 1000])
def test_as_many_labels_as_there_may_be_are_classes(y, tmp_path):
    parts = {"train": Part.of({"x": np.zeros((len(y), T, 1)), "y": y}, "", tmp_path)}
    assert spec_of(parts, "auto").labels == tuple(range(y.max() + 1))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def malicious(tmp_path, form):
    """Writes arrays of pickled objects, and returns their path."""
    trap = np.array([Trap(tmp_path / "trace")] * N, object)
    path = tmp_path / "data.npz"
    if form == "npz":
        np.savez(path, x=X, y=trap)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        path = tmp_path / "folder"
        path.mkdir()
        np.save(path / "x.npy", trap)
    return path


@pytest.mark.parametrize("form", ["npz", "pickle", "folder"])
def test_pickled_objects_are_rejected_and_never_loaded(form, tmp_path):
    path = malicious(tmp_path, form)
    with pytest.raises(UserError, match="holds pickled Python objects; expected numbers only"):
        Arrays.create(tmp_path / "data", path=str(path))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [b"", b"no arrays", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_without_arrays_raises_one_line(content, tmp_path):
    file = tmp_path / "data.npz"
    file.write_bytes(content)
    with pytest.raises(UserError, match="data.npz .*expected") as error:
        Arrays.create(tmp_path / "data", path=str(file))
    assert "\n" not in str(error.value)


def npy(shape="(2, 2)", end=", }\n"):
    """Returns the bytes of an array of 4 numbers, with a header that may be wrong."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}{end}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(32)


def archive(content, method=zipfile.ZIP_STORED):
    """Returns the bytes of an `.npz` file whose array `x` has this content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as members:
        members.writestr("x.npy", content)
    return file.getvalue()


def patched(content, at, value):
    """Changes the two bytes `at` a member's header, and those of its entry in the directory."""
    content, entry = bytearray(content), content.rindex(b"PK\x01\x02") + 2
    for start in (at, entry + at):
        content[start : start + 2] = value.to_bytes(2, "little")
    return bytes(content)


def cut(content):
    """Damages the compressed data of the only member."""
    start = 30 + len("x.npy") + 9
    return content[:start] + b"\xff" * 40 + content[start + 40 :]


LONG = npy() + np.random.default_rng(0).bytes(999)
DAMAGED = {
    "not an array": archive(b"text"),
    "encrypted": patched(archive(npy()), 6, 1),
    "unknown compression": patched(archive(npy()), 8, 77),
    "cut header": archive(npy(end="")),
    "huge shape": archive(npy(f"({10**30}, 2)")),
    "negative shape": archive(npy("(-2, -2)")),
    "damaged zlib": cut(archive(LONG, zipfile.ZIP_DEFLATED)),
    "damaged bz2": cut(archive(LONG, zipfile.ZIP_BZIP2)),
    "damaged lzma": cut(archive(LONG, zipfile.ZIP_LZMA)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_raises_one_line(name, tmp_path):
    file = tmp_path / "data.npz"
    file.write_bytes(archive(npy()))
    assert read_arrays(file, ("x",))["x"].shape == (2, 2)
    file.write_bytes(DAMAGED[name])
    with pytest.raises(UserError, match=r"data\.npz") as error:
        read_arrays(file, ("x",))
    assert "\n" not in str(error.value)


SHAPES = [f"({10**30}, 2)", f"({2**61}, 2)", "(-2, -2)", "(2, 1000000)", "((("]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_damaged_file_of_a_folder_raises_one_line(shape, tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(shape))
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error:
        read_arrays(tmp_path, ("x",))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_empty_folder_raise_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.npz: No such file"):
        Arrays.create(tmp_path / "data", path=str(tmp_path / "none.npz"))
    assert not (tmp_path / "data").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder has no arrays; expected an .npz file, or a folder"):
        Arrays.create(tmp_path / "data", path=str(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("mean", "std", "suits"),
    [
        (9e4, 1.0, True), (-9e4, 1.0, True), (1e5, 1.0, False), (-1e5, 1.0, False),
        (1e39, 1e38, False), (0.0, 1e39, False), (0.0, 1e-39, False), (0.0, 1e-37, True),
    ],
)  # fmt: skip
def test_a_scaling_suits_float32_if_it_is_finite_and_precise_there(mean, std, suits):
    assert Scaling((0.0, mean), (1.0, std)).suits_float32 is suits


def test_inputs_of_another_kind_than_the_model_reads_raise():
    of_tokens = ArraySpec("classes", 2, vocab_size=9, labels=(0, 1))
    with pytest.raises(UserError, match=r"x has steps of shape \(3,\); the model reads tokens"):
        of_tokens.encode_inputs(X[0], "x")
    for scaling, hint in (Scaling((0.0,), (1.0,)), "1), or as real numbers (n, T)"), (
        Scaling((0.0, 0.0), (1.0, 1.0)), "2)"
    ):  # fmt: skip
        of_features = ArraySpec("classes", 2, inputs=scaling, labels=(0, 1))
        with pytest.raises(UserError) as error:
            of_features.encode_inputs(TOKENS[0], "x")
        assert str(error.value).endswith(f"the model reads features: give x as (n, T, {hint}")


GOOD = dict(target="values", num_outputs=1, inputs={"mean": [0.0], "std": [1.0]})
GOOD |= dict(outputs={"mean": [0.0], "std": [2.0]})


@pytest.mark.parametrize(
    "change",
    [
        {"target": "other"}, {"num_outputs": 2}, {"num_outputs": "1"}, {"num_outputs": True},
        {"inputs": None}, {"inputs": {"mean": [0.0]}}, {"inputs": {"mean": [0.0], "std": [0.0]}},
        {"outputs": {"mean": ["a"], "std": [1.0]}}, {"outputs": None}, {"labels": [1, 2]},
        {"vocab_size": 3}, {"more": 1}, {"outputs": {"mean": [float("nan")], "std": [1.0]}},
        {"target": "classes", "outputs": None, "labels": [2, 1], "num_outputs": 2},
        {"target": "classes", "outputs": None, "labels": 5},
    ],
)  # fmt: skip
def test_a_damaged_specification_raises(change):
    assert ArraySpec.from_json(GOOD).values(np.array([[1.0]])) == [2.0]
    with pytest.raises(ValueError):
        ArraySpec.from_json(GOOD | change)
