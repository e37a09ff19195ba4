"""Folders of recorded runs compared, and what the command tells and returns."""

import numpy as np
import pytest
from click.testing import CliRunner

from latencylab import cli, compare_runs
from latencylab.compare import Rule
from latencylab.runs import Run, RunError, RunName, find_runs


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_run, memory_backend):
    """The folder of three sweeps: "base" and "slow" (a sixth run is invalid) of point p, "few" of points p and q."""
    root = tmp_path_factory.mktemp("compared")
    for number in range(1, 6):
        make_run(root, RunName("base", "p", number))
        make_run(root, RunName("slow", "p", number), memory_backend(latency_ms=200.0))
    lossy = memory_backend(latency_ms=5000.0, change=lambda leftovers: leftovers.not_labelled(3))
    make_run(root, RunName("slow", "p", 6), lossy)
    for point in ("p", "q"):
        make_run(root, RunName("few", point, 1))
    return root / "runs"


@pytest.fixture(scope="module")
def slower(recorded):
    return compare_runs.compare_folders(recorded / "base", recorded / "slow")


def recorded_p50s_ns(folder):
    return [run.info["summary"]["end_to_end_ns"][0]["value"] for run in find_runs(folder) if run.valid]


def test_the_verdict_follows_the_direction(recorded, slower):
    assert (slower.points["p"].verdict, slower.exit_status) == ("worse", 1)
    back = compare_runs.compare_folders(recorded / "slow", recorded / "base")
    assert (back.points["p"].verdict, back.exit_status) == ("better", 0)
    same = compare_runs.compare_folders(recorded / "base", recorded / "base", Rule(margin=0.3))
    assert (same.points["p"].verdict, same.exit_status) == ("equivalent", 0)


def test_what_is_compared_are_the_percentiles_that_the_valid_runs_recorded(recorded, slower):
    """The invalid run, whose latencies are 5 s and more, has no part in it."""
    p50 = slower.points["p"].changes[0]
    for value_ns, name in ((p50.a_ns, "base"), (p50.b_ns, "slow")):
        own = recorded_p50s_ns(recorded / name)
        assert len(own) == 5
        assert value_ns == pytest.approx(np.exp(np.log(own).mean()))
    assert p50.change == pytest.approx(p50.b_ns / p50.a_ns - 1)


def test_the_warm_up_is_left_out(recorded):
    run = find_runs(recorded / "base")[0]
    changed = Run(run.folder)
    changed.info["summary"]["warmup"]["frames"] = 30
    ordered = run.frames.sort_values("intended_ns")
    expected = (ordered["labelled_ns"] - ordered["intended_ns"]).astype("int64").to_numpy()[30:]
    assert sorted(compare_runs.latencies_ns(changed)) == sorted(expected)


def test_the_table_has_a_row_for_each_percentile_and_a_dash_where_there_is_no_number(slower):
    table = compare_runs.change_table(slower).set_index("percentile")
    p50 = slower.points["p"].changes[0]
    assert table.loc["p50", "A ms"] == f"{p50.a_ns / 1e6:.1f}"
    assert table.loc["p50", "change"] == f"{p50.change:+.1%}"
    assert table.loc["p50", "interval"] == f"[{p50.low:+.1%}, {p50.high:+.1%}]"
    assert table.loc["p50", "verdict"] == "worse"
    assert list(table.loc["p99"]) == ["p", "–", "–", "–", "–", "cannot tell"]  # 80 frames have no p99


def test_the_lines_name_what_was_left_out_and_why(recorded, slower):
    lines = compare_runs.verdict_lines(slower)
    assert lines[0].startswith("p: worse: p50 +")
    assert lines[1] == "All intervals hold together at 95%; equivalent means within 5%."
    assert lines[2].startswith("Left out of B, invalid: slow/p/6: 1 frames were not labelled")
    assert len(lines) == 3


def test_the_lines_tell_what_did_not_run_alike(tmp_path, make_run, memory_backend):
    for name, form in (("exact", "folded-onednn"), ("rounded", "bfloat16-onednn")):
        make_run(tmp_path, RunName(name, "p", 1), memory_backend(engine={"form": form}))
    lines = compare_runs.verdict_lines(
        compare_runs.compare_folders(*(tmp_path / "runs" / name for name in ("exact", "rounded")))
    )
    assert lines[-1] == "A and B differ in engine: A ran folded-onednn, B ran bfloat16-onednn."


def test_the_only_points_of_two_folders_are_a_pair_whatever_their_names(recorded):
    pair = compare_runs.compare_folders(recorded / "base", recorded / "few" / "q")
    assert list(pair.points) == ["p → q"]
    assert str(pair.points["p → q"]) == "cannot tell: needs 4 more repetitions"
    assert pair.exit_status == 3
    drawn = compare_runs.quantile_shift(pair)
    assert set(drawn.data["point"]) == {"p → q"}


def test_with_several_points_names_decide(recorded):
    found = compare_runs.compare_folders(recorded / "base", recorded / "few")
    assert str(found.points["q"]) == "cannot tell: only B has this point"
    assert found.points["p"].changes[0].change is not None


def test_the_figure_draws_the_change_of_each_quantile(recorded, slower):
    drawn = compare_runs.quantile_shift(slower)
    (axes,) = drawn.figure.axes
    line = next(line for line in axes.lines if line.get_label() == "p")
    assert np.array_equal(line.get_ydata(), 100 * drawn.data["change"], equal_nan=True)
    assert list(line.get_xdata()) == pytest.approx(range(5, 100, 5))
    median = drawn.data.set_index("q").loc[0.5]
    p50 = slower.points["p"].changes[0]
    assert (median["a_ns"], median["b_ns"], median["change"]) == pytest.approx((p50.a_ns, p50.b_ns, p50.change))
    assert median["low"] < median["change"] < median["high"]
    assert drawn.alt == f"Change of each quantile from A to B; of the median: p {p50.change:+.0%}."
    assert "1 of 11 runs are INVALID" in " ".join(drawn.figure.get_supxlabel().split())


def test_a_figure_of_nothing_in_common_says_so(recorded):
    lonely = compare_runs.Comparison(
        compare_runs.side(recorded / "base"), compare_runs.side(recorded / "few" / "q"), Rule(), {"p": None, "q": None}
    )
    drawn = compare_runs.quantile_shift(lonely)
    assert drawn.data.empty
    assert drawn.alt.endswith("of the median: not known.")


def test_a_folder_without_a_run_is_named(recorded, tmp_path):
    with pytest.raises(RunError, match=f"{tmp_path}: no complete run in it"):
        compare_runs.compare_folders(recorded / "base", tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "options", "status"),
    [
        ("base", "slow", (), 1),
        ("slow", "base", (), 0),
        ("base", "base", ("--margin", "0.3"), 0),
        ("base", "few", (), 3),
        ("base", "nothing", (), 2),
        ("base", "slow", ("--margin", "0"), 2),
    ],
)
def test_the_commands_exit_status_is_the_verdict_or_two(recorded, a, b, options, status):
    (recorded / "nothing").mkdir(exist_ok=True)
    result = CliRunner().invoke(cli.main, ["compare", str(recorded / a), str(recorded / b), *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == status, result.output
    if status != 2:
        rule = Rule(margin=0.3) if options else Rule()
        lines = compare_runs.verdict_lines(compare_runs.compare_folders(recorded / a, recorded / b, rule))
        assert result.output.splitlines()[-len(lines) :] == lines
