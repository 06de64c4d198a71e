"""The page of the Long Range Arena agrees with the records."""

import copy
import json

import numpy as np
import pytest
from report.lra import page
from report.lra_plots import pictures

from lru.training.config import load_config


def record(variant="configs/lra_text.py", seed=0, accuracy=0.8, **changes):
    config = json.loads(json.dumps(load_config(variant).to_dict())) | {"seed": seed}
    result = {"step": 10, "loss": 0.5, "accuracy": accuracy}
    return {
        "config": config, "seed": seed, "data": "full", "parameters": 1234, "steps": 20,
        "steps_planned": 20, "seconds": 90.0, "steps_per_second": 4.0,
        "hardware": {"platform": "gpu", "device": "H100", "devices": 1, "cpu_cores": 2},
        "validation": result, "test": result,
    } | changes  # fmt: skip


def line(text, beginning, section=""):
    text = text[text.index(section) :]
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_seeds_of_a_row_are_averaged():
    text = page({f"{i}": record(seed=i, accuracy=a) for i, a in enumerate((0.8, 0.84))})
    got = line(text, "| Text, LRU", "Table 3")
    want = "| Text, LRU | 89.4 (0.1) | 82.0 (2.0), 2 seeds | 82.0 @ 10 | 1.5 min, 1 x H100 | full |"
    assert got == want
    assert line(text, "| Text, LRU", "Table 4") == "| Text, LRU | 14.7 | 4 (1 x H100) |"
    assert "| Text, S5" not in text
    assert "- Table 3: the LRU, S4D and S5: 17 of 18 rows were not run." in text


def test_run_counts_for_all_rows_with_its_options_and_is_shown_once():
    run = record("configs/lra_listops.py:ring", accuracy=0.6)
    text = page({"a": run, "b": run})  # equals stable_exp on ListOps
    section = "Tables 2, 7 and 8"
    assert "| 60.0, 1 seed |" in line(text, "| ListOps, diagonal, stable exponential", section)
    want = "| ListOps, + ring | 59.4 (0.3) | the same runs as ListOps, diagonal, stable exponential"
    assert line(text, "| ListOps, + ring", section).startswith(want)


def test_options_of_speed_do_not_change_the_row_of_a_run():
    run = record(accuracy=0.7)
    run["config"]["train"]["matmul_precision"] = "tensorfloat32"
    run["config"]["model"]["remat"] = False
    assert "70.0, 1 seed" in line(page({"a": run}), "| Text, LRU", "Table 3")
    run["config"]["model"]["d_model"] += 1
    assert "## Table 3" not in page({"a": run})


def test_minutes_of_different_machines_are_not_averaged():
    slow = {"platform": "cpu", "device": "cpu", "devices": 1, "cpu_cores": 1}
    text = page({"a": record(), "b": record(seed=1, seconds=600.0, hardware=slow)})
    assert "1.5 min, 1 x H100; 10.0 min, 1 CPU core" in line(text, "| Text, LRU", "Table 3")


def test_ablation_is_recognised_by_its_config():
    text = page({"a": record("configs/lra_text.py:ring", accuracy=0.7)})
    assert "70.0, 1 seed" in line(text, "| Text, + ring", "Tables 2, 7 and 8")
    assert "| Text, LRU" not in text


def test_picture_shows_tasks_with_three_ablations_or_more():
    runs = {
        "a": record("configs/lra_text.py:quick", seed=0, accuracy=0.7),
        "b": record("configs/lra_text.py:quick", seed=1, accuracy=0.72),
        "c": record("configs/lra_text.py:quick,tanh", accuracy=0.6),
        "d": record("configs/lra_cifar.py:quick", accuracy=0.4),
        "e": record("configs/lra_text.py:quick,s5", accuracy=0.5),
    }
    (picture,) = pictures(runs)
    assert picture.name == "lra/ladder_quick.png"
    assert page(runs, [picture]).split("## Table 3")[0].count(picture.markdown()) == 1
    (panel,) = picture.figure().axes
    assert panel.get_title() == "Text"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["dense, tanh", "LRU", "S5"]
    for marker, points in (
        ("o", [[60, 0], [70, 1], [72, 1], [50, 2]]),
        ("|", [[60, 0], [71, 1], [50, 2]]),
    ):
        drawn = [line.get_xydata() for line in panel.get_lines() if line.get_marker() == marker]
        np.testing.assert_allclose(np.concatenate(drawn), points)
    assert not pictures({"a": runs["a"], "d": runs["d"]})


def test_small_models_are_not_shown_beside_the_papers_numbers():
    text = page({"a": record("configs/lra_text.py:quick", accuracy=0.7)})
    small, rest = text.split("## What was not run")
    assert "70.0, 1 seed | 0.500 | 1,234" in small and "70.0" not in rest


def test_run_with_other_options_is_listed_separately():
    changed = record(accuracy=0.7)
    changed["config"]["model"]["d_model"] = 999
    text = page({"lra/a.json": changed})
    before, apart = text.split("## Runs with other options")
    assert "[lra/a.json](lra/a.json) | 70.0, 1 seed" in apart and "70.0" not in before


