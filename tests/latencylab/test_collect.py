import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latencylab.collect import Counts, collect, schedule_of, scheduled_frames
from latencylab.experiment import Experiment
from services.contract.message import make_image_id

MS = 1_000_000


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """Write leftovers, collect them: what was found, and the table of frames."""

    def run(leftovers):
        folder = tmp_path_factory.mktemp("somebody's run")  # a path that SQL must quote
        leftovers.write(folder)
        found = collect(folder, leftovers.run_id, leftovers.scheduled)
        return found, pd.read_parquet(folder / "frames.parquet", dtype_backend="numpy_nullable")

    return run


def redelivered(row, later_ns, *stamps):
    return row | {stamp: row[stamp] + later_ns for stamp in stamps}


def test_a_whole_run_has_every_count_equal_and_no_disagreement(make_leftovers, collected):
    found, frames = collected(make_leftovers(devices=2, frames=3))
    assert found.counts == Counts(
        scheduled=6,
        sent=6,
        unsent=0,
        stored=6,
        labelled=6,
        lost_storage=0,
        lost_inference=0,
        dead=0,
        redelivered=0,
        documents_stored=6,
        documents_labelled=6,
    )
    assert found.disagreements == []
    assert frames["intended_ns"].is_monotonic_increasing
    assert not frames.isna().any().any()


def test_ids_made_in_sql_are_those_of_the_contract(make_leftovers, collected):
    leftovers = make_leftovers(devices=3, frames=12, run_id="sweep/rate_hz=2.5,é/3")
    _, frames = collected(leftovers)
    expected = [make_image_id(leftovers.run_id, row.device_id, row.seq) for row in frames.itertuples()]
    assert list(frames["image_id"]) == expected


fates = st.lists(st.sampled_from(["fine", "unsent", "unstored", "unlabelled", "neither"]), min_size=6, max_size=6)


@settings(max_examples=15)
@given(fates=fates, again=st.sets(st.integers(0, 5)))
def test_counts_always_add_up(make_leftovers, collected, fates, again):
    leftovers = make_leftovers(devices=2, frames=3)
    whole = list(leftovers.inference)
    for index, fate in enumerate(fates):
        if fate == "unsent":
            leftovers.never_sent(index)
        if fate in ("unstored", "neither"):
            leftovers.not_stored(index)
        if fate in ("unlabelled", "neither"):
            leftovers.not_labelled(index)
    kept = {row["image_id"] for row in leftovers.inference}
    twice = [whole[index] for index in again if whole[index]["image_id"] in kept]
    leftovers.inference += [redelivered(row, 500 * MS, "labelled_ns", "write_ns") for row in twice]
    found, frames = collected(leftovers)
    counts = found.counts
    assert counts.scheduled == counts.sent + counts.unsent == len(frames) == 6
    assert counts.sent == counts.stored + counts.lost_storage
    assert counts.sent == counts.labelled + counts.lost_inference
    assert counts.unsent == fates.count("unsent")
    assert counts.lost_storage == sum(fate in ("unstored", "neither") for fate in fates)
    assert counts.lost_inference == sum(fate in ("unlabelled", "neither") for fate in fates)
    assert counts.redelivered == len(twice)
    assert (counts.documents_stored, counts.documents_labelled) == (counts.stored, counts.labelled)
    assert found.disagreements == []


@pytest.mark.parametrize("document_is_of", ["first", "second"])
def test_a_redelivered_frame_counts_once_and_from_the_first_time(make_leftovers, collected, document_is_of):
    leftovers = make_leftovers()
    first = leftovers.inference[2]
    again = redelivered(first, 900 * MS, "received_ns", "requested_ns", "answered_ns", "write_ns", "labelled_ns")
    stored = leftovers.storage[1]
    leftovers.inference.insert(0, again)
    leftovers.storage.append(redelivered(stored, 900 * MS, "storage_received_ns", "write_ns", "stored_ns"))
    if document_is_of == "second":
        document = next(d for d in leftovers.documents if d["image_id"] == first["image_id"])
        document["labelled_ns"] = again["write_ns"]
    found, frames = collected(leftovers)
    assert (found.counts.labelled, found.counts.stored, found.counts.redelivered) == (6, 6, 2)
    assert found.disagreements == []
    by_id = frames.set_index("image_id")
    assert by_id.loc[first["image_id"], "labelled_ns"] == first["labelled_ns"]
    assert by_id.loc[stored["image_id"], "stored_ns"] == stored["stored_ns"]


def test_a_lost_frame_stays_in_the_table_without_its_stamps(make_leftovers, collected):
    leftovers = make_leftovers()
    leftovers.not_labelled(0)
    leftovers.never_sent(1)
    _, frames = collected(leftovers)
    by_id = frames.set_index("image_id")
    unlabelled, unsent = by_id.loc[leftovers.image_id(0)], by_id.loc[leftovers.image_id(1)]
    assert (bool(unlabelled["sent"]), bool(unsent["sent"])) == (True, False)
    assert pd.isna(unlabelled["labelled_ns"])
    assert pd.notna(unlabelled["stored_ns"])
    assert pd.isna(unsent[["sent_ns", "stored_ns", "labelled_ns"]]).all()
    assert pd.notna(unsent["intended_ns"])


def test_a_frame_without_acknowledgement_that_a_consumer_saw_was_sent(make_leftovers, collected):
    leftovers = make_leftovers()
    leftovers.unsent.append((leftovers.inference[0]["device_id"], leftovers.inference[0]["seq"]))
    leftovers.messages = 6
    found, _ = collected(leftovers)
    assert (found.counts.sent, found.counts.unsent) == (6, 0)
    assert found.disagreements == []


