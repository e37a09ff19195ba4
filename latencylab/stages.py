"""Where the time of a frame goes: its stages, the budget of a run, and what made the slowest frames slow.

Throughout, `frames` is one row per scheduled frame with the stamps of `services.contract.stamps` as nullable Int64
nanoseconds, null where a frame did not get that far.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from latencylab.percentiles import quantile_of_sorted
from latencylab.quantiles import label
from services.contract.stamps import (
    INFERENCE_STAGES,
    INFERENCE_STAMPS,
    SERVER_DURATIONS,
    STORAGE_STAGES,
    STORAGE_STAMPS,
)


@dataclass(frozen=True)
class Path:
    """One way through the pipeline: `len(stamps) - 1` stages, and the column of their sum."""

    name: str
    stamps: tuple[str, ...]
    stages: tuple[str, ...]
    total: str

    @property
    def columns(self) -> list[str]:
        """The columns of its stages in `stage_table`."""
        return [f"{stage}_ns" for stage in self.stages]


INFERENCE: Final = Path("inference", INFERENCE_STAMPS, INFERENCE_STAGES, "end_to_end_ns")
STORAGE: Final = Path("storage", STORAGE_STAMPS, STORAGE_STAGES, "storage_end_to_end_ns")
PATHS: Final = (INFERENCE, STORAGE)


class MissingStampsError(ValueError):
    """A table of frames that lacks a column; the text names it."""


def stage_table(frames: pd.DataFrame) -> pd.DataFrame:
    """The stages of every frame, nullable Int64 ns, with the index of `frames`; negative ones are kept.

    Columns: each stage of both paths with the suffix ``_ns``; ``end_to_end_ns`` and ``storage_end_to_end_ns``, which
    are exactly the sums of the stages of a frame that has them all, and null for any other; the server's own
    durations and ``server_other_ns``, what they leave of the stage ``inference`` (HTTP, network, waiting threads).
    """
    needed = dict.fromkeys((*INFERENCE_STAMPS, *STORAGE_STAMPS, *SERVER_DURATIONS))
    missing = [column for column in needed if column not in frames]
    if missing:
        raise MissingStampsError(f"the table of frames has no column {', '.join(missing)}")
    stamps = frames[list(needed)].astype("Int64")
    table = pd.DataFrame(index=frames.index)
    for path in PATHS:
        pairs = zip(path.columns, path.stamps, path.stamps[1:], strict=False)
        for column, before, after in pairs:
            table[column] = stamps[after] - stamps[before]
        table[path.total] = table[path.columns].sum(axis=1, skipna=False)
    for column in SERVER_DURATIONS:
        table[column] = stamps[column]
    table["server_other_ns"] = table["inference_ns"] - stamps[list(SERVER_DURATIONS)].sum(axis=1, skipna=False)
    return table


def negative_stages(frames: pd.DataFrame) -> pd.DataFrame:
    """Stages that end before they start, as only clocks that disagree can make them: index `stage`, columns
    `frames` (how many), `share` of the frames that have the stage, and `minimum_ns`.
    """
    table = stage_table(frames)
    columns = list(dict.fromkeys(column for path in PATHS for column in path.columns))
    rows = []
    for column in columns:
        values = table[column].dropna()
        negative = values[values < 0]
        share = len(negative) / len(values) if len(values) else 0.0
        rows.append((column.removesuffix("_ns"), len(negative), share, int(negative.min()) if len(negative) else 0))
    return pd.DataFrame(rows, columns=["stage", "frames", "share", "minimum_ns"]).set_index("stage")


def budget(frames: pd.DataFrame, path: Path = INFERENCE, qs: tuple[float, ...] = (0.5, 0.9, 0.99)) -> pd.DataFrame:
    """What each stage contributes to the end-to-end latency: index `stage` and last ``total``; float ns.

    Columns ``mean_ns``; ``p50_ns``, ``p90_ns``, … the stage's own percentiles, which do **not** add up, since one
    frame's slow stage is another frame's fast one; and ``at_p50_ns``, ``at_p90_ns``, … its mean over the frames
    whose end-to-end latency ranks within 0.5 % of all frames (at least 2 ranks) around that percentile. These, like
    the means, sum to their total, which lies near the percentile but is not it: compare it with ``p50_ns`` of the
    same row. The conditional mean is the Euler allocation of a quantile (Tasche, 1999), here with a uniform kernel.
    Raises `ValueError` when no frame passed the whole path.
    """
    table = _complete(frames, path)
    by_total = table.sort_values(path.total, kind="stable")
    result = pd.DataFrame({"mean_ns": table.mean()})
    for q in qs:
        result[f"{label(q)}_ns"] = [quantile_of_sorted(np.sort(table[column].to_numpy()), q) for column in table]
    for q in qs:
        middle = q * len(table)
        reach = max(2.0, 0.005 * len(table))
        around = by_total.iloc[max(0, int(middle - reach)) : int(np.ceil(middle + reach))]
        result[f"at_{label(q)}_ns"] = around.mean()
    return _named(result.astype(float), path)


def slowest(frames: pd.DataFrame, path: Path = INFERENCE, share: float = 0.01) -> pd.DataFrame:
    """Which stage made the slowest `share` of the frames slow (at least one): index `stage` and last ``total``.

    Columns, ns: ``slow_ns``, the stage's mean over the slow frames; ``typical_ns``, its mean over the middle half
    of all frames by end-to-end latency; ``excess_ns``, the difference, which sums to the total's; ``excess_share``,
    its part of that; and ``frames``, for how many slow frames this stage exceeded its typical time by the most.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    table = _complete(frames, path).sort_values(path.total, kind="stable")
    n = len(table)
    slow = table.iloc[n - max(1, round(share * n)) :]
    typical = table.iloc[n // 4 : n - n // 4].mean()
    result = pd.DataFrame({"slow_ns": slow.mean(), "typical_ns": typical})
    result["excess_ns"] = result["slow_ns"] - result["typical_ns"]
    whole = result.loc[path.total, "excess_ns"]
    result["excess_share"] = result["excess_ns"] / whole if whole else 0.0
    culprits = (slow[path.columns] - typical[path.columns]).idxmax(axis=1).value_counts()
    result["frames"] = culprits.reindex(result.index, fill_value=0).astype(int)
    result.loc[path.total, "frames"] = len(slow)
    return _named(result, path)


def slowest_frames(frames: pd.DataFrame, path: Path = INFERENCE, count: int = 10) -> pd.DataFrame:
    """The `count` frames with the longest end-to-end latency, longest first: `image_id` and its stages in ns."""
    table = _complete(frames, path).nlargest(count, path.total)
    table.insert(0, "image_id", frames.loc[table.index, "image_id"])
    return table


def waterfall(frames: pd.DataFrame, image_id: str) -> pd.DataFrame:
    """The bars of one frame's waterfall: columns `path`, `stage`, `start_ns` after its intended time, `duration_ns`.

    Both paths, as far as the frame got, and the server's durations (path ``server``) laid out one after another
    from the start of the request: they are durations by another clock, so only their lengths are measured. Raises
    `KeyError` when no frame has that id.
    """
    row = frames[frames["image_id"] == image_id]
    if row.empty:
        raise KeyError(f"no frame has the image_id {image_id}")
    frame = row.iloc[0]
    bars = []
    for path in PATHS:
        for stage, before, after in zip(path.stages, path.stamps, path.stamps[1:], strict=False):
            if pd.notna(frame[before]) and pd.notna(frame[after]):
                start = int(frame[before]) - int(frame["intended_ns"])
                bars.append((path.name, stage, start, int(frame[after]) - int(frame[before])))
    if pd.notna(frame["requested_ns"]):
        start = int(frame["requested_ns"]) - int(frame["intended_ns"])
        for column in SERVER_DURATIONS:
            if pd.notna(frame[column]):
                bars.append(("server", column.removesuffix("_ns"), start, int(frame[column])))
                start += int(frame[column])
    return pd.DataFrame(bars, columns=["path", "stage", "start_ns", "duration_ns"])


def _complete(frames: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The stages and the total of the frames that passed the whole `path`, int64 ns."""
    table = stage_table(frames)[[*path.columns, path.total]].dropna().astype("int64")
    if table.empty:
        raise ValueError(f"no frame passed the whole {path.name} path")
    return table


def _named(result: pd.DataFrame, path: Path) -> pd.DataFrame:
    names = {path.total: "total", **dict(zip(path.columns, path.stages, strict=True))}
    return result.rename(index=names).rename_axis("stage")
