"""What a capacity search found: the answer in words, the table of its probes, and the figure."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latencylab import style
from latencylab.capacity import Capacity, CapacityLog, CapacityLogError, Objective, Outcome, search
from latencylab.capacity_search import RECORD
from latencylab.paths import shown
from latencylab.quantiles import label
from latencylab.style import Drawn


@dataclass(frozen=True)
class Found:
    """A search that has ended: the answer, what was asked for, the length of each run, and what limits the answer."""

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

    conditions = log.conditions
    return Found(
        search(missing, log.plan, log),
        Objective(conditions["q"], conditions["limit_ns"]),
        conditions["experiment"]["duration_s"],
        tuple(dict.fromkeys(caveat for outcome in log.outcomes.values() for caveat in outcome.caveats)),
    )


def answer_lines(found: Found) -> list[str]:
    """The answer with its interval, what it rests on, and what must be read with it."""
    capacity, plan = found.capacity, found.capacity.plan
    met = f"{found.objective.told()}, for {found.duration_s:g} s after the warm-up"
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
