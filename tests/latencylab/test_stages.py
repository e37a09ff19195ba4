"""Stages that add up, and a budget that blames the stage that was slow."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latencylab import stages
from services.contract.stamps import INFERENCE_STAMPS, SERVER_DURATIONS, STORAGE_STAMPS

START_NS = 1_760_000_000_000_000_000  # more digits than a float64 holds: sums must be integer sums


def make_frames(inference_ns: np.ndarray, storage_ns: np.ndarray, server_ns: np.ndarray) -> pd.DataFrame:
    """Frames with the given stages: shapes (n, 5), (n, 3) and (n, 3); both paths share the first stage."""
    n = len(inference_ns)
    intended = START_NS + np.arange(n) * 125_000_000
    frames = pd.DataFrame({"image_id": [f"{i:024x}" for i in range(n)]})
    for stamps, durations in ((INFERENCE_STAMPS, inference_ns), (STORAGE_STAMPS, storage_ns)):
        for i, stamp in enumerate(stamps):
            frames[stamp] = pd.array(intended + durations[:, :i].sum(axis=1), dtype="Int64")
    for i, column in enumerate(SERVER_DURATIONS):
        frames[column] = pd.array(server_ns[:, i], dtype="Int64")
    return frames


def random_frames(n: int = 2000, seed: int = 3) -> pd.DataFrame:
    """Frames with lognormal stages around 10 ms."""
    rng = np.random.default_rng(seed)
    inference = (1e7 * rng.lognormal(0, 0.4, (n, 5))).astype("int64")
    storage = np.column_stack([inference[:, 0], (1e7 * rng.lognormal(0, 0.4, (n, 2))).astype("int64")])
    server = (inference[:, 3:4] * [0.1, 0.1, 0.6]).astype("int64")
    return make_frames(inference, storage, server)


durations = st.lists(st.integers(-(10**9), 10**12), min_size=11, max_size=11)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(durations, min_size=1, max_size=20), lost=st.integers(0, 30))
def test_stages_sum_exactly_whatever_the_stamps(rows: list[list[int]], lost: int) -> None:
    values = np.array(rows, dtype="int64")
    values[:, 5] = values[:, 0]  # the lateness belongs to both paths
    frames = make_frames(values[:, :5], values[:, 5:8], np.abs(values[:, 8:]))
    frames.loc[frames.index >= lost, "answered_ns"] = pd.NA
    table = stages.stage_table(frames)
    for path in stages.PATHS:
        whole = table[path.total].dropna()
        assert (table.loc[whole.index, path.columns].sum(axis=1) == whole).all()
        end_to_end = frames[path.stamps[-1]] - frames["intended_ns"]
        assert (whole == end_to_end[whole.index]).all()
    assert table["end_to_end_ns"].notna().sum() == min(lost, len(rows))
    assert table["storage_end_to_end_ns"].notna().all()
    server = table[[*SERVER_DURATIONS, "server_other_ns"]].sum(axis=1, skipna=False)
    assert server.dropna().equals(table["inference_ns"].dropna())


def test_a_missing_column_is_named() -> None:
    with pytest.raises(stages.MissingStampsError, match="answered_ns"):
        stages.stage_table(random_frames(5).drop(columns="answered_ns"))


def test_negative_stages_are_counted_and_kept() -> None:
    frames = random_frames(100)
    frames.loc[[3, 7], "received_ns"] = frames.loc[[3, 7], "sent_ns"] - 5
    negative = stages.negative_stages(frames)
    assert negative.loc["broker"].to_dict() == {"frames": 2, "share": 0.02, "minimum_ns": -5}
    assert negative["frames"].sum() == 2
    assert (stages.stage_table(frames).loc[[3, 7], "broker_ns"] == -5).all()
    assert stages.stage_table(frames)["end_to_end_ns"].notna().all()


@pytest.mark.parametrize("path", stages.PATHS, ids=lambda path: path.name)
def test_the_budget_adds_up_at_every_percentile(path: stages.Path) -> None:
    frames = random_frames()
    table = stages.budget(frames, path, (0.5, 0.9, 0.99))
    assert list(table.index) == [*path.stages, "total"]
    for column in ("mean_ns", "at_p50_ns", "at_p90_ns", "at_p99_ns"):
        assert table.loc[list(path.stages), column].sum() == pytest.approx(table.loc["total", column], rel=1e-12)
    totals = stages.stage_table(frames)[path.total].astype("int64")
    for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        assert table.loc["total", f"{name}_ns"] == np.percentile(totals, 100 * q, method="inverted_cdf")
        assert table.loc["total", f"at_{name}_ns"] == pytest.approx(table.loc["total", f"{name}_ns"], rel=0.05)
    assert table.loc[list(path.stages), "p99_ns"].sum() > 1.2 * table.loc["total", "p99_ns"]  # tails don't add


def test_the_budget_of_a_handful_of_frames() -> None:
    table = stages.budget(random_frames(2))
    assert table.loc["total", "at_p99_ns"] == pytest.approx(table.loc["total", "mean_ns"])


def test_the_slowest_frames_are_blamed_on_the_stage_that_was_slow() -> None:
    frames = random_frames(1000)
    stalled = frames.index[500:510]
    later = ["requested_ns", "answered_ns", "labelled_ns"]
    frames.loc[stalled, later] = frames.loc[stalled, later] + 1_500_000_000  # they waited before their request
    table = stages.slowest(frames)
    assert table.loc["waiting", "frames"] == 10
    assert table.loc["total", "frames"] == 10
    assert table.loc["waiting", "excess_share"] > 0.9
    parts = table.drop(index="total")
    assert parts["excess_ns"].sum() == pytest.approx(table.loc["total", "excess_ns"])
    assert parts["excess_share"].sum() == pytest.approx(1)
    worst = stages.slowest_frames(frames, count=10)
    assert set(worst["image_id"]) == set(frames.loc[stalled, "image_id"])
    assert worst["end_to_end_ns"].is_monotonic_decreasing


def test_no_complete_frame_is_an_error_that_names_the_path() -> None:
    frames = random_frames(5)
    frames["labelled_ns"] = pd.array([pd.NA] * 5, dtype="Int64")
    with pytest.raises(ValueError, match="inference path"):
        stages.budget(frames)
    assert len(stages.budget(frames, stages.STORAGE)) == 4


def test_the_waterfall_of_a_frame_is_gapless() -> None:
    frames = random_frames(5)
    bars = stages.waterfall(frames, frames.loc[2, "image_id"])
    for path in stages.PATHS:
        own = bars[bars["path"] == path.name]
        assert list(own["stage"]) == list(path.stages)
        assert list(own["start_ns"]) == [0, *own["duration_ns"].cumsum()[:-1]]
        total = stages.stage_table(frames).loc[2, path.total]
        assert own["duration_ns"].sum() == total
    server = bars[bars["path"] == "server"]
    inference = bars[bars["stage"] == "inference"].iloc[0]
    assert server["start_ns"].iloc[0] == inference["start_ns"]
    assert server["duration_ns"].sum() <= inference["duration_ns"]


def test_the_waterfall_of_a_lost_frame_ends_where_the_frame_did() -> None:
    frames = random_frames(3)
    lost = ["requested_ns", "answered_ns", "labelled_ns", *SERVER_DURATIONS]
    frames.loc[1, lost] = pd.NA
    bars = stages.waterfall(frames, frames.loc[1, "image_id"])
    assert list(bars.loc[bars["path"] == "inference", "stage"]) == ["lateness", "broker"]
    assert "server" not in set(bars["path"])
    with pytest.raises(KeyError, match="no frame"):
        stages.waterfall(frames, "0" * 24 + "f")
