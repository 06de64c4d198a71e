"""Files with valid JSON or arrays but unexpected content raise one line."""

import io

import numpy as np
import pytest

import lru.export
from lru.errors import UserError
from lru.io.files import parse_object
from lru.training.eigenvalue_log import EigenvalueLog
from lru.training.experiment import Experiment
from lru.training.history import METRICS, TIMING
from lru.training.record import read_record
from lru.training.run_config import load_run_config
from lru.training.writers import JsonLines

DEEP = 100_000
CONTENTS = [
    "5", "null", "true", "[]", '"text"', "{}", "", "{", "\0", "1" * 5000, '{"step": "1"}',
    "[" * DEEP + "]" * DEEP, '{"a": ' * DEEP + "1" + "}" * DEEP,
    '{"step": 1, "config": 5, "split": null, "steps": 2, "model": [], "train": 1e999}',
]  # fmt: skip


def metrics(file):
    file.write_bytes(file.read_bytes() + b"\n")
    JsonLines(file, METRICS).read()


def timing(file):
    file.write_bytes(file.read_bytes() + b"\n")
    JsonLines(file, TIMING).read()


def config(file):
    Experiment(load_run_config(file.parent), file.parent)


def exported(file):
    lru.export.load(file.parent)


@pytest.mark.parametrize("read", [metrics, timing, config, read_record, exported])
def test_unexpected_json_raises_one_line_with_the_file_name(read, tmp_path):
    file = tmp_path / "config.json"
    for content in CONTENTS:
        file.write_text(content)
        with pytest.raises(UserError) as error:
            read(file)
        lines = str(error.value).splitlines()
        assert len(lines) <= 2 and max(map(len, lines)) < 500
        assert "config.json" in lines[0] or read is config
    file.write_bytes(b'{"step": "\xff"}')  # not UTF-8
    with pytest.raises(UserError):
        read(file)


@pytest.mark.parametrize("depth", [50, 300, 500, 900])
def test_a_config_of_any_depth_is_read_or_raises_one_line(depth, tmp_path):
    (tmp_path / "config.json").write_text('{"a": ' * depth + "1" + "}" * depth)
    with pytest.raises(UserError):
        config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": None}, "config.seed is None; expected a whole number"),
        ({"data": 5}, "config.data is 5; expected a section"),
        ({"train": None}, "config.train is None; expected a section"),
        ({"model": []}, "config.model is .*; expected a section"),
        ({"optimizer": "adam"}, "config.optimizer is 'adam'; expected a section"),
    ],
)
def test_a_section_that_is_not_a_section_raises(change, words, tmp_path):
    from ml_collections import ConfigDict

    sections = {name: {} for name in ("data", "model", "optimizer")}
    sections["train"] = {"steps": 1, "batch_size": 1}
    with pytest.raises(UserError, match=words):
        Experiment(ConfigDict({"seed": 0} | sections | change), tmp_path)


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


RING = np.ones(3, np.complex64)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", b"5", npz(), npy(RING), npz(layer=np.ones(3)), npz(layer=RING[:2]),
        npz(layer=RING[None]), npz(other=RING), npz(layer=np.array([None])),
        npz(layer=RING)[:-9], npz(layer=RING, more=RING),
    ],
)  # fmt: skip
def test_arrays_that_are_not_eigenvalues_of_the_run_raise(content, tmp_path):
    (tmp_path / "0.npz").write_bytes(npz(layer=RING))
    (tmp_path / "4.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"4\.npz is damaged .*; delete it to leave that step out"):
        EigenvalueLog(tmp_path).trajectories()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": true}', "'a' is True; expected a whole number"),
        ('{"a": 1.0}', "'a' is 1.0; expected a whole number"),
        ('{"a": 1, "b": NaN}', "'b' is nan; expected a finite number"),
        ('{"a": 1, "b": 1, "c": {}}', "c: 'd' is missing"),
        ('{"a": 1, "b": 1, "c": 3}', "c: expected an object, found int"),
        ('{"a": 1, "b": ' + "9" * 400 + "}", "'b' is 9{40}; expected a finite number"),
    ],
)
def test_a_field_of_another_type_raises_its_name(text, words):
    with pytest.raises(ValueError, match=words):
        parse_object(text, {"a": int, "b": float, "c": {"d": str}})
