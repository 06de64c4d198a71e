"""The programs that scripts/benchmark.py measures, and the measurement."""
