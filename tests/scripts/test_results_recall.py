"""The page of Recall agrees with the records."""

import json

import numpy as np
import pytest
from report.recall import Cell, best, cell_of, learned_at, page, sort
from report.recall_plots import eigenvalues, pictures
from report.rows import RECALL_ABLATIONS, RECALL_RATES, recall

START, END = 0.9999 * np.exp([0.1j, 0.2j]), 0.999 * np.exp([0.1j, 0.3j])


def record(
    ablation="lru", length=1024, rate="0.003", seed=0, accuracy=1.0, validation=None, size="table",
    **changes,
):  # fmt: skip
    config = json.loads(json.dumps(recall(ablation, length, rate, size).load())) | {"seed": seed}
    result = {"step": 100, "loss": 0.5, "accuracy": accuracy}
    layers = [{"mixer": [lam.real.tolist(), lam.imag.tolist()]} for lam in (START, END)]
    return {
        "config": config, "seed": seed, "data": "artificial", "parameters": 6948, "steps": 1000,
        "steps_planned": 1000, "seconds": 90.0, "steps_per_second": 4.0,
        "hardware": {"platform": "cpu", "device": "cpu", "devices": 1, "cpu_cores": 1},
        "validation": result | {"accuracy": accuracy if validation is None else validation},
        "test": result, "validation_curve": [[50, 2.5, 0.25], [100, 0.5, accuracy]],
        "eigenvalues": dict(zip(("0", "100"), layers)),
    } | changes  # fmt: skip


def line(text, beginning):
    return next(line for line in text.splitlines() if line.startswith(beginning))


@pytest.mark.parametrize("ablation", RECALL_ABLATIONS)
def test_run_counts_for_its_own_cell(ablation):
    assert cell_of(record(ablation, 256, "0.01", seed=2)) == Cell(ablation, 256, "0.01")


def test_seeds_are_averaged_at_the_best_rate_on_validation():
    runs = {
        "a": record(seed=0, accuracy=0.98),
        "b": record(seed=1, accuracy=1.0),
        "c": record(seed=0, rate="0.01", accuracy=1.0, validation=0.5),
        "d": record(seed=0, rate="0.001", accuracy=0.3),
    }
    (cell, found) = best(sort(runs)[0], "lru", 1024)
    assert cell.rate == "0.003" and len(found) == 2
    want = "| LRU | not run | 99.0 (1.0), 2 seeds @ 0.003 | not run |"
    assert line(page(runs), "| LRU |") == want


def test_best_rate_compares_shared_seeds_only():
    runs = {
        "a": record(accuracy=0.9),
        "b": record(seed=1, accuracy=0.0),
        "c": record(rate="0.01", accuracy=0.8),
    }
    assert best(sort(runs)[0], "lru", 1024)[0].rate == "0.003"


def test_lower_loss_decides_between_equal_accuracies():
    low = record(rate="0.01")
    low["validation"] = low["validation"] | {"loss": 0.1}
    assert best(sort({"a": record(), "b": low})[0], "lru", 1024)[0].rate == "0.01"


def test_best_of_fewer_rates_shows_their_number():
    assert "| 50.0, 1 seed @ 0.01, of 1 |" in page({"a": record("s5", 256, "0.01", accuracy=0.5)})


def test_other_or_unfinished_run_is_listed_separately():
    changed, unfinished = record(), record(seed=1, steps=7)
    changed["config"]["model"]["d_model"] = 99
    del unfinished["test"]
    text = page({"recall/a.json": changed, "recall/b.json": unfinished})
    table, apart = text.split("## Runs with other options")
    assert "| LRU |" not in table
    assert "[recall/a.json](recall/a.json) | 1,000 of 1,000" in apart
    assert "[recall/b.json](recall/b.json) | 7 of 1,000" in apart


def test_diverged_runs_are_neither_averaged_nor_missing():
    diverged = record("relu", 256, "0.01", diverged_at=315)
    del diverged["test"], diverged["validation"]
    text = page({"a": record("relu", 256, accuracy=0.25), "b": diverged})
    assert "| dense, ReLU | 25.0, 1 seed @ 0.003, of 2 |" in text
    assert "| 256 | dense, ReLU | 0.01 | diverged at step 315 | no |" in text
    assert line(text, "- T = 256: not run").endswith("; dense, ReLU at 0.001.")


