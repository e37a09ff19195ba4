"""What the measuring itself costs: the same runs with the latency CSV and without it, in turn.

Both are timed by what MongoDB's documents say (the write of the label was issued at), which needs no CSV. The stamps
themselves can't be left out, since without them there is nothing to compare; a stamp is two clock reads, timed apart.
"""

import argparse
import statistics
import tempfile
import timeit
from pathlib import Path

from latencylab.backends.backend import Backend, open_backend
from latencylab.experiment import Experiment
from latencylab.measurement import measure
from latencylab.request import Request
from latencylab.runs import RunName
from services.contract.clock import Clock


def _median_ms(experiment: Experiment, repetition: int, backend: Backend, root: Path) -> float:
    name = RunName("overhead", "csv" if experiment.write_csv else "no-csv", repetition)
    frames = measure(Request(name, experiment, root=root), backend, lambda _: None).frames
    return float((frames["document_labelled_ns"] - frames["intended_ns"]).median()) / 1e6


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without the CSV (default 5 each)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of load of each run (default 10)")
    parser.add_argument("--rate", type=float, default=4.0, help="frames per second (default 4)")
    args = parser.parse_args(arguments)

    base = {"rate_hz": args.rate, "duration_s": args.duration}
    variants = [Experiment.parse(base | {"write_csv": on}) for on in (True, False)]
    pairs = []
    with tempfile.TemporaryDirectory() as root, open_backend(variants[0], lambda _: None) as backend:
        for repetition in range(1, args.pairs + 1):
            order = variants if repetition % 2 else variants[::-1]
            medians = {e.write_csv: _median_ms(e, repetition, backend, Path(root)) for e in order}
            pairs.append((medians[True], medians[False]))
            print(
                f"pair {repetition}: p50 with CSV {medians[True]:.1f} ms, without {medians[False]:.1f} ms", flush=True
            )
    ratios = sorted(on / off for on, off in pairs)
    print(f"p50 with / without CSV: median {statistics.median(ratios):.3f} ({ratios[0]:.3f}–{ratios[-1]:.3f})")
    clock = Clock()
    repeats = sorted(timeit.repeat(clock.now_ns, number=100_000, repeat=5))
    print(f"one stamp: median {repeats[2] * 1e4:.0f} ns ({repeats[0] * 1e4:.0f}–{repeats[-1] * 1e4:.0f})")


if __name__ == "__main__":
    main()