def test_without_csv_the_documents_are_the_record(make_leftovers, collected):
    leftovers = make_leftovers()
    leftovers.write_csv = False
    leftovers.not_labelled(3)
    found, frames = collected(leftovers)
    assert (found.counts.stored, found.counts.labelled, found.counts.lost_inference) == (6, 5, 1)
    assert (found.counts.documents_stored, found.counts.documents_labelled) == (6, 5)
    assert found.disagreements == []
    assert frames["sent_ns"].notna().all()
    assert frames["document_labelled_ns"].notna().sum() == 5


def foreign_row(leftovers):
    leftovers.storage.append(leftovers.storage[0] | {"image_id": "f" * 24})


def foreign_document(leftovers):
    nothing = {"labelled_ns": None, "stored_ns": None}
    leftovers.documents.append(leftovers.documents[0] | nothing | {"image_id": "f" * 24})


def label_not_in_database(leftovers):
    leftovers.documents[0].update(labelled_ns=None)


def frame_not_in_database(leftovers):
    leftovers.documents[0].update(stored_ns=None)


def another_label(leftovers):
    leftovers.documents[0].update(label="hen")


def another_class(leftovers):
    leftovers.documents[0].update(class_id=7)


def label_by_an_unknown_write(leftovers):
    leftovers.documents[0]["labelled_ns"] += 1


def stored_by_an_unknown_write(leftovers):
    leftovers.documents[0]["stored_ns"] += 1


def another_size(leftovers):
    leftovers.documents[0]["bytes"] += 1


def another_sent_time(leftovers):
    leftovers.documents[0]["sent_ns"] += 1


def another_schedule(leftovers):
    for rows in (leftovers.storage, leftovers.documents):
        rows[0]["intended_ns"] += 1


def lost_by_kafka(leftovers):
    leftovers.messages = 5


@pytest.mark.parametrize(
    ("falsify", "told"),
    [
        (foreign_row, "1 rows of the CSV files belong to no scheduled frame"),
        (foreign_document, "1 documents in MongoDB belong to no scheduled frame"),
        (label_not_in_database, "1 frames are labelled in the CSV files and not in MongoDB"),
        (frame_not_in_database, "1 frames are stored in the CSV files and not in MongoDB"),
        (another_label, "1 documents have a label that no row of the CSV files has"),
        (another_class, "1 documents have a label that no row of the CSV files has"),
        (label_by_an_unknown_write, "1 documents have a label that no row of the CSV files has"),
        (stored_by_an_unknown_write, "1 documents were stored by a write that no row of the CSV files has"),
        (another_size, "1 documents were stored by a write that no row of the CSV files has"),
        (another_sent_time, "1 documents have other intended or sent times than the CSV files"),
        (another_schedule, "1 frames were sent with another intended time than the schedule's"),
        (lost_by_kafka, "Kafka holds 5 messages, 6 frames were sent"),
    ],
)
def test_each_disagreement_is_told(make_leftovers, collected, falsify, told):
    leftovers = make_leftovers()
    falsify(leftovers)
    found, _ = collected(leftovers)
    assert found.disagreements == [told]


def test_dead_letters_are_counted_with_who_sent_them_and_why(make_leftovers, collected):
    leftovers = make_leftovers()
    leftovers.not_labelled(0)
    leftovers.not_labelled(1)
    leftovers.dead = {"HTTP 400": 2}
    found, _ = collected(leftovers)
    assert (found.counts.dead, found.counts.lost_inference) == (2, 2)
    assert found.dead_by_reason == {"inference-consumer: HTTP 400": 2}


def test_the_frames_of_several_consumers_are_joined(make_leftovers, tmp_path):
    leftovers = make_leftovers()
    leftovers.write(tmp_path)
    consumers = tmp_path / "consumers"
    header, *rows = (consumers / "inference-consumer-0.csv").read_text().splitlines()
    (consumers / "inference-consumer-0.csv").write_text("\n".join([header, *rows[:2]]) + "\n")
    (consumers / "inference-consumer-1.csv").write_text("\n".join([header, *rows[2:]]) + "\n")
    found = collect(tmp_path, leftovers.run_id, leftovers.scheduled)
    assert (found.counts.labelled, found.disagreements) == (6, [])


def test_the_table_of_scheduled_frames_is_that_of_the_schedule():
    experiment = Experiment.parse({"producers": 2, "cameras_per_producer": 2, "rate_hz": 2.0, "duration_s": 3.0})
    table = scheduled_frames(experiment, 5, 1_000).to_pandas()
    assert len(table) == experiment.offered_hz * experiment.duration_s
    assert sorted(set(table["device_id"])) == ["cam-0000", "cam-0001", "cam-0002", "cam-0003"]
    schedule = schedule_of(experiment, 5)
    for index, own in enumerate(sorted(set(table["device_id"]))):
        rows = table[table["device_id"] == own].sort_values("seq")
        assert list(rows["intended_ns"]) == list(schedule.intended_ns(1_000, index))


def test_a_trace_is_read_from_where_the_experiment_says(tmp_path):
    (tmp_path / "trace").write_text("0\n0.5\n0.5\n2\n")
    experiment = Experiment.parse({"arrivals": "trace", "trace_file": str(tmp_path / "trace"), "duration_s": 1.0})
    assert list(scheduled_frames(experiment, 1, 0)["intended_ns"].to_pylist()) == [0, 500 * MS, 500 * MS]
