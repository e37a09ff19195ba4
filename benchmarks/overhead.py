"""What the measuring itself costs: the same runs with the latency CSV and without it, in turn.

Both are timed by what MongoDB's documents say (the write of the label was issued at), which needs no CSV. The stamps
themselves can't be left out, since without them there is nothing to compare; a stamp is two clock reads, timed apart.
And what the end of the producers does to the frames that are still on their way: the last second against the rest.
"""

import argparse
import tempfile
import timeit
from pathlib import Path
from typing import Final

from benchmarks.targets import quiet_bar, spread
from latencylab.backends.backend import Backend, open_backend
from latencylab.experiment import Experiment
from latencylab.measurement import measure
from latencylab.request import Request
from latencylab.runs import RunName
from services.contract.clock import Clock

CAMERAS: Final = 4
_END_S: Final = 1.0


def _medians_ms(experiment: Experiment, repetition: int, backend: Backend, root: Path) -> tuple[float, float]:
    """Median latency of a run's frames before its last second and in it, ms."""
    name = RunName("overhead", "csv" if experiment.write_csv else "no-csv", repetition)
    frames = measure(Request(name, experiment, root=root), backend, lambda _: None, quiet_bar).frames
    latency_ms = (frames["document_labelled_ns"] - frames["intended_ns"]) / 1e6
    at_end = frames["intended_ns"] > frames["intended_ns"].max() - _END_S * 1e9
    return float(latency_ms[~at_end].median()), float(latency_ms[at_end].median())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without the CSV (default 5 each)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of load of each run (default 10)")
    parser.add_argument("--rate", type=float, default=4.0, help=f"frames per second of {CAMERAS} cameras (default 4)")
    args = parser.parse_args(arguments)

    base = {"producers": CAMERAS, "rate_hz": args.rate / CAMERAS, "duration_s": args.duration}
    variants = [Experiment.parse(base | {"write_csv": on}) for on in (True, False)]
    pairs, ends = [], []
    with tempfile.TemporaryDirectory() as root, open_backend(variants[0], lambda _: None) as backend:
        for repetition in range(1, args.pairs + 1):
            order = variants if repetition % 2 else variants[::-1]
            medians = {e.write_csv: _medians_ms(e, repetition, backend, Path(root)) for e in order}
            with_ms, without_ms = (medians[on][0] for on in (True, False))
            pairs.append(with_ms / without_ms)
            ends += [at_end / before for before, at_end in medians.values()]
            print(f"pair {repetition}: p50 with CSV {with_ms:.1f} ms, without {without_ms:.1f} ms", flush=True)
    print(f"p50 with / without CSV: {spread(pairs, 3)}")
    print(f"p50 in the last second / before it: {spread(ends, 3)}")
    clock = Clock()
    repeats = sorted(timeit.repeat(clock.now_ns, number=100_000, repeat=5))
    print(f"one stamp: median {repeats[2] * 1e4:.0f} ns ({repeats[0] * 1e4:.0f}–{repeats[-1] * 1e4:.0f})")


if __name__ == "__main__":
    main()
