"""What a run of the pipeline showed, and how ours compares with the others and with its own server."""

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.inference.load import percentile
from benchmarks.targets import Verdict, spread
from latencylab import stages
from latencylab.runs import Run
from services.contract.stamps import SERVER_DURATIONS

OURS: Final = "ours"
KEPT_UP: Final = 0.95
"""A variant that labels a smaller share of what it is offered is saturated: its latency is that of its backlog."""

TARGET_SHARE: Final = 0.8
TARGET_RATIO: Final = 1.3
ALONE: Final = "our server alone"


@dataclass(frozen=True)
class Outcome:
    """One run after its warm-up: rates, whether it fell behind, latencies in ms, and what the stages are made of.

    `processors` is how many processors each component kept busy.
    """

    offered_hz: float
    labelled_hz: float
    latencies_ms: list[float]
    saturated: bool
    frames: pd.DataFrame = field(default_factory=pd.DataFrame)
    processors: dict[str, float] = field(default_factory=dict)

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return percentile(self.latencies_ms, 50)


Results = dict[tuple[float, str], list[Outcome]]


def judge(run: Run, warmup_s: float) -> Outcome:
    """What a run showed between the end of its warm-up and the last intended time."""
    start_ns = run.info["start_at_ns"] + int(warmup_s * 1e9)
    end_ns = run.info["start_at_ns"] + int(run.experiment.duration_s * 1e9)
    frames = run.frames[run.frames["intended_ns"] >= start_ns]
    seconds = (end_ns - start_ns) / 1e9
    labelled = run.frames["labelled_ns"].dropna()
    offered_hz = len(frames) / seconds
    labelled_hz = float(labelled.between(start_ns, end_ns).sum()) / seconds
    latencies = (frames["labelled_ns"] - frames["intended_ns"]).dropna().astype("int64") / 1e6
    unlabelled = len(run.frames) - len(labelled)
    return Outcome(
        offered_hz,
        labelled_hz,
        latencies.tolist(),
        saturated=labelled_hz < KEPT_UP * offered_hz or unlabelled > 0,
        frames=frames,
        processors=_processors(run.resources, start_ns, end_ns),
    )


def _processors(resources: pd.DataFrame, start_ns: int, end_ns: int) -> dict[str, float]:
    busy: dict[str, float] = defaultdict(float)
    for (component, _), samples in resources[resources["time_ns"].between(start_ns, end_ns)].groupby(
        ["component", "instance"]
    ):
        if len(samples) > 1:
            span_s = (samples["time_ns"].iloc[-1] - samples["time_ns"].iloc[0]) / 1e9
            busy[str(component)] += float(samples["cpu_s"].iloc[-1] - samples["cpu_s"].iloc[0]) / span_s
    return dict(busy)


def print_comparison(results: Results, share: float, names: Sequence[str]) -> None:
    """Medians over the rounds with the least and the most; p99 of all rounds' frames; ratios round by round."""
    ours = results[share, OURS]
    print(f"\nat {share:.0%} of capacity, {ours[0].offered_hz:.2f} frames/s: end-to-end latency")
    print(f"{'':<22}{'frames/s':>20}{'p50 ms':>20}{'p99 ms':>9}{'of':>6}{'  p50 to ours'}")
    for name in names:
        outcomes = results[share, name]
        rate = f"{name:<22}{spread([outcome.labelled_hz for outcome in outcomes]):>20}"
        if any(outcome.saturated for outcome in outcomes):
            more = spread([own.labelled_hz / other.labelled_hz for own, other in zip(ours, outcomes, strict=True)])
            print(f"{rate}  saturated: its latency is its backlog; ours labels {more} times as many")
            continue
        pooled = [latency for outcome in outcomes for latency in outcome.latencies_ms]
        ratios = [outcome.p50_ms / own.p50_ms for own, outcome in zip(ours, outcomes, strict=True)]
        to_ours = "" if any(own.saturated for own in ours) else spread(ratios)
        p50 = spread([outcome.p50_ms for outcome in outcomes], 0)
        print(f"{rate}{p50:>20}{percentile(pooled, 99):>9.0f}{len(pooled):>6}  {to_ours}")


def print_stages(outcomes: Sequence[Outcome]) -> None:
    """Where the time of ours goes."""
    frames = pd.concat([outcome.frames for outcome in outcomes], ignore_index=True)
    budget = stages.budget(frames, qs=(0.5,))
    table = stages.stage_table(frames)
    print(f"\nours at {TARGET_SHARE:.0%} of capacity, ms: each stage's median, and its mean around the p50")
    for stage, row in budget.iterrows():
        print(f"  {stage:<14}{row['p50_ns'] / 1e6:>8.1f}{row['at_p50_ns'] / 1e6:>8.1f}")
        if stage == "inference":
            for column in (*SERVER_DURATIONS, "server_other_ns"):
                middle = float(np.median(table[column].dropna().to_numpy(dtype=float)))
                print(f"    {column.removesuffix('_ns'):<18}{middle / 1e6:>8.1f}")
    busy = {name: statistics.median(o.processors.get(name, 0.0) for o in outcomes) for name in outcomes[0].processors}
    told = ", ".join(f"{name} {value:.2f}" for name, value in sorted(busy.items(), key=lambda pair: -pair[1]))
    print(f"  processors kept busy, of {os.cpu_count()}: {told}")


def server_ratios(ours: Sequence[Outcome], alone: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    """End-to-end p50 to the server's own, round by round: driven alone, and as the same runs' consumer saw it."""
    in_runs = []
    for own in ours:
        seen = (own.frames["answered_ns"] - own.frames["requested_ns"]).dropna().astype("int64") / 1e6
        in_runs.append(own.p50_ms / percentile(seen.tolist(), 50))
    return [own.p50_ms / server.p50_ms for own, server in zip(ours, alone, strict=True)], in_runs


def verdicts(results: Results, shares: Sequence[float]) -> list[Verdict]:
    """The target, and what ours is to the others."""
    found = []
    ours, alone = results[TARGET_SHARE, OURS], results[TARGET_SHARE, ALONE]
    if ours:
        against_alone, against_runs = server_ratios(ours, alone)
        kept_up = not any(outcome.saturated for outcome in [*ours, *alone])
        target = f"end-to-end p50 at {TARGET_SHARE:.0%} of capacity at most {TARGET_RATIO} times the server's own"
        for baseline, ratios in (
            ("driven alone by the same schedule", against_alone),
            ("from request to answer in the same runs", against_runs),
        ):
            met = kept_up and statistics.median(ratios) <= TARGET_RATIO
            found.append(Verdict(f"{target} ({baseline})", f"{spread(ratios)} times", met))
    for share in shares:
        outcomes = results[share, OURS]
        measured = f"{spread([o.labelled_hz / o.offered_hz for o in outcomes])} of what was offered"
        target = f"ours keeps up at {share:.0%} of capacity"
        found.append(Verdict(target, measured, not any(o.saturated for o in outcomes)))
    return found
