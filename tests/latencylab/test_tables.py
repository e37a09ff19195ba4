import pytest

from latencylab import tables
from latencylab.runs import RunName
from latencylab.tables import Reported

MS = 1_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run, memory_backend):
    """Two points: "one" with a single run, "two" with three runs of which one lost a frame."""
    root = tmp_path_factory.mktemp("tables")
    found = [make_run(root, RunName("s", "one", 1))]
    for repetition in (1, 2, 3):
        change = (lambda left: left.not_labelled(3)) if repetition == 3 else (lambda left: None)
        backend = memory_backend(change=change, latency_ms=200.0)
        found.append(make_run(root, RunName("s", "two", repetition), backend, producers=2, point_order=1))
    return found


def test_points_keep_their_order(runs):
    assert {point: len(group) for point, group in tables.by_point(runs).items()} == {"one": 1, "two": 3}
    assert list(tables.by_point(reversed(runs))) == ["two", "one"]


def test_a_point_of_one_run_reports_the_interval_within_it(runs):
    found = tables.reported(runs[:1], 0.5)
    recorded = runs[0].info["summary"]["end_to_end_ns"][0]
    assert found == Reported(recorded["value"], recorded["low"], recorded["high"], None)


def test_a_point_of_several_runs_reports_the_interval_across_them(runs):
    found = tables.reported(runs[1:], 0.5)
    values = [run.info["summary"]["end_to_end_ns"][0]["value"] for run in runs[1:]]
    assert min(values) <= found.value_ns <= max(values)
    assert found.low_ns < min(values) <= max(values) < found.high_ns


def test_a_percentile_that_any_run_lacks_is_not_reported(runs):
    found = tables.reported(runs[1:], 0.999)
    assert (found.value_ns, found.low_ns) == (None, None)
    assert str(found.reason).startswith("p99.9 needs 2995 frames")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((None, None, None), "–"),
        ((12.34 * MS, None, None), "12.3"),
        ((12.34 * MS, 11.0 * MS, 14.06 * MS), "12.3 [11.0, 14.1]"),
        ((99.96 * MS, 90 * MS, 1234.5 * MS), "100.0 [90.0, 1234]"),
    ],
)
def test_numbers_are_given_in_ms_with_their_interval(values, text):
    assert Reported(*values, None).text() == text


def test_the_table_has_a_row_per_point_with_counts_over_all_runs(runs):
    table = tables.point_table(runs).set_index("point")
    assert list(table.index) == ["one", "two"]
    assert list(table.loc["one"][["runs", "valid", "scheduled", "sent", "stored", "labelled", "lost"]]) == [
        *(1, 1, 80, 80, 80, 80, 0)
    ]
    assert list(table.loc["two"][["runs", "valid", "scheduled", "sent", "stored", "labelled", "lost"]]) == [
        *(3, 2, 480, 480, 480, 479, 1)
    ]
    assert float(table.loc["one", "offered/s"]) == pytest.approx(10, rel=0.05)
    assert float(table.loc["two", "offered/s"]) == pytest.approx(20, rel=0.05)
    assert table.loc["one", "p50 ms"] == tables.reported(runs[:1], 0.5).text()
    assert table.loc["one", "p99.9 ms"] == "–"


def test_notes_tell_caveats_invalid_runs_and_missing_percentiles(runs):
    notes = tables.notes(runs)
    assert notes[:2] == [
        "Caveat: The weights are random (seed 1).",
        "Caveat: stand-in database: FerretDB on SQLite, not MongoDB.",
    ]
    assert "Invalid: s/two/3: 1 frames were not labelled, 0 not stored." in notes
    start = "p99.9 is not given for one (p99.9 needs 2995 frames, got "
    assert any(note.startswith(start) and "), two (p99.9 needs 2995 frames, got " in note for note in notes)
    assert not any(note.startswith("p50 ") for note in notes)


def test_notes_of_a_run_with_real_weights_have_no_caveat_about_them(tmp_path, make_run, memory_backend):
    run = make_run(tmp_path, RunName("s", "real", 1), memory_backend(weights="imagenet"))
    assert tables.caveats(run) == ["stand-in database: FerretDB on SQLite, not MongoDB"]


@pytest.mark.parametrize(("difference", "told"), [(2.9e-6, []), (0.056, ["0.06 from plain Keras' on 8 test"])])
def test_a_form_of_the_network_that_rounds_is_a_caveat(tmp_path, make_run, memory_backend, difference, told):
    agreement = {"frames": 8, "same_top1": 8, "softmax_difference": difference, "tolerance": 0.1, "agrees": True}
    engine = {"form": "bfloat16-onednn", "agreement": agreement}
    run = make_run(tmp_path, RunName("s", "p", 1), memory_backend(weights="imagenet", engine=engine))
    found = [caveat for caveat in tables.caveats(run) if "bfloat16-onednn" in caveat]
    assert len(found) == len(told)
    assert all(text in caveat for text, caveat in zip(told, found, strict=True))
