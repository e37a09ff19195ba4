"""Why a run can't be relied on. A reason makes a run invalid; it is never an exception and never hides the data."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from latencylab.collect import Collected
from latencylab.percentiles import quantile_of_sorted
from latencylab.saturation import Backlog, Window, backlog_slope

MAX_LATENESS_P99_NS: Final = 5_000_000
MAX_CLOCK_DRIFT_NS: Final = 5_000_000


@dataclass(frozen=True)
class Evidence:
    """What the judgement rests on."""

    frames: pd.DataFrame
    collected: Collected
    incidents: list[str]
    consumer_reports: list[dict[str, Any]]
    producer_reports: list[dict[str, Any]]
    window: Window
    drained: bool
    clock_bound_ns: int | None = None


def invalid_reasons(evidence: Evidence) -> list[str]:
    """The reasons against a run, each a sentence with its number; empty when it is valid."""
    reasons = [*_count_reasons(evidence.collected), *evidence.incidents]
    reasons += _lateness(evidence.frames)
    reasons += _saturation(evidence)
    reasons += _clocks(evidence)
    if not evidence.drained:
        reasons.append("the pipeline had not worked off its backlog when drain_timeout_s was over")
    return reasons


def _count_reasons(collected: Collected) -> list[str]:
    counts = collected.counts
    reasons = list(collected.disagreements)
    if counts.unsent:
        reasons.append(f"{counts.unsent} of {counts.scheduled} scheduled frames were not sent")
    if counts.lost_inference or counts.lost_storage:
        dead = f" ({counts.dead} dead letters: {collected.dead_by_reason})" if counts.dead else ""
        lost = f"{counts.lost_inference} frames were not labelled, {counts.lost_storage} not stored{dead}"
        reasons.append(lost)
    elif counts.dead:
        reasons.append(f"{counts.dead} messages went to the dead-letter topic: {collected.dead_by_reason}")
    return reasons


def _lateness(frames: pd.DataFrame) -> list[str]:
    late = (frames["sent_ns"] - frames["intended_ns"]).dropna().astype("int64")
    if late.empty:
        return []
    p99_ns = quantile_of_sorted(np.sort(late.to_numpy()), 0.99)
    if p99_ns <= MAX_LATENESS_P99_NS:
        return []
    return [f"producers were late: p99 of sent - intended is {p99_ns / 1e6:.1f} ms (limit 5 ms)"]


def backlog(evidence: Evidence) -> Backlog | None:
    """The backlog of the inference path after the warm-up; None when nothing was sent then."""
    frames = evidence.frames
    sent = frames["sent_ns"].dropna().astype("int64").to_numpy()
    finished = frames["labelled_ns"].fillna(frames["document_labelled_ns"]).dropna().astype("int64").to_numpy()
    try:
        return backlog_slope(sent, finished, evidence.window)
    except ValueError:
        return None


def _saturation(evidence: Evidence) -> list[str]:
    found = backlog(evidence)
    if found is None or not found.growing:
        return []
    return [
        f"saturated: the backlog grew by {found.slope_hz:.2f} frames/s [{found.low_hz:.2f}, {found.high_hz:.2f}] at "
        f"{found.offered_hz:.2f} frames/s offered, {found.achieved_hz:.2f} achieved"
    ]


def _clocks(evidence: Evidence) -> list[str]:
    reasons = []
    drifts = {report["consumer"]: report["clock_drift_ns"] for report in evidence.consumer_reports}
    drifts |= {f"producer-{report['producer_index']}": report["drift_ns"] for report in evidence.producer_reports}
    for name, drift_ns in drifts.items():
        if abs(drift_ns) > MAX_CLOCK_DRIFT_NS:
            moved = drift_ns / 1e6
            reasons.append(f"the wall clock moved by {moved:+.1f} ms under {name} during the run (limit ±5 ms)")
    if evidence.clock_bound_ns is not None and evidence.clock_bound_ns > MAX_CLOCK_DRIFT_NS:
        bound = evidence.clock_bound_ns / 1e6
        reasons.append(f"clocks of the hosts agree only within {bound:.1f} ms (limit 5 ms)")
    return reasons
