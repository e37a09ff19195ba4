"""The figures of a sweep. Each function returns the figure and the data it drew, so that a test can check the data."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from latencylab import figures_stages, stages, style, summary, tables
from latencylab.percentiles import label
from latencylab.runs import Run, all_frames
from latencylab.style import Drawn

SHOWN_QUANTILES: Final = (0.5, 0.9, 0.99)


def _latencies_ms(run: Run) -> np.ndarray:
    kept = summary.steady(run.frames, run.info["summary"]["warmup"]["frames"])
    return np.sort(summary.end_to_end_ns(kept).to_numpy()) / 1e6


def cdf(runs: list[Run]) -> Drawn:
    """Empirical CDF of the end-to-end latency per point after the warm-up, latency on a logarithmic axis.

    Bold: all repetitions of a point together; thin: each repetition. Lost frames are part of the total, so a point
    that lost frames does not reach 1.
    """
    figure, axes = style.new_figure()
    groups = tables.by_point(runs)
    rows = []
    for (point, group), look in zip(groups.items(), style.looks(len(groups)), strict=True):
        pooled = np.sort(np.concatenate([_latencies_ms(run) for run in group]))
        sent = sum(_sent_after_warmup(run) for run in group)
        if not len(pooled):
            continue
        share = np.arange(1, len(pooled) + 1) / sent
        line = {"color": look["color"], "linestyle": look["linestyle"]}
        axes.step(pooled, share, where="post", linewidth=2, label=f"{point} (n={len(pooled)})", **line)
        if len(group) > 1:
            for run in group:
                own = _latencies_ms(run)
                own_share = np.arange(1, len(own) + 1) / _sent_after_warmup(run)
                axes.step(own, own_share, where="post", linewidth=0.7, alpha=0.5 if run.valid else 0.25, **line)
        rows.append(pd.DataFrame({"point": point, "latency_ms": pooled, "share": share}))
    axes.set_xscale("log")
    style.latency_axis(axes.xaxis)
    axes.set_ylim(0, 1.01)
    axes.set_ylabel("share of the frames sent")
    axes.set_title("End-to-end latency from the intended send time", loc="left")
    axes.legend(loc="best", title="point")
    style.footer(figure, runs)
    data = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["point", "latency_ms", "share"])
    medians = data[data["share"] >= 0.5].groupby("point", sort=False)["latency_ms"].first()
    told = ", ".join(f"{point} {value:.0f} ms" for point, value in medians.items())
    return Drawn(figure, data, f"CDF of the end-to-end latency of {len(groups)} points; medians: {told}.")


def _sent_after_warmup(run: Run) -> int:
    kept = summary.steady(run.frames, run.info["summary"]["warmup"]["frames"])
    return max(1, int(kept["sent"].sum()))


def percentiles(runs: list[Run]) -> Drawn:
    """p50, p90 and p99 of the end-to-end latency against the offered rate, with their 95 % intervals."""
    figure, axes = style.new_figure()
    rows = []
    for point, group in tables.by_point(runs).items():
        offered = float(np.mean([run.info["summary"]["offered_hz"] or run.experiment.offered_hz for run in group]))
        for q in SHOWN_QUANTILES:
            found = tables.reported(group, q)
            values = [
                value / 1e6 if value is not None else None for value in (found.value_ns, found.low_ns, found.high_ns)
            ]
            valid = all(run.valid for run in group)
            rows.append((point, offered, label(q), *values, valid, len(group)))
    columns = ["point", "offered_hz", "percentile", "value_ms", "low_ms", "high_ms", "valid", "runs"]
    data = pd.DataFrame(rows, columns=columns).sort_values(["percentile", "offered_hz"])
    data[["value_ms", "low_ms", "high_ms"]] = data[["value_ms", "low_ms", "high_ms"]].astype(float)
    for q, look in zip(SHOWN_QUANTILES, style.looks(len(SHOWN_QUANTILES)), strict=True):
        series = data[(data["percentile"] == label(q)) & data["value_ms"].notna()]
        if series.empty:
            continue
        below = (series["value_ms"] - series["low_ms"]).fillna(0)
        above = (series["high_ms"] - series["value_ms"]).fillna(0)
        x = series["offered_hz"]
        axes.errorbar(x, series["value_ms"], [below, above], capsize=4, label=label(q), **look)
        invalid = series[~series["valid"]]
        axes.plot(invalid["offered_hz"], invalid["value_ms"], "o", markersize=13, fillstyle="none", linestyle="",
                  color=look["color"], markeredgewidth=1, zorder=1)  # fmt: skip
    axes.set_yscale("log")
    axes.set_xscale("log")
    style.latency_axis(axes.yaxis)
    style.latency_axis(axes.xaxis, "offered load (frames/s)")
    single = any(data["runs"] == 1)
    what = "within the run" if single else "across repetitions"
    axes.set_title(f"Percentiles against load, bars: 95 % interval {what}", loc="left")
    axes.legend(title="circled: invalid runs" if not data["valid"].all() else None)
    missing = data[data["value_ms"].isna()]
    if len(missing):
        told = ", ".join(f"{row.percentile} at {row.offered_hz:.3g}/s" for row in missing.itertuples())
        axes.text(0.0, -0.2, f"too few frames for {told}", transform=axes.transAxes, fontsize=7.5, color="#444444")
    style.footer(figure, runs)
    p50 = data[data["percentile"] == "p50"]
    told = ", ".join(f"{row.value_ms:.0f} ms at {row.offered_hz:.3g}/s" for row in p50.itertuples())
    return Drawn(figure, data.reset_index(drop=True), f"Latency percentiles against offered load; p50: {told}.")


def stage_breakdown(runs: list[Run]) -> Drawn:
    """Mean time of each stage of the inference path per point; the stages sum to the mean end-to-end latency."""
    figure, axes = style.new_figure()
    rows = {}
    for point, group in tables.by_point(runs).items():
        frames = all_frames(group)
        if frames["labelled_ns"].notna().any():
            rows[point] = stages.budget(frames)["mean_ns"] / 1e6
    data = pd.DataFrame(rows).T
    data.index.name = "point"
    left = np.zeros(len(data))
    names = [name for name in data.columns if name != "total"]
    for name, look, hatch in zip(names, style.looks(len(names)), style.HATCHES, strict=False):
        width = data[name].to_numpy()
        axes.barh(data.index, width, left=left, label=name, color=look["color"], hatch=hatch,
                  edgecolor="white", linewidth=0.5)  # fmt: skip
        left = left + width
    for row, total in enumerate(left):
        axes.annotate(f" {total:.0f} ms", (total, row), va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("mean time in the stage (ms)")
    axes.set_ylabel("point")
    axes.set_title("Where the time goes: stages of the inference path", loc="left")
    axes.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8.5)
    style.footer(figure, runs)
    told = "; ".join(f"{point}: mostly {row[names].astype(float).idxmax()}" for point, row in data.iterrows())
    return Drawn(figure, data, f"Mean time per stage and point. {told}.")


def over_time(runs: list[Run]) -> Drawn:
    """End-to-end latency of each frame against its intended time, one panel per point; the warm-up cut is marked."""
    groups = tables.by_point(runs)
    columns = min(2, len(groups))
    rows_needed = -(-len(groups) // columns)
    figure, axes = style.new_figure(8.0, 0.8 + 2.1 * rows_needed, rows_needed, columns)
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    parts = []
    for panel, (point, group) in zip(panels, groups.items(), strict=False):
        for run, look in zip(group, style.looks(len(group)), strict=True):
            frames = run.frames
            start = run.info["start_at_ns"]
            time_s = (frames["intended_ns"].astype("int64") - start) / 1e9
            latency_ms = (frames["labelled_ns"] - frames["intended_ns"]).astype("Float64") / 1e6
            panel.plot(time_s, latency_ms.astype(float), linestyle="", marker=look["marker"], markersize=3,
                       color=look["color"], alpha=0.8 if run.valid else 0.35)  # fmt: skip
            lost = latency_ms.isna().to_numpy()
            panel.plot(time_s[lost], np.full(lost.sum(), 1.0), "x", color="#D55E00")
            if cut := run.info["summary"]["warmup"]["frames"]:
                ordered = summary.end_to_end_ns(frames, in_order=True).index
                cut_s = (frames.loc[ordered[cut], "intended_ns"] - start) / 1e9
                panel.axvline(cut_s, color=look["color"], linestyle=":", linewidth=1)
            parts.append(
                pd.DataFrame(
                    {
                        "point": point,
                        "repetition": run.info["repetition"],
                        "time_s": time_s.astype(float),
                        "latency_ms": latency_ms.astype(float),
                    }
                )
            )
        panel.set_yscale("log")
        style.latency_axis(panel.yaxis, "latency (ms)")
        panel.set_xlabel("intended send time (s)")
        panel.set_title(point + ("" if all(run.valid for run in group) else " (invalid)"), loc="left", fontsize=9)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.suptitle("Every frame over time; dotted: end of the warm-up; ×: lost", x=0.01, ha="left", fontsize=11)
    style.footer(figure, runs)
    data = pd.concat(parts, ignore_index=True)
    worst = data.groupby("point", sort=False)["latency_ms"].max()
    told = ", ".join(f"{point} {value:.0f} ms" for point, value in worst.items())
    return Drawn(figure, data, f"Latency of each frame over time per point; slowest frames: {told}.")


FIGURES: Final[dict[str, Callable[[list[Run]], Drawn]]] = {
    "cdf": cdf,
    "percentiles": percentiles,
    "stages": stage_breakdown,
    "over_time": over_time,
    "budget": figures_stages.budget,
    "slowest": figures_stages.slowest,
    "waterfall": figures_stages.waterfall,
}
"""File name -> the function that draws it."""


def render(runs: list[Run], folder: Path) -> list[Path]:
    """Draw all figures of a sweep into `folder` as PNG and SVG, with the numbers behind each as CSV."""
    written = []
    for name, draw in FIGURES.items():
        drawn = draw(runs)
        written += style.save(drawn.figure, folder / name)
        drawn.data.to_csv(folder / f"{name}.csv", float_format="%.6g", index=drawn.data.index.name is not None)
    return written
