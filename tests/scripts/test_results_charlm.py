"""The page and the pictures of language models agree with the records."""

import copy
import json
import math

import pytest
from paper.charlm import DATA, MAIN, NAMES, PERCENT, TALK, read_curves
from report import charlm, charlm_plots, rows
from report.charlm import Cell, cell_of, page

CURVE = [1.8, 1.5, 1.4, 1.45, 1.5]  # test loss after every epoch


def record(row, loss=1.4, ended=True, **changes):
    """Makes a record of five epochs of ten steps; the third is the best."""
    config = json.loads(json.dumps(row.load()))
    test = {"step": 30, "loss": loss, "bits_per_character": loss / math.log(2), "accuracy": 0.6}
    steps = range(10, 60, 10)
    return {
        "config": config, "seed": row.seed, "data": "full", "parameters": 1234, "steps": 50,
        "steps_planned": 1000, "steps_per_epoch": 10, "seconds": 90.0, "steps_per_second": 4.0,
        "hardware": {"platform": "cpu", "device": "cpu", "devices": 1, "cpu_cores": 2},
        "validation": test | {"loss": loss - 0.1}, **({"test": test} if ended else {}),
        "curves": {
            "validation": [[step, value - 0.1] for step, value in zip(steps, CURVE)],
            "test": [[step, value] for step, value in zip(steps, CURVE)],
        },
    } | changes  # fmt: skip


def line(text, beginning, section):
    text = text[text.index(section) :]
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_small_models_have_a_table_for_each_text():
    row = rows.charlm("warpeace", "lru", "quick")
    runs = {f"{i}": record(row._replace(seed=i), loss) for i, loss in enumerate((1.4, 1.42))}
    runs["1"]["steps"] = 40
    text = page(runs)
    want = (
        "| LRU | 1.410 (0.010), 2 seeds | 2.034 (0.014) | 4 to 5 / 3 | 1,234 "
        "| 1.5 min, 2 CPU cores | full |"
    )
    assert line(text, "| LRU |", "### War and Peace") == want
    assert "| GRU |" not in text
    assert "### Penn Treebank" not in text


@pytest.mark.parametrize(
    "row, section, name, paper",
    [
        (rows.charlm("ptb", "lru"), "10 million", "Penn Treebank, LRU", "0.9649"),
        (rows.charlm("enwik8", "gru", "24m"), "24 million", "enwik8, GRU", "1.0862"),
        (rows.charlm("text8", "linear_lru"), "10 million", "text8, linear LRU", "-"),
        (
            rows.charlm("warpeace", "lstm", "talk", 6), "The talk's table",
            "War and Peace, 6 layers, LSTM", "1.530",
        ),
    ],
)  # fmt: skip
def test_run_is_shown_beside_the_papers_number(row, section, name, paper):
    want = f"| {name} | {paper} | 1.400, 1 seed | 5 / 3 | 1.5 min, 2 CPU cores | full |"
    assert line(page({"a": record(row)}), f"| {name} |", section) == want
    assert page({"a": record(row)}).count("1 seed") == 1


def test_rows_that_were_not_run_are_counted():
    text = page({})
    count = sum(value != "-" for value in TALK.values())
    assert f"- The talk's table: {count} of {count} rows were not run." in text
    assert f"10 million parameters: {len(MAIN) // 2} of {len(MAIN) // 2} rows were not run." in text
    assert "|" not in text and "## Small" not in text
    stopped = record(rows.charlm("ptb", "lru"), ended=False)
    for run, missing in ((stopped, 0), (record(rows.charlm("ptb", "lru")), 1)):
        number = len(MAIN) // 2 - missing
        assert f"10 million parameters: {number} of {len(MAIN) // 2} rows were not run." in page(
            {"a": run}
        )


def test_stopped_run_shows_its_epochs():
    stopped = record(rows.charlm("ptb", "lru"), ended=False, steps=47)
    got = line(page({"a": stopped}), "| Penn Treebank, LRU", "10 million")
    assert "| stopped at 1.400 | 4.7 of up to 100 / 3 | 1.5 min" in got
    del stopped["validation"]
    stopped |= {"steps": 4, "curves": {"validation": [], "test": []}}
    got = line(page({"a": stopped}), "| Penn Treebank, LRU", "10 million")
    assert "| stopped | 0.4 of up to 100 | 1.5 min" in got
    assert charlm_plots.pictures({"a": stopped}) == []


