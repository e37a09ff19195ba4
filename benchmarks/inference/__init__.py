"""The inference server against what people use instead: ``python -m benchmarks.inference``."""
