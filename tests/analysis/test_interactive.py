"""The page for a browser: its data are the eigenvalues, and its script computes their modes."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from lru.analysis.interactive import save_interactive
from lru.errors import UserError

RNG = np.random.default_rng(0)


def trajectories(evaluations=3, sizes=(4, 5)):
    return {
        f"layer_{i}": np.exp(
            -RNG.uniform(0.01, 1, (evaluations, n)) + 1j * RNG.uniform(-3, 3, (evaluations, n))
        ).astype(np.complex64)
        for i, n in enumerate(sizes)
    }


def saved(path, found, title="a run"):
    """Returns the text of a saved page, and its data."""
    evaluations = len(next(iter(found.values())))
    save_interactive([10 * k for k in range(evaluations)], found, path / "a.html", title)
    text = (path / "a.html").read_text()
    return text, json.loads(re.search(r"^const DATA = (.*);$", text, re.MULTILINE)[1])


def decoded(layer, evaluations):
    values = np.frombuffer(base64.b64decode(layer["values"]), "<c8")
    return values.reshape(evaluations, -1)


def test_the_page_holds_every_eigenvalue_exactly(tmp_path):
    found = trajectories()
    _, data = saved(tmp_path, found)
    assert data["steps"] == [0, 10, 20]
    for layer, (name, want) in zip(data["layers"], found.items(), strict=True):
        assert layer["name"] == name
        np.testing.assert_array_equal(decoded(layer, 3), want)


def test_the_page_needs_no_network_and_forbids_it(tmp_path):
    text, _ = saved(tmp_path, trajectories())
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|\ssrc=|\shref=|@import|url\(", text)


def test_names_cannot_add_markup(tmp_path):
    evil = "</script><script>alert(1)</script>"
    text, data = saved(tmp_path, {evil: trajectories()["layer_0"]}, title=evil)
    assert data["title"] == data["layers"][0]["name"] == evil
    assert evil not in text and text.count("</script>") == 1 and "innerHTML" not in text


def test_many_evaluations_are_thinned_and_keep_the_first_and_the_last(tmp_path):
    found = trajectories(evaluations=400, sizes=(2,))
    _, data = saved(tmp_path, found)
    assert len(data["steps"]) == 150 and data["steps"][0] == 0 and data["steps"][-1] == 3990
    kept = [step // 10 for step in data["steps"]]
    np.testing.assert_array_equal(decoded(data["layers"][0], 150), found["layer_0"][kept])


def test_many_modes_leave_room_for_fewer_evaluations(tmp_path):
    found = {"layer": np.full((9, 200_000), 0.5, np.complex64)}
    _, data = saved(tmp_path, found)
    assert data["steps"] == [0, 20, 40, 60, 80]


def test_the_view_is_near_the_circle_if_all_eigenvalues_are(tmp_path):
    near = {"layer": np.array([[0.999, 0.99j]], np.complex64)}
    assert saved(tmp_path, near)[1]["near"] is True
    assert saved(tmp_path, trajectories())[1]["near"] is False


def test_another_ending_raises_and_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="expected a file name that ends in .html"):
        save_interactive([0], trajectories(1), tmp_path / "a.htm", "a run")
    assert not list(tmp_path.iterdir())


# A document in which every property and every result is another such object.
DOCUMENT = """
const any = new Proxy(function () {}, {
  get: (_, name) => name === Symbol.toPrimitive ? () => 1
    : name === Symbol.iterator ? function* () {} : any,
  set: () => true, apply: () => any, construct: () => any});
const document = any, window = any;
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the script of the page with node")
def test_the_script_computes_modulus_phase_and_time_scale(tmp_path):
    found = trajectories()
    text, _ = saved(tmp_path, found)
    script = text.partition("<script>")[2].partition("</script>")[0].replace('"use strict";', "")
    report = """
    chosen = {layer: layers[1], n: 3}; now = 2;
    const {modulus, phase, scale, rows} = facts();
    console.log(JSON.stringify({modulus, phase, scale, rows}));
    """
    done = subprocess.run(
        ["node", "-e", DOCUMENT + script + report], capture_output=True, text=True, check=True
    )
    got, lam = json.loads(done.stdout), found["layer_1"][2, 3]
    want = [np.abs(lam), np.angle(lam), -1 / np.log(np.abs(lam))]
    np.testing.assert_allclose([got["modulus"], got["phase"], got["scale"]], want, rtol=1e-5)
    assert got["rows"][:2] == [["layer", "layer_1"], ["mode", "4 of 5"]]