def test_run_with_other_options_is_listed_separately():
    other = record(rows.charlm("ptb", "lru"))
    other["config"]["model"]["d_model"] = 999
    before, apart = page({"charlm/a.json": other}).split("## Runs with other options")
    assert "| [charlm/a.json](charlm/a.json) | 1.400, 1 seed | 2.020 | 5 / 3 |" in apart
    assert "1 seed" not in before
    assert cell_of({"config": copy.deepcopy(other["config"]) | {"data": {"type": "x"}}}) is None


def test_run_on_synthetic_text_is_listed_separately():
    made_up = record(rows.charlm("ptb", "lru", "quick"), data="made-up")
    made_up["config"]["data"]["source"] = "made_up"
    text = page({"a": made_up})
    assert "| [a](a) | 1.400, 1 seed |" in text and "## Small" not in text


def test_runs_on_a_share_of_the_text_have_their_own_table():
    text = page({"a": record(rows.charlm("ptb", "lru", percent=40))})
    got = line(text, "| Penn Treebank, LRU, 10m, 40 %", "Shares of the text")
    assert got.startswith("| Penn Treebank, LRU, 10m, 40 % | 0.9926 | 1.400, 1 seed |")
    assert "## The paper's figures: 10 million" not in text
    small = page({"a": record(rows.charlm("ptb", "lru", "quick", percent=40))})
    assert "| Penn Treebank, LRU, quick, 40 % | - |" in small and "## Small" not in small


def lines(panel, model):
    colour, _ = charlm_plots.STYLE[model]
    return [(drawn.get_linestyle(), drawn.get_xydata().tolist(), drawn.get_alpha())
            for drawn in panel.get_lines() if drawn.get_color() == colour]  # fmt: skip


def test_curve_is_solid_up_to_the_best_epoch_and_dashed_after_it():
    (cells, _) = charlm.sort({"a": record(rows.charlm("ptb", "gru", "quick"))})
    (panel,) = charlm_plots.plot_curves(cells).axes
    assert lines(panel, "gru") == [
        ("-", [[1, 1.8], [2, 1.5], [3, 1.4]], None),
        ("--", [[3, 1.4], [4, 1.45], [5, 1.5]], None),
    ]
    assert panel.get_title() == "Penn Treebank, 2 layers"


def test_papers_curve_is_behind_ours_of_the_same_size():
    (cells, _) = charlm.sort({"a": record(rows.charlm("text8", "rhn"))})
    (panel,) = charlm_plots.plot_curves(cells).axes
    first = lines(panel, "rhn")[0]
    paper = [[epoch + 1, loss] for epoch, loss in read_curves()["text8", "10m", "rhn"]]
    assert first == ("-", paper, 0.4)
    assert panel.get_ylim()[1] == pytest.approx(max(CURVE) + 0.05 * (max(CURVE) - min(CURVE)))


def test_single_point_makes_no_picture():
    row, curves = rows.charlm("ptb", "lru", "quick"), {"test": [[10, 1.8]]}
    at_its_end = record(row) | {"steps": 30, "curves": curves}
    assert not charlm_plots.pictures({"a": at_its_end})


