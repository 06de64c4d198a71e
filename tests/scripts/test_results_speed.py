"""The page of measurements shows all records, newest first."""

from report.speed import page


def record(date, ratio):
    row = {
        "shape": "text", "part": "step", "contestant": "lru", "batch": 2, "paper_batch": 32,
        "seconds": [0.5, 0.7, 0.6], "median_seconds": 0.6, "ratio": ratio, "temporary_bytes": 2e6,
        "peak_bytes": 3e8, "compile_seconds": 4.04,
    }  # fmt: skip
    hardware = {"platform": "cpu", "cpu_cores": 1, "versions": {"jax": "0.10.2"}}
    return {
        "command": "python scripts/benchmark.py model", "date": date, "commit": "abcdef0123",
        "hardware": hardware, "rows": [row, row | {"skipped": "needs 9.0 GB"}],
    }  # fmt: skip


def test_record_is_shown_with_command_hardware_and_all_rows():
    text = page({"benchmark_a.json": record("2026-01-02T03:04:05+00:00", 1.25)})
    assert "### benchmark_a\n\n```sh\npython scripts/benchmark.py model" in text
    assert (
        "2026-01-02, 1 CPU core, jax 0.10.2, commit `abcdef0`. [Record](benchmark_a.json)." in text
    )
    row = "| text | step | lru | 600.0 (500.0 - 700.0) | 1.25 | 1.67 | 2 | 300 | 4.0 |"
    assert row in text.splitlines()
    assert "| text | step | lru | not run: needs 9.0 GB |  |  | 2 | 300 | 4.0 |" in text


def test_newest_record_is_first():
    dates = {"old": "2026-01-01T00:00:00+00:00", "new": "2026-01-02T00:00:00+00:00"}
    text = page({name: record(date, 1.0) for name, date in dates.items()})
    assert text.index("### new") < text.index("### old")
