"""The benchmark compares what it says that it compares."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def programs(monkeypatch):
    from lru import recurrence

    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(recurrence, "_METHODS", dict(recurrence._METHODS))  # it adds one
    sys.modules.pop("benchmark_programs", None)
    import benchmark_programs

    return benchmark_programs


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.usefixtures("unchecked_annotations")  # there is a method more
def test_contestants_compute_the_same_loss_and_gradient(programs, bidirectional):
    shape = programs.Shape(2, 33, 4, 6, layers=1, vocab_size=7, bidirectional=bidirectional)

    def computed(contestant):
        program = programs.build("model", contestant, "gradient", shape)
        return jax.jit(program.function)(*program.arguments)

    want = computed("Appendix A")
    for contestant in ("lru", "lru, kept", "lru, associative", "lru, chunked"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            computed(contestant), want,
        )  # fmt: skip
    other = computed("elementwise")[0][0]
    assert abs(other - want[0][0]) > 1e-4


@pytest.mark.parametrize("kind", ["model", "layer"])
def test_the_limit_has_each_matrix_product_once(programs, kind):
    shape = programs.Shape(2, 32, 4, 6, layers=1)

    def products(contestant, part):
        program = programs.build(kind, contestant, part, shape)
        return str(jax.make_jaxpr(program.function)(*program.arguments)).count("dot_general")

    each = {"model": 3, "layer": 2}[kind]
    assert products("products", "forward") == each
    assert products("products", "gradient") == 3 * each
    assert products("products, again", "gradient") == 4 * each


def test_a_training_step_can_follow_another(programs):
    shape = programs.Shape(2, 16, 4, 6, layers=1, vocab_size=7)
    program = programs.build("model", "lru", "step", shape)
    step = jax.jit(program.function)
    once = step(*program.arguments)
    twice = step(*once)
    assert jax.tree.structure(once) == jax.tree.structure(program.arguments)
    assert not np.array_equal(jax.tree.leaves(once)[0], jax.tree.leaves(twice)[0])


def run(*arguments):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_run_leaves_a_record_and_a_plot(tmp_path):
    out = tmp_path / "lengths.json"
    done = run("length", "--longest=1024", "--contestants=lru", "--rounds=2", f"--out={out}")
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (row,) = record["rows"]
    assert {"commit", "hardware", "date", "command"} <= record.keys()
    assert (row["time"], row["contestant"], len(row["seconds"])) == (1024, "lru", 2)
    assert row["ratio"] == 1 and row["temporary_bytes"] > 0 and row["peak_bytes"] > 10**7
    assert done.stdout.count("\n") == 3 and "| lru |" in done.stdout
    assert out.with_suffix(".png").stat().st_size > 5000


def test_what_does_not_fit_in_memory_is_not_run(tmp_path):
    done = run("layer", "--shapes=long", "--parts=forward", "--contestants=lru", "--memory_gb=0")
    assert done.returncode == 0 and "not run: needs" in done.stdout


def test_a_mistake_is_told_in_one_line():
    done = run("model", "--shapes=lisptops")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --shapes has no 'lisptops'; expected some of")
    assert done.stderr.count("\n") == 1
