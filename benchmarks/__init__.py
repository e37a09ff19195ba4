"""Benchmarks: ratios against baselines of the same run, with spread."""
