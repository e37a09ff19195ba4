"""What a capacity search found: the answer in words, the table of its probes, and the figure."""

import textwrap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from latencylab import style
from latencylab.capacity import Capacity, CapacityLog, CapacityLogError, Measure, Objective, Outcome, Plan, search
from latencylab.capacity_search import RECORD, judge
from latencylab.paths import shown
from latencylab.quantiles import label
from latencylab.runs import Run, RunError, find_runs
from latencylab.style import Drawn


@dataclass(frozen=True)
class Found:
    """A search that has ended: the answer, what was asked for, the shortest run, and what limits the answer."""

    capacity: Capacity
    objective: Objective
    duration_s: float
    caveats: tuple[str, ...]


def read(folder: Path) -> Found:
    """The search recorded in `folder`. Raises `CapacityLogError` when there is none, or it has not ended yet."""
    log = CapacityLog.load(folder / RECORD)

    def missing(rate_hz: float, repetition: int) -> Outcome:
        raise CapacityLogError(
            f"{shown(folder / RECORD)} ends before {rate_hz:g} frames/s, repetition {repetition + 1}: finish the "
            "search with  latencylab capacity"
        )

    objective = Objective(log.conditions["q"], log.conditions["limit_ns"])
    return _found(missing, log, objective, log.conditions["experiment"]["duration_s"])


def read_sweep(folder: Path, objective: Objective) -> Found:
    """The search among the runs below `folder`, whose points must differ in their load alone, each rate being about
    twice the last: as fine as their rates are, and with as many repetitions as each has.

    Raises `RunError` when there are no two rates, or none where the search wants one.
    """
    runs: dict[float, list[Run]] = {}
    for run in find_runs(folder):
        runs.setdefault(run.experiment.offered_hz, []).append(run)
    rates = sorted(runs)
    if len(rates) < 2:
        raise RunError(f"{shown(folder)} has runs at one rate only: a capacity lies between two")
    widest = max(1 - low / high for low, high in pairwise(rates)) + 1e-9  # so that rounding asks for no rate between
    repetitions = min(len(group) for group in runs.values())
    plan = Plan(rates[0], rates[0], rates[-1], widest, repetitions)

    def recorded(rate_hz: float, repetition: int) -> Outcome:
        if rate_hz not in runs:
            raise RunError(f"{shown(folder)} has no run at {rate_hz:g} frames/s, which the search wants: record one")
        return judge(objective, runs[rate_hz][repetition])

    shortest_s = min(run.experiment.duration_s for group in runs.values() for run in group)
    return _found(recorded, CapacityLog(plan), objective, shortest_s)


def _found(measure: Measure, log: CapacityLog, objective: Objective, duration_s: float) -> Found:
    capacity = search(measure, log.plan, log)
    caveats = dict.fromkeys(caveat for outcome in log.outcomes.values() for caveat in outcome.caveats)
    return Found(capacity, objective, duration_s, tuple(caveats))


def answer_lines(found: Found) -> list[str]:
    """The answer with its interval, what it rests on, and what must be read with it."""
    capacity, plan = found.capacity, found.capacity.plan
    met = f"{found.objective.told()}, for at least {found.duration_s:g} s less the warm-up"
    if capacity.rate_hz is None:
        lines = [f"Capacity: none in [{plan.min_hz:g}, {plan.max_hz:g}] frames/s."]
    else:
        above = f"{capacity.high_hz:.4g}]" if capacity.high_hz else "unknown)"
        lines = [f"Capacity: {capacity.rate_hz:.4g} frames/s, interval [{capacity.rate_hz:.4g}, {above} frames/s."]
    lines += [f"Objective: {met}."]
    lines += [
        f"Searched in [{plan.min_hz:g}, {plan.max_hz:g}] frames/s to {plan.resolution:.0%}; at the lower end all of "
        f"{plan.repetitions} runs met the objective, at the upper end none did. The rate at which a run meets it as "
        f"often as not lies between, at a nominal confidence of {capacity.confidence:.0%}."
    ]
    if capacity.reason:
        lines.append(f"Limit of the search: {capacity.reason}.")
    return lines + [f"Caveat: {caveat.rstrip('.')}." for caveat in found.caveats]


def probe_table(found: Found) -> pd.DataFrame:
    """One row per rate, from low to high: runs, how many met the objective, the percentile of each run in ms (a dash
    where too many frames were lost), the mean achieved rate, and why runs failed; as text.
    """
    rows = []
    for rate, group in found.capacity.outcomes.groupby("rate_hz"):
        failed = [reasons for reasons in group["reasons"] if reasons]
        rows.append(
            {
                "frames/s": f"{rate:.4g}",
                "runs": len(group),
                "met": int(group["meets"].sum()),
                f"{label(found.objective.q)} ms": ", ".join(_ms(value) for value in group["latency_ns"]),
                "achieved/s": f"{group['achieved_hz'].mean():.2f}",
                "first reason": textwrap.shorten(failed[0], 90, placeholder=" …") if failed else "",
            }
        )
    return pd.DataFrame(rows)


def _ms(value_ns: float) -> str:
    return "–" if pd.isna(value_ns) else f"{value_ns / 1e6:.0f}"


def probe_figure(found: Found) -> Drawn:
    """The percentile of each probe against its rate, met or not, with the objective's limit and the interval."""
    figure, axes = style.new_figure()
    capacity, name = found.capacity, label(found.objective.q)
    columns = ["rate_hz", "repetition", "meets", "latency_ns"]
    data = capacity.outcomes[columns].sort_values(["rate_hz", "repetition"], ignore_index=True)
    data["latency_ms"] = data.pop("latency_ns").astype(float) / 1e6
    for meets, text, look in zip((True, False), ("met", "not met"), style.looks(5)[2::2], strict=True):
        part = data[data["meets"] == meets]
        marker = "o" if meets else "X"
        axes.plot(part["rate_hz"], part["latency_ms"], linestyle="", marker=marker, label=text, color=look["color"])
    limit_ms = found.objective.limit_ns / 1e6
    axes.axhline(limit_ms, color="#444444", linestyle="--", linewidth=1, label=f"limit, {limit_ms:g} ms")
    if capacity.rate_hz and capacity.high_hz:
        axes.axvspan(capacity.rate_hz, capacity.high_hz, color="#009E73", alpha=0.2, label="interval of the capacity")
    axes.set_xscale("log")
    axes.set_yscale("log")
    style.latency_axis(axes.yaxis, f"{name} of the end-to-end latency (ms)")
    style.latency_axis(axes.xaxis, "offered load (frames/s)")
    axes.set_title("Every probe of the search", loc="left")
    axes.legend()
    notes = [line for text in answer_lines(found)[1:] for line in textwrap.wrap(text, 124)]
    figure.supxlabel("\n".join(notes), fontsize=7.5, color="#444444", x=0.01, ha="left")
    return Drawn(figure, data, f"{name} against offered load for {len(data)} runs. {answer_lines(found)[0]}")
