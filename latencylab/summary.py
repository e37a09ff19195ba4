"""The numbers that stand for a run: rates, counts and percentiles, each with what makes it credible."""

from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from latencylab import stages, statistics
from latencylab.saturation import Backlog
from latencylab.steady_state import WarmUp

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)


def warm_up(frames: pd.DataFrame, max_warmup_s: float) -> WarmUp:
    """The warm-up of a run's end-to-end latency, at most `max_warmup_s` and at most a quarter of the frames."""
    latencies = end_to_end_ns(frames, in_order=True)
    if latencies.empty or max_warmup_s == 0:
        return WarmUp(0, True)
    started = frames["intended_ns"].min()
    early = int((frames.loc[latencies.index, "intended_ns"] - started <= max_warmup_s * 1e9).sum())
    share = min(0.25, early / len(latencies))
    return statistics.warmup_cut(latencies.to_numpy(), share) if share > 0 else WarmUp(0, True)


def end_to_end_ns(frames: pd.DataFrame, *, in_order: bool = False) -> pd.Series:
    """Latency of each labelled frame from its intended send time, int64 ns; by intended time if `in_order`."""
    latency = (frames["labelled_ns"] - frames["intended_ns"]).dropna().astype("int64")
    if in_order:
        latency = latency.loc[frames.loc[latency.index, "intended_ns"].sort_values(kind="stable").index]
    return latency


def storage_ns(frames: pd.DataFrame) -> pd.Series:
    """Latency of each stored frame from its intended send time, int64 ns, by intended time."""
    latency = (frames["stored_ns"] - frames["intended_ns"]).dropna().astype("int64")
    return latency.loc[frames.loc[latency.index, "intended_ns"].sort_values(kind="stable").index]


def steady(frames: pd.DataFrame, cut: int) -> pd.DataFrame:
    """The frames after the first `cut` labelled ones, by intended time; lost frames stay."""
    if cut == 0:
        return frames
    latencies = end_to_end_ns(frames, in_order=True)
    first = frames.loc[latencies.index[cut], "intended_ns"]
    return frames[frames["intended_ns"] >= first]


def summarise(frames: pd.DataFrame, warmup: WarmUp, backlog: Backlog | None) -> dict[str, Any]:
    """For run.json: percentiles of both paths after the warm-up, rates, negative stages and steadiness."""
    kept = steady(frames, warmup.cut)
    inference = end_to_end_ns(kept, in_order=True)
    storage = storage_ns(kept)
    halves = statistics.stationary_halves(inference.to_numpy()) if len(inference) else None
    negative = stages.negative_stages(frames)
    return {
        "warmup": {"frames": warmup.cut, "steady": warmup.steady, "reason": warmup.reason},
        "end_to_end_ns": [asdict(p) for p in statistics.percentiles(inference.to_numpy(), QUANTILES)],
        "storage_ns": [asdict(p) for p in statistics.percentiles(storage.to_numpy(), QUANTILES)],
        "offered_hz": backlog.offered_hz if backlog else None,
        "achieved_hz": backlog.achieved_hz if backlog else None,
        "backlog_slope_hz": [backlog.slope_hz, backlog.low_hz, backlog.high_hz] if backlog else None,
        "stationary": halves.stationary if halves else None,
        "stationary_reason": halves.reason if halves else None,
        "negative_stages": {stage: int(row.frames) for stage, row in negative.iterrows() if row.frames},
    }
