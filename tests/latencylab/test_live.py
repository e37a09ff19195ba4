"""The plot of a run that goes on says what the consumers' files hold so far."""

import re

import pytest

from latencylab.live import SHOWN, LiveLatencies, svg
from services.contract.latency_csv import INFERENCE_COLUMNS, LatencyCsv


@pytest.fixture
def rows(make_leftovers):
    return make_leftovers(devices=2, frames=5).inference


@pytest.fixture
def write(tmp_path):
    """A consumer's file with these rows."""

    def make(name, rows):
        file = LatencyCsv(tmp_path / f"inference-consumer-{name}.csv", INFERENCE_COLUMNS)
        for row in rows:
            file.write(row)
        file.close()
        return file.path

    return make


def latencies(rows):
    return [row["labelled_ns"] - row["intended_ns"] for row in rows]


def test_the_rows_of_all_consumers_are_taken_in_once(rows, write, tmp_path):
    seen = LiveLatencies()
    seen.read(tmp_path)
    assert seen.told() == "No frame has come through yet."
    write("0", rows[:4])
    seen.read(tmp_path)
    seen.read(tmp_path)
    assert seen.latency_ns == latencies(rows[:4])
    write("1", rows[4:])
    seen.read(tmp_path)
    assert seen.latency_ns == latencies(rows)
    assert seen.intended_ns == [row["intended_ns"] for row in rows]


@pytest.mark.parametrize("cut", [0, 1, 40, 10_000])
def test_a_row_counts_when_it_is_whole(rows, write, tmp_path, cut):
    whole = write("0", rows).read_bytes()
    path = tmp_path / "inference-consumer-0.csv"
    end_of_header = whole.index(b"\n") + 1
    at = min(len(whole) - 1, end_of_header + cut)
    path.write_bytes(whole[:at])
    seen = LiveLatencies()
    seen.read(tmp_path)
    assert len(seen.latency_ns) == whole[end_of_header:at].count(b"\n")
    path.write_bytes(whole)
    seen.read(tmp_path)
    assert seen.latency_ns == latencies(rows)


def test_a_folder_that_is_gone_has_no_rows(tmp_path):
    seen = LiveLatencies()
    seen.read(tmp_path / "gone")
    assert seen.latency_ns == []


def test_the_plot_has_a_point_per_frame_where_it_belongs():
    seen = LiveLatencies([5_000_000_000, 7_000_000_000, 9_000_000_000], [100_000_000, 300_000_000, 200_000_000])
    drawn = svg(seen, duration_s=4.0)
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert ys[1] < ys[2] < ys[0]  # downwards
    assert ys[0] - ys[2] == pytest.approx(ys[2] - ys[1], abs=0.11)
    assert 'role="img" aria-label="3 frames so far: median 200 ms, slowest 300 ms, newest 200 ms."' in drawn


def test_a_long_run_shows_its_newest_frames():
    many = list(range(SHOWN + 100))
    drawn = svg(LiveLatencies([n * 10**9 for n in many], [10**6] * len(many)), duration_s=60.0)
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert len(xs) == SHOWN
    assert 0 < min(xs) < max(xs) <= 640