def test_page_begins_with_claim_command_and_chance():
    beginning = page({}).split("##")[0]
    assert beginning.index("**The claim.**") < beginning.index("configs/recall.py:quick")
    assert "Chance accuracy is 25.0 %" in beginning and "error is 1.0 %" in beginning
    assert "reproduce.py --table=recall" in beginning and "scripts/results.py" in beginning


def test_rows_that_were_not_run_are_named():
    text = page({"a": record()}).split("## What was not run")[1]
    assert "- `:quick`: not run: dense, ReLU; " in text
    assert "The table has 1 runs, for 1 of the 126 combinations" in text
    assert "T = 256: nothing was run." in text
    assert line(text, "- T = 1,024: not run: dense, ReLU; ").endswith("; LRU at 0.001 and 0.01.")
    every = {
        f"{ablation} {rate}": record(ablation, rate=rate)
        for ablation in RECALL_ABLATIONS
        for rate in RECALL_RATES
    }
    assert "T = 1,024: all combinations were run." in page(every)


def test_gamma_and_phase_are_explained_by_the_runs():
    runs = {
        "a": record(),
        "b": record("ring", accuracy=0.49),
        "c": record("full_phase", accuracy=0.75),
    }
    text = page(runs)
    gamma, phase = (text.split(f"**{name}.**")[1].split("\n\n")[0] for name in ("Gamma", "Phase"))
    assert (
        "2.50 nats" in gamma
        and "without gamma and with all else equal, test accuracy is 49.0 %" in gamma
    )
    assert "With gamma, test accuracy is 100.0 %, and 1 of 1 runs reached 99 %" in gamma
    assert "75.0 %, and no run reached 99 %" in phase
    assert "**Gamma.**" not in page({"c": runs["c"]})


def test_learned_at_is_the_first_step_with_99_per_cent():
    assert learned_at(record()) == 100
    assert learned_at(record(accuracy=0.98)) is None


def test_runs_of_quick_have_a_table_and_explain_without_others():
    runs = {"a": record(size="quick"), "b": record("ring", accuracy=0.4, size="quick")}
    text = page(runs)
    assert "## Test accuracy in percent, at the best learning rate" not in text
    small = text.split("## `:quick`")[1].split("##")[0]
    assert line(small, "| LRU |") == "| LRU | 100.0, 1 seed | after 100 steps, 1 of 1 |"
    assert line(small, "| ring, small").endswith("| 40.0, 1 seed | no |")
    assert "equal, test accuracy is 40.0 %" in text.split("**Gamma.**")[1]
    names = [picture.name for picture in pictures(runs)]
    assert names == ["recall/curves_quick.png", "recall/spectra_1024.png"]
    assert pictures({"b": runs["b"]})[0].name == "recall/spectra_1024.png"
    assert "equal, test accuracy is 50.0 %" in page(
        runs | {"c": record(), "d": record("ring", accuracy=0.5)}
    )


def test_pictures_are_curves_by_length_and_eigenvalues():
    runs = {
        "a": record(), "b": record("ring", accuracy=0.4), "c": record(seed=1),
        "d": record("s4d", 256), "e": record("lru", 256), "f": record("lru", 4096),
    }  # fmt: skip
    found = pictures(runs)
    names = ["recall/curves_256.png", "recall/curves_1024.png", "recall/spectra_1024.png"]
    assert [picture.name for picture in found] == names
    (steps,) = found[1].figure().axes
    lines = {line.get_label(): line.get_xydata() for line in steps.get_lines()}
    np.testing.assert_allclose(lines["LRU"], [[50, 25], [100, 100]])
    assert len(steps.get_lines()) == 4  # two seeds, one run without gamma, chance
    assert len(found[2].figure().axes) == 2
    assert "10 times" not in found[2].caption and "900 %" in found[2].caption
    assert page(runs, found).count("![") == 3


def test_panel_compares_two_recurrences_if_there_are_two():
    def axes(*ablations):
        (curves, *_) = pictures(
            {ablation: record(ablation, size="quick") for ablation in ablations}
        )
        return [axis.get_title() for axis in curves.figure().axes]

    assert axes("lru", "ring") == ["T = 1,024: ablations of the LRU"]
    assert len(axes("lru", "ring", "s5")) == 2
    assert len(axes("ring", "s5")) == 2


def test_eigenvalues_are_before_training_and_of_the_tested_checkpoint():
    before, after = eigenvalues(record())
    np.testing.assert_allclose(before, START)
    np.testing.assert_allclose(after, END)
