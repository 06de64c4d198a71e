"""Laws of a run's record."""

from pathlib import Path

from lru.training import record


def test_a_tree_without_history_takes_its_commit_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "__file__", str(tmp_path / "lru" / "training" / "record.py"))
    monkeypatch.setenv("LRU_COMMIT", "0123abc")
    assert record.circumstances()["commit"] == "0123abc"
    monkeypatch.delenv("LRU_COMMIT")
    assert record.circumstances()["commit"] is None


def test_a_checkout_does_not_ask_the_environment(monkeypatch):
    monkeypatch.setenv("LRU_COMMIT", "wrong")
    assert (Path(record.__file__).parents[2] / "lru").is_dir()
    assert record.circumstances()["commit"] != "wrong"
