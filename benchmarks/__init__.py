"""Benchmarks: speed, latency, endurance and quality; `python -m benchmarks`."""
