"""All benchmarks one after another, on one quiet machine: what `make bench` runs. Name some to run only those."""

import argparse
import os
import subprocess
import sys

from latencylab.backends.backend import open_backend
from latencylab.backends.local import LocalBackend
from latencylab.experiment import Experiment

BENCHMARKS = {
    "producer": "what one producer process sustains",
    "database": "what a frame's update costs among few documents and many",
    "analysis": "ten million rows of latency CSV",
    "overhead": "what the measuring itself costs",
    "inference": "the inference server against what people use instead",
    "pipeline": "the whole pipeline at shares of its capacity, ours and naive ones",
}


def _run(name: str, environment: dict[str, str] | None = None) -> int:
    print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    return subprocess.run(command, env={**os.environ, **(environment or {})}, check=False).returncode


def main() -> int:
    """Run those named, or all; the number of those that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help=", ".join(BENCHMARKS))
    failed = 0
    for name in parser.parse_args().names or list(BENCHMARKS):
        if name in ("producer", "database"):
            with open_backend(Experiment.parse({"batch_max": 1}), lambda _: None) as backend:
                assert isinstance(backend, LocalBackend)
                stack = backend.stack
                environment = {"KAFKA_BOOTSTRAP": stack.kafka_bootstrap, "MONGODB_URI": stack.mongodb_uri}
                failed += _run(name, environment) != 0
        else:
            failed += _run(name) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