def test_pictures_show_the_runs(tmp_path):
    runs = {
        "a": record(rows.charlm("ptb", "lru", "quick")),
        "b": record(rows.charlm("ptb", "lru", percent=40)),
        "c": record(rows.charlm("ptb", "lru")),
        "d": record(rows.charlm("ptb", "lru", "24m"), ended=False),
    }
    found = {picture.name: picture for picture in charlm_plots.pictures(runs)}
    assert list(found) == [
        "charlm/curves_quick.png", "charlm/curves_10m.png", "charlm/percent_10m.png",
        "charlm/curves_24m.png", "charlm/epochs.png",
    ]  # fmt: skip
    assert "paper" in found["charlm/curves_10m.png"].caption
    assert "paper" not in found["charlm/curves_quick.png"].caption
    epochs = found["charlm/epochs.png"].figure()
    titles = [panel.get_title() for panel in epochs.axes]
    assert titles == ["Penn Treebank, 2 layers, :10m"]
    dots = [line for line in epochs.axes[0].get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().tolist() for line in dots] == [[3, 3]]
    (panel,) = found["charlm/percent_10m.png"].figure().axes
    ours = next(line for line in panel.get_lines() if line.get_label() == "LRU")
    assert ours.get_xydata().tolist() == [[40, 1.4], [100, 1.4]]
    files = [tmp_path / name for name in ("one.png", "two.png")]
    for file in files:
        found["charlm/curves_quick.png"].draw(file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(files[0].read_bytes()) < 100_000


def test_papers_curves_end_at_the_numbers_of_its_table():
    curves = read_curves()
    assert set(curves) == {(d, s, m) for d in DATA for s in ("10m", "24m") for m in NAMES} - {
        (d, s, "linear_lru") for d in DATA for s in ("10m", "24m")
    }
    for key, points in curves.items():
        assert [epoch for epoch, _ in points] == sorted({epoch for epoch, _ in points})
        (data, size, model), last = key, points[-1][1]
        assert abs(last - float(MAIN[data, size, model])) < 0.02, key
    shares = {key: value for key, value in PERCENT.items() if key[1] == 100}
    for (data, _, model), value in shares.items():
        assert abs(float(value) - float(MAIN[data, "10m", model])) < 0.002


def test_cell_has_the_configs_share_unless_overridden():
    assert cell_of(record(rows.charlm("ptb", "gru"))) == Cell("ptb", "gru", "10m", 2, 0)
    assert cell_of(record(rows.charlm("ptb", "gru", percent=60))).percent == 60


def test_small_models_of_several_depths_have_a_table_and_a_picture():
    runs = {"a": record(rows.charlm("ptb", "gru", "quick"), 1.35)}
    assert "## Depth" not in page(runs)
    runs["b"] = record(rows.charlm("ptb", "gru", "quick", 4), 2.06)
    runs["c"] = record(rows.charlm("ptb", "gru", "quick", 4)._replace(seed=1), 2.1)
    want = "| GRU | 1.350, 1 seed | 2.080 (0.020), 2 seeds | not run | not run |"
    assert line(page(runs), "| GRU |", "### Penn Treebank, depth") == want
    (cells, _) = charlm.sort(runs)
    ours, talk = charlm_plots.plot_depth(cells).axes
    assert lines(ours, "gru")[0][1] == [[2, 1.35], [4, 2.08]]
    assert lines(talk, "gru")[0][1] == [[2, 1.107], [4, 1.092], [6, 1.125], [8, 2.99]]


def test_runs_to_the_best_epoch_have_a_table_by_share_and_a_picture():
    runs = {
        "a": record(rows.charlm("ptb", "gru", "converge", 4), 1.5),
        "b": record(rows.charlm("ptb", "gru", "converge", 4)._replace(seed=1), 1.6),
        "c": record(rows.charlm("ptb", "gru", "converge", 4, percent=5), 1.4),
    }
    text, section = page(runs), "## Convergence"
    want = "| Penn Treebank, 4 layers, 2 % | GRU | 1.550 (0.050), 2 seeds | 2.236 (0.072) | 3.0 "
    assert line(text, "| Penn Treebank, 4 layers, 2 %", section).startswith(want + "(0.0) | 5 |")
    assert "| 1.400, 1 seed |" in line(text, "| Penn Treebank, 4 layers, 5 %", section)
    assert "Shares of the text" not in text
    found = {picture.name: picture for picture in charlm_plots.pictures(runs)}
    (panel,) = found["charlm/percent_converge.png"].figure().axes
    assert lines(panel, "gru")[0][1] == [[2, 1.55], [5, 1.4]]
    assert panel.get_title() == "Penn Treebank, 4 layers, :converge"


def test_gradients_are_plotted_by_layer_on_one_scale():
    runs = {}
    for model, first in (("gru", 1e-6), ("lru", 1e-2)):
        row = rows.charlm("ptb", model, "quick", 8)
        norms = [[100, [first] * 4 + [1.0] * 4], [200, [first] * 4 + [2.0] * 4]]
        runs[model] = record(row, gradient_norms=norms)
    found = {picture.name: picture for picture in charlm_plots.pictures(runs)}
    figure = found["charlm/gradients_quick.png"].figure()
    gru, lru, _ = figure.axes
    assert gru.get_title() == "GRU, 8 layers, Penn Treebank"
    scales = [panel.collections[0].get_clim() for panel in (gru, lru)]
    assert scales[0] == scales[1] == (2e-6, 2.0)
    assert gru.collections[0].get_array().tolist()[0] == [1e-6, 1e-6]
