"""The whole local pipeline, with a real Kafka, a MongoDB-protocol server and Flask with TensorFlow."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from bson import ObjectId
from pymongo import MongoClient

from latencylab import histograms
from latencylab.percentiles import quantile_of_sorted
from latencylab.runs import Run
from services.contract.histogram import LOWEST_NS, RELATIVE_ERROR
from services.contract.settings import InferenceServerSettings
from services.inference_server import agreement, decode, model
from services.inference_server.weights import hash_weights


def _documents(backend, run: Run) -> list[dict]:
    client: MongoClient[Any] = MongoClient(backend.stack.mongodb_uri)
    with client:
        return list(client["iot"]["frames"].find({"run": run.info["run_id"]}))


def test_every_frame_is_stored_and_labelled_once_and_all_records_agree(backend, measured: Callable[..., Run]):
    run = measured(producers=2, rate_hz=2, duration_s=8, db_consumers=2, inference_consumers=2)
    frames, counts = run.frames, run.info["counts"]

    assert counts["scheduled"] == counts["sent"] == counts["stored"] == counts["labelled"] == 32
    assert counts["unsent"] == counts["lost_storage"] == counts["lost_inference"] == counts["dead"] == 0
    documents = pd.DataFrame(_documents(backend, run))
    assert sorted(documents["_id"].astype(str)) == sorted(frames["image_id"])
    assert all(isinstance(image, bytes) and image[:2] == b"\xff\xd8" for image in documents["image"])

    csv = pd.concat(pd.read_csv(path) for path in run.folder.glob("consumers/inference-consumer-*.csv"))
    assert sorted(csv["image_id"]) == sorted(frames["image_id"])
    joined = frames.merge(csv, on="image_id", suffixes=("", "_csv"))
    labels = documents.assign(image_id=documents["_id"].astype(str)).merge(joined, on="image_id")
    for column in ("intended_ns", "sent_ns", "received_ns", "requested_ns", "answered_ns", "labelled_ns", "class_id"):
        assert (joined[column] == joined[f"{column}_csv"]).all(), column
    for document, row in zip(labels["inference"], labels.itertuples(), strict=True):
        assert (document["label"], document["class_id"]) == (row.label, row.class_id)
        assert document["labelled_ns"] == row.write_ns <= row.labelled_ns
    latencies_ns = np.sort((csv["labelled_ns"] - csv["intended_ns"]).astype("int64").to_numpy())
    merged = histograms.merged(run.folder, "inference-consumer")
    assert len(merged) == len(histograms.merged(run.folder, "db-consumer")) == 32
    for q in (0.1, 0.5, 0.9, 1.0):
        exact_ns = quantile_of_sorted(latencies_ns, q)
        assert exact_ns <= merged.percentile_ns(q) <= exact_ns * (1 + RELATIVE_ERROR) + LOWEST_NS
    # what makes a run invalid may be the machine's (a producer that was late, a backlog), never the records
    assert [text for text in run.info["invalid_reasons"] if "late" not in text and "backlog" not in text] == []


def test_a_group_shares_out_its_partitions_for_new_members_and_never_under_load(measured: Callable[..., Run]):
    """A rebalance under load delivers again what is in flight."""
    run = measured(rate_hz=2, duration_s=3, db_consumers=1, inference_consumers=2)
    log = (run.folder / "logs" / "kafka.log").read_text().splitlines()
    for group in ("db-consumer", "inference-consumer"):
        begun = f"Preparing to rebalance group {group}.{run.info['run_id']} "
        reasons = [line.split("reason: ")[1] for line in log if begun in line]
        joins = [reason for reason in reasons if not reason.startswith("explicit `LeaveGroup`")]
        assert {reason.split(" member ")[0] for reason in joins} == {"Adding new"}, reasons
    assert run.info["counts"]["redelivered"] == 0


def test_the_stamps_are_in_order_and_the_stages_sum_to_the_total(measured: Callable[..., Run]):
    frames = measured(rate_hz=2, duration_s=4).frames
    for path in (
        ["intended_ns", "sent_ns", "received_ns", "requested_ns", "answered_ns", "labelled_ns"],
        ["intended_ns", "sent_ns", "storage_received_ns", "stored_ns"],
    ):
        stamps = frames[path].astype("int64").to_numpy()
        assert (np.diff(stamps[:, 1:], axis=1) >= 0).all(), path
    served = frames[["server_queue_ns", "server_decode_ns", "server_inference_ns"]].sum(axis=1)
    assert (served <= frames["answered_ns"] - frames["requested_ns"]).all()


def test_a_served_label_is_what_keras_predicts_for_the_same_jpeg(backend, measured: Callable[..., Run]):
    run = measured(rate_hz=2, duration_s=4, engine_form="folded-onednn")  # bfloat16, if chosen, rounds
    keras_model = model.load_keras_model(InferenceServerSettings())
    assert hash_weights(keras_model) == run.info["running"]["server"]["weights_sha256"]
    for document in _documents(backend, run):
        pixels = decode.to_array(document["image"])
        scores = agreement.predict_plainly(keras_model, pixels[np.newaxis])[0]
        assert document["inference"]["class_id"] == int(scores.argmax())
        assert abs(document["inference"]["score"] - float(scores.max())) < 1e-3


def test_a_repeated_run_makes_the_same_ids_and_replaces_its_documents(backend, measured: Callable[..., Run]):
    from latencylab.measurement import measure
    from latencylab.request import Request
    from latencylab.runs import RunName

    first = measured(rate_hz=2, duration_s=3)
    request = Request(
        RunName("again", first.point, first.info["repetition"]), first.experiment, root=first.folder / "x"
    )
    ids = []
    for _ in range(2):
        run = measure(request, backend, print)
        ids.append(sorted(run.frames["image_id"]))
        assert len(_documents(backend, run)) == len(ids[-1])
        run.folder.rename(run.folder.with_name(f"kept{len(ids)}"))
    assert ids[0] == ids[1]
    assert all(ObjectId.is_valid(image_id) for image_id in ids[0])


def test_directory_source_and_trace_arrivals_reach_the_database(backend, measured, tmp_path):
    from PIL import Image

    for index in range(2):
        Image.new("RGB", (320, 240), (40 * index, 90, 10)).save(tmp_path / f"photo{index}.jpg")
    trace = tmp_path / "trace.txt"
    trace.write_text("0.0\n0.5\n0.5\n2.25\n")
    run = measured(source="directory", source_directory=str(tmp_path), arrivals="trace", trace_file=str(trace))
    assert run.info["counts"]["labelled"] == 4
    offsets = sorted((run.frames["intended_ns"].astype("int64") - run.info["start_at_ns"]).tolist())
    assert offsets == [0, 500_000_000, 500_000_000, 2_250_000_000]


def test_run_json_tells_where_the_numbers_come_from(measured: Callable[..., Run]):
    run = measured(rate_hz=2, duration_s=3)
    info = run.info
    assert {"server", "database", "broker", "hosts"} <= set(info["running"])
    assert info["clients"]["producer"]["acks"] == "all"
    assert info["clients"]["consumers"]["db-consumer-0"]["fetch_min_bytes"] == 1
    assert set(info["clock"]["drift_ns"]) == {"producer-0", "db-consumer-0", "inference-consumer-0"}
    assert json.loads((run.folder / "producers.json").read_text())[0]["lateness_ns"]["p99"] >= 0
    assert {"kafka", "inference-server", "producer", "db-consumer"} <= set(run.resources["component"])
    assert (run.folder / "logs" / "kafka.log").exists()
