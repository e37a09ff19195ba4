import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from latencylab import figures, stages, style, summary
from latencylab.runs import RunName, all_frames


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run, memory_backend):
    """Two points: "one" with two runs, "two" with one that lost three frames and is invalid."""
    root = tmp_path_factory.mktemp("figures")

    def lose(leftovers):
        for index in (20, 30, 40):
            leftovers.not_labelled(index)

    found = [make_run(root, RunName("s", "one", number)) for number in (1, 2)]
    lossy = memory_backend(change=lose, latency_ms=300.0)
    return [*found, make_run(root, RunName("s", "two", 1), lossy, producers=2, point_order=1)]


@pytest.fixture(scope="module")
def drawn(runs):
    return {name: draw(runs) for name, draw in figures.FIGURES.items()}


def footer_of(figure):
    return figure.get_supxlabel()


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_the_cdf_draws_every_latency_and_ends_at_the_share_that_arrived(drawn, runs):
    data = drawn["cdf"].data
    for point, group in (("one", runs[:2]), ("two", runs[2:])):
        own = data[data["point"] == point]
        kept = [summary.steady(run.frames, run.info["summary"]["warmup"]["frames"]) for run in group]
        latencies = np.sort(np.concatenate([summary.end_to_end_ns(part).to_numpy() for part in kept])) / 1e6
        assert np.array_equal(own["latency_ms"], latencies)
        assert own["share"].is_monotonic_increasing
        sent = sum(int(part["sent"].sum()) for part in kept)
        assert own["share"].iloc[-1] == pytest.approx(len(latencies) / sent)
    assert data[data["point"] == "one"]["share"].iloc[-1] == 1
    assert data[data["point"] == "two"]["share"].iloc[-1] < 1


def test_the_lines_of_the_cdf_are_its_data(drawn):
    (axes,) = drawn["cdf"].figure.axes
    bold = {line.get_label().split(" ")[0]: line for line in axes.lines if not line.get_label().startswith("_")}
    data = drawn["cdf"].data
    assert set(bold) == {"one", "two"}
    for point, line in bold.items():
        assert np.array_equal(line.get_xdata(), data[data["point"] == point]["latency_ms"])
    assert len(axes.lines) == 4  # two bold and a thin one for each repetition of "one"


def test_percentiles_are_those_reported_with_their_intervals(drawn, runs):
    data = drawn["percentiles"].data.set_index(["point", "percentile"])
    recorded = runs[2].info["summary"]["end_to_end_ns"]
    for name, p in (("p50", recorded[0]), ("p90", recorded[1])):
        row = data.loc[("two", name)]
        assert (row["value_ms"], row["low_ms"], row["high_ms"]) == pytest.approx(
            (p["value"] / 1e6, p["low"] / 1e6 if p["low"] else np.nan, p["high"] / 1e6 if p["high"] else np.nan),
            nan_ok=True,
        )
    assert data.loc[("one", "p50"), "offered_hz"] == pytest.approx(10, rel=0.05)


def test_a_percentile_of_too_few_frames_is_left_out_and_said_to_be(drawn):
    data = drawn["percentiles"].data
    missing = data[data["value_ms"].isna()]
    assert set(missing["percentile"]) == {"p99"}
    (axes,) = drawn["percentiles"].figure.axes
    assert any(text.startswith("too few frames for p99 at ") for text in texts_of(axes))


def test_stages_sum_to_the_mean_latency_and_are_drawn_so(drawn, runs):
    data = drawn["stages"].data
    assert np.allclose(data.drop(columns="total").sum(axis=1), data["total"])
    mean = stages.budget(all_frames(runs[:2]))["mean_ns"]["total"] / 1e6
    assert data.loc["one", "total"] == pytest.approx(mean)
    (axes,) = drawn["stages"].figure.axes
    ends = [max(bar[row].get_x() + bar[row].get_width() for bar in axes.containers) for row in range(2)]
    assert ends == pytest.approx(list(data["total"]))


