"""Benchmarks: how fast, how late, how good, and beside whom; `python -m benchmarks`."""
