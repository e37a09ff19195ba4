"""The whole pipeline at shares of its capacity: ours, ours one request at a time, and on a naive server.

Cameras, Kafka, both consumers, the database and the server share this machine. Capacity is the highest rate at which
our pipeline labelled frames while a backlog never let it idle. All variants then get the same frames at the same
absolute rates, in turn; so does our server alone, driven without Kafka by the same schedule (an open loop, latency
from the intended time), which says what the rest of the pipeline adds. Bounded: about 11 minutes.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.inference.contenders import NAIVE, Running, end_servers_on_sigterm
from benchmarks.inference.frames import make_frames
from benchmarks.inference.load import Target, closed_loop, follow
from benchmarks.pipeline_report import (
    ALONE,
    KEPT_UP,
    OURS,
    TARGET_SHARE,
    Outcome,
    Results,
    judge,
    print_comparison,
    print_stages,
    verdicts,
)
from benchmarks.targets import print_verdicts, quiet_bar
from latencylab import paths
from latencylab.backends.local import PROGRAMS, LocalBackend
from latencylab.collect import schedule_of
from latencylab.experiment import Experiment
from latencylab.measurement import measure
from latencylab.request import Request
from latencylab.runs import RunName
from services.producer.schedule import frames_of_run

CAMERAS: Final = 4
MOST_CAPACITY_RUNS: Final = 4


@dataclass(frozen=True)
class Variant:
    """A pipeline: its inference consumer, and how many requests that keeps in flight (0: it adapts)."""

    name: str
    images_in_flight: int = 0
    consumer: str = PROGRAMS["inference-consumer"]

    @property
    def naive(self) -> bool:
        """Whether it runs on the naive server."""
        return self.consumer != PROGRAMS["inference-consumer"]


_NAIVE_CONSUMER: Final = "benchmarks.naive_consumer"
_OURS: Final = Variant(OURS)
VARIANTS: Final = (_OURS, Variant("ours, one at a time", 1), Variant("naive, one at a time", 1, _NAIVE_CONSUMER))
CONCURRENT: Final = Variant("naive, ours' limit", 0, _NAIVE_CONSUMER)


@dataclass(frozen=True)
class Load:
    """What every run has in common."""

    duration_s: float
    warmup_s: float
    arrivals: str

    def experiment(self, offered_hz: float, images_in_flight: int = 0) -> Experiment:
        """Its parameters at a rate of all cameras together."""
        frames = max(round(offered_hz / CAMERAS * self.duration_s), 1)  # of each camera: whole ones
        values = {
            "cameras_per_producer": CAMERAS,
            "rate_hz": round(frames / self.duration_s, 4),
            "duration_s": self.duration_s,
            "arrivals": self.arrivals,
            "images_in_flight": images_in_flight,
            "drain_timeout_s": 5.0,  # whoever has a backlog then is saturated, which is told
        }
        return Experiment.parse(values)


class Bench:
    """The stack and the naive server, which sleeps unless it is its turn."""

    def __init__(self, backend: LocalBackend, naive: Running, load: Load, root: Path) -> None:
        self._backend = backend
        self._naive = naive
        self._load = load
        self._root = root
        self._frames = make_frames()
        self._runs = 0
        self.target = Target(int(backend.stack.inference_url.rsplit(":", 1)[1]))

    def closed(self, clients: int, images: int) -> float:
        """Images a second that our server alone labels for so many clients."""
        return closed_loop(self.target, self._frames, clients, images, 15.0).images_per_s

    def run(self, variant: Variant, offered_hz: float, number: int = 1) -> Outcome:
        """The pipeline at a rate; in rounds of the same number all have the same frames and arrivals."""
        self._runs += 1
        experiment = self._load.experiment(offered_hz, variant.images_in_flight)
        request = Request(RunName("benchmark", f"run-{self._runs}", number), experiment, root=self._root)
        self._backend.programs["inference-consumer"] = variant.consumer
        with self._awake(variant.naive):
            return judge(measure(request, self._backend, lambda _: None, quiet_bar), self._load.warmup_s)

    @contextmanager
    def _awake(self, naive: bool) -> Iterator[None]:
        if naive:
            self._naive.resume()
        try:
            yield
        finally:
            self._naive.pause()

    def alone(self, offered_hz: float, number: int) -> Outcome:
        """Our server by the same schedule, without a pipeline."""
        request = Request(RunName("benchmark", "alone", number), self._load.experiment(offered_hz))
        schedule = schedule_of(request.experiment, request.seed)
        offsets = frames_of_run(schedule, 1, CAMERAS).intended_ns / 1e9
        sent = follow(self.target, self._frames, offsets.tolist())
        seconds = self._load.duration_s - self._load.warmup_s
        kept = [one for one in sent if one.offset_s >= self._load.warmup_s]
        good = [one for one in kept if one.status == 200]
        done = [one.offset_s + one.latency_s for one in sent if one.status == 200]
        labelled_hz = sum(self._load.warmup_s <= at <= self._load.duration_s for at in done) / seconds
        offered = len(kept) / seconds
        behind = labelled_hz < KEPT_UP * offered or len(good) < len(kept)
        return Outcome(offered, labelled_hz, [one.latency_s * 1e3 for one in good], behind)


def find_capacity(bench: Bench) -> float:
    """Frames/s: the highest rate of ours in runs offered more than it can label, but little more in all but the first,
    since frames that are only stored cost processor time as well."""
    alone_hz = bench.closed(8, 60)
    rates: list[float] = []
    offered_hz = alone_hz
    for number in range(MOST_CAPACITY_RUNS):
        outcome = bench.run(_OURS, offered_hz)
        rates.append(outcome.labelled_hz)
        print(f"capacity: {outcome.offered_hz:.2f} frames/s offered, {outcome.labelled_hz:.2f} labelled", flush=True)
        if number and outcome.saturated:
            break
        offered_hz = 1.15 * max(rates)
    capacity_hz = max(rates)
    print(
        f"capacity of the pipeline: {capacity_hz:.2f} frames/s; our server alone labels {alone_hz:.2f} images/s for 8 "
        f"clients, so {capacity_hz / alone_hz:.2f} of it"
    )
    return capacity_hz


def compare(
    bench: Bench, variants: Sequence[Variant], shares: Sequence[float], capacity_hz: float, repetitions: int
) -> Results:
    """All variants and the server alone at each share, in turn; who is first changes."""
    results: Results = defaultdict(list)
    for number in range(1, repetitions + 1):
        for share in shares:
            turns: list[Variant | None] = [*variants, None]
            shift = number % len(turns)
            for variant in [*turns[shift:], *turns[:shift]]:
                hz = share * capacity_hz
                outcome = bench.run(variant, hz, number) if variant else bench.alone(hz, number)
                name = variant.name if variant else ALONE
                results[share, name].append(outcome)
                told = "saturated" if outcome.saturated else f"p50 {outcome.p50_ms:.0f} ms"
                print(
                    f"round {number}, {share:.0%}, {name}: {outcome.offered_hz:.2f} frames/s offered, "
                    f"{outcome.labelled_hz:.2f} labelled, {told}",
                    flush=True,
                )
    return results


def _arguments(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2, help="rounds of all variants at all rates (default 2)")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of load of each run (default 20)")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds of them that don't count (default 4)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, TARGET_SHARE, 0.95], help="of capacity")
    parser.add_argument("--capacity", type=float, help="frames/s, instead of measuring it")
    parser.add_argument("--arrivals", choices=["constant", "poisson"], default="constant", help="of the cameras")
    parser.add_argument("--concurrent", action="store_true", help="also the naive server with our consumer's limit")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and print it."""
    args = _arguments(arguments)
    end_servers_on_sigterm()
    load = Load(args.duration, args.warmup, args.arrivals)
    variants = [*VARIANTS, *([CONCURRENT] if args.concurrent else [])]
    with ExitStack() as cleanup:
        root = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        backend = LocalBackend()
        cleanup.callback(backend.down)
        backend.up(load.experiment(1.0), lambda _: None)
        naive = Running(NAIVE, sys.executable, {"CACHE_DIRECTORY": str(paths.BUILD / "inference_server")})
        cleanup.callback(naive.end)
        naive.wait_until_it_labels(make_frames(1)[0])
        naive.pause()
        os.environ["NAIVE_URL"] = f"http://127.0.0.1:{naive.target.port}"  # the processes of a run inherit it
        bench = Bench(backend, naive, load, root)
        capacity_hz = args.capacity or find_capacity(bench)
        results = compare(bench, variants, args.shares, capacity_hz, args.repetitions)
    for share in args.shares:
        print_comparison(results, share, [*(variant.name for variant in variants), ALONE])
    if ours := results[TARGET_SHARE, OURS]:
        print_stages(ours)
    print_verdicts(verdicts(results, args.shares))


if __name__ == "__main__":
    main()
