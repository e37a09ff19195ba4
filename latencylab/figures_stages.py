"""Figures of stages: the budget around each percentile, what slowed the slowest frames, one frame as a waterfall."""

from typing import Any, Final

import numpy as np
import pandas as pd

from latencylab import stages, style, tables
from latencylab.runs import Run, all_frames
from latencylab.style import Drawn

SLOW_SHARE: Final = 0.01


def _labelled(runs: list[Run]) -> dict[str, pd.DataFrame]:
    found = {point: all_frames(group) for point, group in tables.by_point(runs).items()}
    return {point: frames for point, frames in found.items() if frames["labelled_ns"].notna().any()}


def _stacked(axes: Any, data: pd.DataFrame) -> None:
    left = np.zeros(len(data))
    names = list(data.columns)
    for name, look, hatch in zip(names, style.looks(len(names)), style.HATCHES, strict=False):
        width = data[name].to_numpy(dtype=float)
        axes.barh(data.index, width, left=left, label=name, color=look["color"], hatch=hatch,
                  edgecolor="white", linewidth=0.5)  # fmt: skip
        left = left + width
    axes.invert_yaxis()
    axes.margins(x=0.12)


def budget(runs: list[Run]) -> Drawn:
    """Mean time per stage of the frames around p50, p90 and p99 of each point; the parts of a bar sum to its total."""
    rows: dict[str, pd.Series] = {}
    for point, frames in _labelled(runs).items():
        found = stages.budget(frames) / 1e6
        rows |= {f"{point}, {q}": found[f"at_{q}_ns"] for q in ("p50", "p90", "p99")}
    data = pd.DataFrame(rows).T
    data.index.name = "frames"
    figure, axes = style.new_figure(8.0, 2.2 + 0.32 * len(data))
    told = "no frame was labelled"
    if len(data):
        _stacked(axes, data.drop(columns="total"))
        for row, total in enumerate(data["total"]):
            axes.annotate(f" {total:.0f} ms", (total, row), va="center", fontsize=8.5)
        axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8.5)
        told = "; ".join(f"{name}: {row['total']:.0f} ms" for name, row in data.iterrows())
    axes.set_xlabel("mean time in the stage (ms)")
    axes.set_title("Stage budget of the frames around each percentile", loc="left")
    style.footer(figure, runs)
    return Drawn(figure, data, f"Time per stage of the frames around each percentile. Totals: {told}.")


def slowest(runs: list[Run]) -> Drawn:
    """By how much each stage of the slowest 1 % of frames (at least one) exceeds its typical time, per point."""
    found = {point: stages.slowest(frames, share=SLOW_SHARE) for point, frames in _labelled(runs).items()}
    data = pd.DataFrame({point: table["excess_ns"] / 1e6 for point, table in found.items()}).T
    data.index.name = "point"
    figure, axes = style.new_figure(8.0, 2.2 + 0.6 * len(data))
    told = "no frame was labelled"
    if len(data):
        names = [name for name in data.columns if name != "total"]
        height = 0.8 / len(names)
        looks = zip(names, style.looks(len(names)), style.HATCHES, strict=False)
        for number, (name, look, hatch) in enumerate(looks):
            offset = (number - (len(names) - 1) / 2) * height
            axes.barh(np.arange(len(data)) + offset, data[name].astype(float), height=height, label=name,
                      color=look["color"], hatch=hatch, edgecolor="white", linewidth=0.5)  # fmt: skip
        axes.set_yticks(np.arange(len(data)), data.index)
        axes.invert_yaxis()
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8.5)
        worst = {point: table.drop(index="total")["excess_ns"].idxmax() for point, table in found.items()}
        told = "; ".join(
            f"{point}: {worst[point]} ({found[point].loc[worst[point], 'excess_ns'] / 1e6:+.0f} ms)" for point in found
        )
    axes.set_xlabel("time above that of a typical frame (ms)")
    axes.set_title(f"What made the slowest {SLOW_SHARE:.0%} of frames slow", loc="left")
    style.footer(figure, runs)
    return Drawn(figure, data, f"Excess time per stage of the slowest frames; the stage with the most: {told}.")


def waterfall(runs: list[Run], image_id: str = "") -> Drawn:
    """One frame through both paths and the server; the slowest labelled frame unless `image_id` names one.

    Raises `KeyError` when no frame of `runs` has that id.
    """
    frames = all_frames(runs)
    figure, axes = style.new_figure(8.0, 4.4)
    if not image_id:
        if not frames["labelled_ns"].notna().any():
            axes.set_title("No frame was labelled, so there is none to follow", loc="left")
            style.footer(figure, runs)
            return Drawn(figure, pd.DataFrame(columns=["path", "stage", "start_ns", "duration_ns"]), "No frame.")
        image_id = str(stages.slowest_frames(frames, count=1)["image_id"].iloc[0])
    data = stages.waterfall(frames, image_id)
    looks = dict(zip(("inference", "storage", "server"), style.looks(3), strict=True))
    hatches = dict(zip(looks, style.HATCHES, strict=False))
    for row, bar in enumerate(data.itertuples()):
        axes.barh(row, bar.duration_ns / 1e6, left=bar.start_ns / 1e6, color=looks[bar.path]["color"],
                  hatch=hatches[bar.path], edgecolor="white", linewidth=0.5)  # fmt: skip
        end_ms = (bar.start_ns + bar.duration_ns) / 1e6
        axes.annotate(f" {bar.duration_ns / 1e6:.1f} ms", (end_ms, row), va="center", fontsize=8.5)
    axes.set_yticks(range(len(data)), [f"{bar.path}: {bar.stage}" for bar in data.itertuples()])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("time since the intended send time (ms)")
    axes.set_title(f"Frame {image_id}", loc="left")
    style.footer(figure, runs)
    if data.empty:
        return Drawn(figure, data, f"Waterfall of frame {image_id}; nothing is known of it after its intended time.")
    longest = data.loc[data["duration_ns"].idxmax()]
    told = f"longest: {longest['path']} {longest['stage']} with {longest['duration_ns'] / 1e6:.0f} ms"
    return Drawn(figure, data, f"Waterfall of frame {image_id}; {told}.")
