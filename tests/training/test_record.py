"""Laws of a run's record."""

from lru.training import record


def test_the_environment_names_the_commit_of_a_copied_tree(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "__file__", str(tmp_path / "lru" / "training" / "record.py"))
    monkeypatch.setenv("LRU_COMMIT", "0123abc")
    assert record.circumstances()["commit"] == "0123abc"
    monkeypatch.delenv("LRU_COMMIT")
    assert record.circumstances()["commit"] is None