def test_method_and_steps_per_call_do_not_change_the_row_of_a_run():
    changed = record(accuracy=0.7)
    changed["config"]["train"]["steps_per_call"] = 99
    changed["config"]["model"]["mixer"]["method"] = "sequential"
    text = page({"a": changed})
    assert "70.0, 1 seed" in line(text, "| Text, LRU", "Table 3")


def test_unfinished_run_shows_its_step():
    unfinished = record(steps=7, steps_planned=20)
    del unfinished["test"]
    got = line(page({"a": unfinished}), "| Text, LRU", "Table 3")
    assert "| step 7 of 20 | validation 80.0 @ 10 |" in got


@pytest.mark.parametrize("ablation", ["exp", "stable_exp", ""])
def test_rings_of_table_5_are_recognised(ablation):
    ring = record(f"configs/lra_cifar.py{':' + ablation if ablation else ''}", accuracy=0.7)
    ring = copy.deepcopy(ring)
    ring["config"]["model"]["mixer"].update(r_min=0.5, r_max=0.99)
    names = {"exp": "diagonal, exponential", "stable_exp": "diagonal, stable exponential"}
    name = names.get(ablation, "LRU")
    text = page({"a": ring})
    assert "70.0, 1 seed" in line(text, f"| {name}, r_min = 0.5, r_max = 0.99", "Table 5")
    assert "Runs with other options" not in text


def test_shortened_run_is_shown_with_its_steps():
    run = record(accuracy=0.7)
    run["config"]["train"].update(steps=20, eval_every=5)
    shortened, rest = page({"lra/a.json": run}).split("## What was not run")
    assert "| [Text, LRU](lra/a.json) | 20 of 50,000 | 89.4 (0.1) | 70.0, 1 seed |" in shortened
    assert "lra/a.json" not in rest and "Table 3: the LRU, S4D and S5: 18 of 18 rows were" in rest


def test_chance_has_its_standard_error():
    text = page({"a": record("configs/lra_pathfinder.py:quick", data="generated")})
    assert "test split: PathFinder 50.0 (1.0).\n" in text


def test_synthetic_pairs_count_if_the_config_has_them():
    text = page({"a": record("configs/lra_retrieval.py:quick", data="made-up")})
    assert "| Retrieval, LRU | 80.0, 1 seed |" in text


def test_note_on_the_data_is_shown():
    text = page({"a": record(remark="half of it")})
    assert line(text, "| Text, LRU", "Table 3").endswith("| full (half of it) |")


def test_data_of_different_provenance_are_not_averaged():
    full, other = record("configs/lra_listops.py"), record("configs/lra_listops.py", accuracy=0.6)
    full["config"]["data"]["source"] = "released"
    text = page({"a": full, "b": other | {"data": "generated"}, "c": other | {"data": "stand-in"}})
    rows = [row for row in text.partition("## Tables 2")[0].splitlines() if "ListOps, LRU" in row]
    assert [row.split(" | ")[2] for row in rows] == ["80.0, 1 seed", "60.0, 1 seed"]
    assert "[c](c) | 60.0, 1 seed" in text.partition("## Runs with other options")[2]


@pytest.mark.parametrize("task", ["text", "cifar"])
def test_synthetic_data_count_for_no_row(task):
    for size in ("", ":quick"):
        run = record(f"configs/lra_{task}.py{size}", data="made-up")
        run["config"]["data"]["source"] = "made_up"
        rows, others = page({"a": run}).split("## Runs with other options")
        assert "80.0" not in rows and "[a](a) | 80.0" in others


def test_small_models_show_their_loss():
    text = page({"a": record("configs/lra_pathfinder.py:quick", data="stand-in")})
    assert "| PathFinder, LRU | 80.0, 1 seed | 0.500 | 1,234 |" in text


def test_times_are_means_over_seeds_and_speeds_are_medians():
    measured = ((7_200.0, 4.0), (10_800.0, 5.0), (14_400.0, 30.0))
    runs = {
        f"{seed}": record(seed=seed, seconds=seconds, steps_per_second=speed)
        for seed, (seconds, speed) in enumerate(measured)
    }
    assert "| 3.0 h, 1 x H100 |" in line(page(runs), "| Text, LRU", "Table 3")
    assert line(page(runs), "| Text, LRU", "Table 4") == "| Text, LRU | 14.7 | 5 (1 x H100) |"


def test_last_run_of_a_seed_counts():
    runs = {"a": record(accuracy=0.7), "b": record(accuracy=0.8)}
    assert "| 80.0, 1 seed |" in line(page(runs), "| Text, LRU", "Table 3")


def test_test_score_is_shown_instead_of_validation():
    best = {"step": 10, "loss": 0.1, "accuracy": 0.99}
    run = record("configs/lra_text.py:quick", accuracy=0.7, validation=best)
    assert "| 70.0, 1 seed | 0.500 | 1,234 | 70.0 @ 10 |" in page({"a": run})