def test_every_frame_is_in_the_picture_over_time_and_lost_ones_are_crossed(drawn, runs):
    data = drawn["over_time"].data
    assert len(data) == sum(run.info["counts"]["scheduled"] for run in runs)
    lossy = data[data["point"] == "two"]
    assert lossy["latency_ms"].isna().sum() == 3
    panel = next(a for a in drawn["over_time"].figure.axes if a.get_title(loc="left").startswith("two"))
    crosses = next(line for line in panel.lines if line.get_marker() == "x")
    lost_at = sorted(lossy[lossy["latency_ms"].isna()]["time_s"])
    assert sorted(crosses.get_xdata()) == pytest.approx(lost_at)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_footer_names_what_the_numbers_depend_on(drawn, runs, name):
    told = " ".join(footer_of(drawn[name].figure).split())
    commit = runs[0].info["git"]["commit"]
    assert "weights: random" in told
    assert "backend: local" in told
    assert "database: FerretDB" in told
    assert f"commit: {commit[:10] if commit else 'none'}" in told
    assert "The weights are random (seed 1)" in told
    assert "stand-in database: FerretDB on SQLite, not MongoDB" in told
    assert "1 of 3 runs are INVALID" in told


def test_invalid_runs_are_marked(drawn):
    (axes,) = drawn["percentiles"].figure.axes
    assert axes.get_legend().get_title().get_text() == "circled: invalid runs"
    circles = [line for line in axes.lines if line.get_markersize() == 13 and len(line.get_xdata())]
    assert {round(float(x)) for line in circles for x in line.get_xdata()} == {20}
    titles = [panel.get_title(loc="left") for panel in drawn["over_time"].figure.axes]
    assert titles == ["one", "two (invalid)"]


def test_valid_runs_are_not_marked(runs):
    valid = {name: draw(runs[:2]) for name, draw in figures.FIGURES.items()}
    assert not any("INVALID" in footer_of(one.figure) for one in valid.values())
    (axes,) = valid["percentiles"].figure.axes
    assert axes.get_legend().get_title().get_text() == ""


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_can_be_read_in_grey_with_units_and_without_seeing_it(drawn, name):
    figure = drawn[name].figure
    for axes in figure.axes:
        assert "(" in axes.get_xlabel() or "(" in axes.get_ylabel()
    assert "one" in drawn[name].alt or "ms" in drawn[name].alt
    assert len(drawn[name].alt) > 40
    assert drawn[name].alt.endswith(".")


def test_the_alternative_text_tells_the_medians_that_are_drawn(drawn):
    data = drawn["cdf"].data
    for point in ("one", "two"):
        own = data[data["point"] == point]
        median = own[own["share"] >= 0.5]["latency_ms"].iloc[0]
        assert f"{point} {median:.0f} ms" in drawn["cdf"].alt


def test_two_lines_differ_in_more_than_colour():
    looks = style.looks(7)
    for key in ("color", "linestyle", "marker"):
        assert len({str(look[key]) for look in looks}) == 7
    assert len(style.looks(20)) == 20


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_run_that_labelled_nothing_is_drawn_too(tmp_path, make_run, memory_backend):
    def lose_all(leftovers):
        for index in range(leftovers.scheduled.num_rows):
            leftovers.not_labelled(index)

    run = make_run(tmp_path, RunName("s", "lost", 1), memory_backend(change=lose_all))
    drawn = {name: draw([run]) for name, draw in figures.FIGURES.items()}
    assert drawn["cdf"].data.empty
    assert drawn["percentiles"].data["value_ms"].isna().all()
    assert drawn["stages"].data.empty
    assert drawn["over_time"].data["latency_ms"].isna().all()
    assert len(style.png(drawn["over_time"].figure)) > 5000


def test_render_leaves_pictures_and_their_numbers(runs, drawn, tmp_path):
    written = figures.render(runs, tmp_path)
    assert sorted(path.name for path in written) == sorted(
        f"{n}.{kind}" for n in figures.FIGURES for kind in ("png", "svg")
    )
    assert all(path.stat().st_size > 5000 for path in written)
    for name, one in drawn.items():
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert len(table) == len(one.data)


def test_equal_data_give_equal_files(runs, tmp_path):
    for name in ("first", "second"):
        style.save(figures.cdf(runs).figure, tmp_path / name / "cdf")
    for kind in ("png", "svg"):
        assert (tmp_path / "first" / f"cdf.{kind}").read_bytes() == (tmp_path / "second" / f"cdf.{kind}").read_bytes()
    assert style.png(figures.cdf(runs).figure) == (tmp_path / "first" / "cdf.png").read_bytes()


def test_a_long_footer_is_wrapped_to_the_width_of_the_figure(runs):
    text = style.footer(Figure(figsize=(8, 4)), runs)
    assert max(len(line) for line in text.splitlines()) <= 8 * 15.5
