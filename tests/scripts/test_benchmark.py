"""The programs of the benchmark compute what their names say."""

import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def programs(monkeypatch):
    from lru.ops import recurrence

    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(recurrence, "METHODS", dict(recurrence.METHODS))  # it gets one more
    sys.modules.pop("benchmarks.programs", None)
    return importlib.import_module("benchmarks.programs")


@pytest.mark.parametrize(
    ("bidirectional", "candidates"),
    [(False, ["lru", "lru, kept", "lru, associative"]), (True, ["lru"])],
)
@pytest.mark.usefixtures("unchecked_annotations")  # of the added method
def test_candidates_compute_the_same_loss_and_gradient(programs, bidirectional, candidates):
    shape = programs.Shape(2, 33, 4, 6, layers=1, vocab_size=7, bidirectional=bidirectional)

    def computed(candidate):
        program = programs.build("model", candidate, "gradient", shape)
        return jax.jit(program.function)(*program.arguments)

    want = computed("Appendix A")
    for candidate in candidates:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            computed(candidate), want,
        )  # fmt: skip
    other = computed("elementwise")[0][0]
    assert abs(other - want[0][0]) > 1e-4


@pytest.mark.parametrize("kind", ["model", "layer"])
def test_lower_bound_has_each_matrix_product_once(programs, kind):
    shape = programs.Shape(2, 32, 4, 6, layers=1)

    def products(candidate, part):
        program = programs.build(kind, candidate, part, shape)
        return str(jax.make_jaxpr(program.function)(*program.arguments)).count("dot_general")

    each = {"model": 3, "layer": 2}[kind]
    assert products("products", "forward") == each
    assert products("products", "gradient") == 3 * each
    assert products("products, again", "gradient") == 4 * each


def test_training_steps_can_be_chained(programs):
    shape = programs.Shape(2, 16, 4, 6, layers=1, vocab_size=7)
    program = programs.build("model", "lru", "step", shape)
    step = jax.jit(program.function)
    once = step(*program.arguments)
    twice = step(*once)
    assert jax.tree.structure(once) == jax.tree.structure(program.arguments)
    assert not np.array_equal(jax.tree.leaves(once)[0], jax.tree.leaves(twice)[0])


@pytest.fixture
def language(programs):
    sys.modules.pop("benchmarks.language", None)
    return importlib.import_module("benchmarks.language")


@functools.cache
def build(language, candidate, part, time=6):
    shape = language.Shape("smoke", batch=3, time=time, vocab_size=7)
    return language.build("language", candidate, part, shape)


def test_both_orders_of_a_language_model_have_the_same_loss_carry_and_gradient(language):
    results = []
    for order in ("plain", "wavefront"):
        program = build(language, f"LRU, {order}", "gradient")
        params, carry, *batch = program.arguments
        results.append(jax.jit(program.function)(params, carry + 0.5, *batch))
    plain, wave = results
    jax.tree.map(lambda w, p: np.testing.assert_allclose(w, p, atol=1e-5), wave, plain)


@pytest.mark.parametrize("candidate", ["LRU, plain", "GRU", "nn.GRUCell", "linear LRU"])
def test_chunked_text_with_carry_equals_full_text(language, candidate):
    params, carry, tokens = build(language, candidate, "forward").arguments
    forward = jax.jit(build(language, candidate, "forward").function)
    end, logits = forward(params, carry, tokens)
    middle, first = forward(params, carry, tokens[:, :3])
    again, second = forward(params, middle, tokens[:, 3:])
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), logits, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, end)


def flops(program):
    """Counts the operations of the matrix products in a program, with the turns of its loops."""

    def count(jaxpr):
        total = 0
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                (summed, _), _ = eqn.params["dimension_numbers"]
                depth = np.prod([eqn.invars[0].aval.shape[axis] for axis in summed])
                total += 2 * depth * eqn.outvars[0].aval.size
            inside = sum(count(sub) for sub in jax.extend.core.jaxprs_in_params(eqn.params))
            total += inside * eqn.params.get("length", 1)
        return total

    return count(jax.make_jaxpr(program.function)(*program.arguments).jaxpr)


