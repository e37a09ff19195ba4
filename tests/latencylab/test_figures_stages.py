"""The stage figures of a recorded sweep, and of made-up runs whose slow stage is known."""

from pathlib import Path

import numpy as np
import pytest

from latencylab import figures_stages, tables
from latencylab.runs import RunName, all_frames, find_runs

RECORDED = Path(__file__).parents[1] / "data" / "sweep"

SECOND_NS = 1_000_000_000
STAGES = ["lateness", "broker", "waiting", "inference", "labelling"]


@pytest.fixture(scope="module")
def sample():
    return find_runs(RECORDED)


@pytest.fixture(scope="module")
def stalled(tmp_path_factory, make_run, memory_backend):
    """One run: frame 10 waited 5 s for the database, frame 20 was never sent."""

    def change(leftovers):
        row = next(row for row in leftovers.inference if row["image_id"] == leftovers.image_id(10))
        row["labelled_ns"] += 5 * SECOND_NS
        leftovers.never_sent(20)

    return [make_run(tmp_path_factory.mktemp("stalled"), RunName("s", "p", 1), memory_backend(change=change))]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory, make_run, memory_backend):
    def change(leftovers):
        for index in range(leftovers.scheduled.num_rows):
            leftovers.not_labelled(index)

    return [make_run(tmp_path_factory.mktemp("unlabelled"), RunName("s", "p", 1), memory_backend(change=change))]


def latencies_ns(frames):
    return (frames["labelled_ns"] - frames["intended_ns"]).dropna().astype("int64")


def ends_of_bars(axes, rows):
    return [max(bar[row].get_x() + bar[row].get_width() for bar in axes.containers) for row in range(rows)]


def test_the_budget_of_each_percentile_sums_to_the_mean_of_the_frames_around_it(sample):
    data = figures_stages.budget(sample).data
    points = tables.by_point(sample)
    assert list(data.index) == [f"{point}, {q}" for point in points for q in ("p50", "p90", "p99")]
    assert list(data.columns) == [*STAGES, "total"]
    assert data[STAGES].sum(axis=1).to_numpy() == pytest.approx(data["total"].to_numpy())
    ordered = np.sort(latencies_ns(all_frames(points["2-cameras"])).to_numpy())
    assert len(ordered) == 64
    assert data.loc["2-cameras, p50", "total"] == pytest.approx(ordered[30:34].mean() / 1e6)


def test_the_bars_of_the_budget_end_at_its_totals(sample):
    drawn = figures_stages.budget(sample)
    (axes,) = drawn.figure.axes
    assert ends_of_bars(axes, len(drawn.data)) == pytest.approx(list(drawn.data["total"]))
    assert [text.get_text() for text in axes.texts] == [f" {total:.0f} ms" for total in drawn.data["total"]]
    assert f"8-cameras, p99: {drawn.data.loc['8-cameras, p99', 'total']:.0f} ms" in drawn.alt


def test_the_stage_that_made_the_slowest_frame_slow_is_named(stalled):
    drawn = figures_stages.slowest(stalled)
    row = drawn.data.loc["p"]
    assert row["labelling"] == pytest.approx(5000, abs=1)
    assert row[STAGES].sum() == pytest.approx(row["total"])
    assert drawn.alt.endswith(f"the stage with the most: p: labelling ({row['labelling']:+.0f} ms).")


def test_the_bars_of_the_slowest_frames_are_their_excess(sample):
    drawn = figures_stages.slowest(sample)
    (axes,) = drawn.figure.axes
    for name, bars in zip(STAGES, axes.containers, strict=True):
        assert bars.get_label() == name
        assert [bar.get_width() for bar in bars] == pytest.approx(list(drawn.data[name]))
    assert list(drawn.data.index) == list(tables.by_point(sample))


def test_the_waterfall_follows_the_slowest_frame_unless_another_is_named(stalled):
    frames = all_frames(stalled)
    slowest = frames.loc[latencies_ns(frames).idxmax(), "image_id"]
    drawn = figures_stages.waterfall(stalled)
    (axes,) = drawn.figure.axes
    assert axes.get_title(loc="left") == f"Frame {slowest}"
    assert drawn.alt.startswith(f"Waterfall of frame {slowest}; longest: inference labelling with 50")
    other = frames.loc[frames["image_id"] != slowest, "image_id"].iloc[0]
    (axes,) = figures_stages.waterfall(stalled, other).figure.axes
    assert axes.get_title(loc="left") == f"Frame {other}"


def test_the_bars_of_the_waterfall_lie_where_the_stages_were(sample):
    drawn = figures_stages.waterfall(sample)
    (axes,) = drawn.figure.axes
    bars = [(bar.get_x(), bar.get_width()) for container in axes.containers for bar in container]
    expected = [(row.start_ns / 1e6, row.duration_ns / 1e6) for row in drawn.data.itertuples()]
    assert np.array(bars) == pytest.approx(np.array(expected))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"{row.path}: {row.stage}" for row in drawn.data.itertuples()]
    inference = drawn.data[drawn.data["path"] == "inference"]
    assert list(inference["stage"]) == STAGES
    assert inference["duration_ns"].sum() == latencies_ns(all_frames(sample)).max()


def test_a_frame_that_was_never_sent_has_no_bars(stalled):
    frames = all_frames(stalled)
    unsent = frames.loc[~frames["sent"].astype(bool), "image_id"].item()
    drawn = figures_stages.waterfall(stalled, unsent)
    assert drawn.data.empty
    assert drawn.alt == f"Waterfall of frame {unsent}; nothing is known of it after its intended time."


def test_an_unknown_frame_is_named(sample):
    with pytest.raises(KeyError, match="no frame has the image_id ffff"):
        figures_stages.waterfall(sample, "ffff")


@pytest.mark.parametrize("draw", [figures_stages.budget, figures_stages.slowest])
def test_a_run_without_labels_is_said_to_have_none(unlabelled, draw):
    drawn = draw(unlabelled)
    assert drawn.data.empty
    assert drawn.alt.endswith("no frame was labelled.")


def test_there_is_no_frame_to_follow_without_labels(unlabelled):
    drawn = figures_stages.waterfall(unlabelled)
    assert drawn.data.empty
    assert drawn.figure.axes[0].get_title(loc="left") == "No frame was labelled, so there is none to follow"
