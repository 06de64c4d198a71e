"""The pages of results/ are made from the records there."""

import re
import statistics
from pathlib import Path

import pytest
from paper.lra import TASKS
from report import charlm, recall
from report.lra import sort

from lru.errors import UserError
from results import main, pages, pictures, read

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_pages_equal_what_the_records_give():
    records = read(RESULTS)
    for name, text in pages(records, pictures(records)).items():
        assert (RESULTS / name).read_text() == text, name


@pytest.mark.parametrize("page", ["README.md", "docs/linear_paper.md"])
def test_page_has_the_means_of_the_small_models(page):
    cells, text = sort(read(RESULTS)["lra"]).cells, (RESULTS.parent / page).read_text()
    for task in TASKS:
        accuracies = [100 * run["test"]["accuracy"] for run in cells[task, "lru", "quick"]]
        row = next(line for line in text.splitlines() if f"| `configs/lra_{task}.py` |" in line)
        assert f"| {statistics.mean(accuracies):.1f} %" in row, task


def test_readme_has_the_means_of_recall_and_of_the_character_model():
    records, readme = read(RESULTS), (RESULTS.parent / "README.md").read_text()
    quick = recall.sort(records["recall"]).quick
    accuracy, without = (
        statistics.mean(recall.accuracies(quick[name])) for name in ("lru", "ring")
    )
    (row,) = re.findall(r"\| `configs/recall.py` \|.*", readme)
    assert f"| {accuracy:.1f} %; without gamma {without:.1f} % (chance) |" in row
    runs = charlm.sort(records["charlm"])[0][charlm.Cell("ptb", "lru", "quick", 2)]
    (row,) = re.findall(r"\| `configs/charlm_lru.py:ptb` \|.*", readme)
    assert f"| {statistics.mean(run['test']['loss'] for run in runs):.3f} nats, two layers |" in row


def test_every_link_of_a_page_exists():
    for page in RESULTS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (RESULTS / link).exists(), link


def test_pages_without_records_have_no_pictures(tmp_path):
    main([f"--results={tmp_path}"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "README.md", "charlm.md", "lra.md", "recall.md", "speed.md",
    ]  # fmt: skip
    assert "0 records." in (tmp_path / "README.md").read_text()
    assert "![" not in (tmp_path / "charlm.md").read_text()


@pytest.mark.parametrize("name", ["lra/a.json", "charlm/a.json", "benchmark_a.json"])
def test_damaged_record_raises(name, tmp_path):
    whole = next(iter(sorted((RESULTS / "charlm").glob("*.json")))).read_text()
    deep = "[" * 100_000
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    for content in ('{"config":', "5", "null", "{}", "[]", deep, whole.replace('"seconds"', '"s"')):
        file.write_text(content)
        with pytest.raises(UserError, match="a.json is damaged .*; restore it, or delete it"):
            read(tmp_path)
