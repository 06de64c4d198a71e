"""The programs that scripts/benchmark.py measures, and the code that measures them."""