@pytest.mark.parametrize("part, times", [("forward", 1), ("gradient", 3)])
def test_lower_bound_of_a_language_model_has_its_products_alone(language, part, times):
    h, layers, vocabulary = 8, 2, 7
    each = 2 * times * 3 * (layers * 12 * h**2 + h * vocabulary)  # one step of three sequences
    assert flops(build(language, "products", part)) == 6 * each
    assert flops(build(language, "LRU, plain", part)) == 6 * each
    # XLA counts a loop's body once, so compare a single turn: XLA removed none of it as dead code.
    single = build(language, "products", part, time=1)
    compiled = jax.jit(single.function).lower(*single.arguments).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(each, rel=0.01)


def test_training_steps_of_a_text_can_be_chained(language):
    program = build(language, "nn.GRUCell", "step")
    once = jax.jit(program.function)(*program.arguments)
    assert jax.tree.structure(once) == jax.tree.structure(program.arguments)
    assert not np.array_equal(jax.tree.leaves(once[2])[0], jax.tree.leaves(program.arguments[2])[0])


def run(*arguments):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_run_writes_record_and_plot(tmp_path):
    out = tmp_path / "lengths.json"
    done = run("length", "--longest=1024", "--candidates=lru", "--rounds=2", f"--out={out}")
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (row,) = record["rows"]
    assert {"commit", "hardware", "date", "command"} <= record.keys()
    assert (row["time"], row["contestant"], len(row["seconds"])) == (1024, "lru", 2)
    assert row["ratio"] == 1 and row["temporary_bytes"] > 0 and row["peak_bytes"] > 10**7
    assert done.stdout.count("\n") == 3 and "| lru |" in done.stdout
    assert out.with_suffix(".png").stat().st_size > 5000


def test_text_is_measured_in_tokens(tmp_path):
    out = tmp_path / "language.json"
    options = ["--shapes=quick", "--parts=forward", "--candidates=products", "--rounds=1"]
    done = run("language", *options, f"--out={out}")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["tokens_per_second"] == 20 * 50 / row["median_seconds"]
    assert (row["variant"], row["d_model"]) == ("quick", 109) and row["parameters"] > 290_000
    assert " tokens |" in done.stdout


def test_program_larger_than_memory_is_skipped(tmp_path):
    done = run("layer", "--shapes=long", "--parts=forward", "--candidates=lru", "--memory_gb=0")
    assert done.returncode == 0 and "not run: needs" in done.stdout


def test_mistake_prints_one_line():
    done = run("model", "--shapes=lisptops")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --shapes has no 'lisptops'; expected some of")
    assert done.stderr.count("\n") == 1


def test_seconds_are_per_call_and_medians_over_rounds(monkeypatch):
    from benchmarks import measure

    clock = iter([10.0, 18.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    program = SimpleNamespace(function=lambda x: (x + 1,), arguments=(0,), calls=4, loops=True)
    assert measure._timed(program, program.arguments) == (2.0, (4,))
    want = {"seconds": [4.0, 1.0, 9.0], "median_seconds": 4.0, "ratio": 2.0}
    assert measure._summary([4.0, 1.0, 9.0], [2.0, 1.0, 3.0]) == want


def test_copy_moves_the_bytes_it_reads_and_writes(programs):
    shape = programs.Shape(2, 16, 4, 6)
    copy, gradient = (
        programs.build("recurrence", "copy", part, shape) for part in ("forward", "gradient")
    )
    assert copy.moved == 2 * (16 * 2 * 6) * 8  # complex64, read and written
    assert gradient.moved == 0


def test_rates_are_bytes_tokens_or_steps_per_second():
    from benchmarks import table

    row = {"median_seconds": 0.25, "part": "step", "batch": 2, "paper_batch": 2}
    row |= {"paper_steps_per_second": 2.1}
    assert table._rate(row | {"bytes_per_second": 3e9}) == "3.0 GB"
    assert table._rate(row | {"tokens_per_second": 4000.0}) == "4,000 tokens"
    assert table._rate(row) == "4.00 (A100, Table 4: 2.1)"
    assert table._rate(row | {"batch": 1}) == "4.00"
