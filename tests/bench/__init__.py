"""Benchmarks: `python -m tests.bench`.  Each prints JSON lines with the figures of both sides."""
