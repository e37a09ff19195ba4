"""From what a backend left of a run to one table of frames, with every count checked against every other.

The work is done by DuckDB on files, so that a run of ten million frames needs no more memory than one of a hundred.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from latencylab import histograms, paths
from latencylab.experiment import Experiment
from services.contract.histogram import SUFFIX
from services.contract.latency_csv import INFERENCE_COLUMNS, STORAGE_COLUMNS
from services.producer.schedule import Schedule, device_id, frames_of_run, read_trace

_TEXT: Final = {"run_id", "image_id", "device_id", "truth", "label"}
_MEMORY_LIMIT: Final = "512MB"


@dataclass(frozen=True)
class Counts:
    """Frames of one run. ``scheduled = sent + unsent``, ``sent = stored + lost_storage``, ``sent = labelled +
    lost_inference``; dead letters are among the lost. ``redelivered`` rows are frames that a consumer handled again
    after a restart; they changed nothing in MongoDB."""

    scheduled: int
    sent: int
    unsent: int
    stored: int
    labelled: int
    lost_storage: int
    lost_inference: int
    dead: int
    redelivered: int
    documents_stored: int
    documents_labelled: int


@dataclass(frozen=True)
class Collected:
    """What `collect` found: the counts, and what does not agree (empty when all is well)."""

    counts: Counts
    disagreements: list[str] = field(default_factory=list)
    dead_by_reason: dict[str, int] = field(default_factory=dict)


def schedule_of(experiment: Experiment, seed: int) -> Schedule:
    """The open-loop schedule that every producer of a run follows."""
    trace = read_trace(paths.resolve(experiment.trace_file)) if experiment.arrivals == "trace" else ()
    return Schedule(experiment.arrivals, experiment.rate_hz, experiment.duration_s, seed, trace)


def scheduled_frames(experiment: Experiment, seed: int, start_at_ns: int) -> pa.Table:
    """Every frame that the run should send: device_id, seq, intended_ns; ordered by intended time."""
    schedule = schedule_of(experiment, seed)
    frames = frames_of_run(schedule, experiment.producers, experiment.cameras_per_producer, start_at_ns)
    names = pa.array([device_id(index) for index in range(experiment.cameras)])
    devices = pa.DictionaryArray.from_arrays(pa.array(frames.device.astype(np.int32)), names)
    return pa.table({"device_id": devices.cast(pa.string()), "seq": frames.seq, "intended_ns": frames.intended_ns})


def consumer_reports(folder: Path) -> list[dict[str, Any]]:
    """What each consumer process of the run in `folder` said at its end; a killed one said nothing."""
    found = (path for path in (folder / "consumers").glob("*.json") if not path.name.endswith(SUFFIX))
    return [json.loads(path.read_text()) for path in sorted(found)]


def collect(folder: Path, run_id: str, scheduled: pa.Table) -> Collected:
    """Join schedule, producers' reports, CSVs and documents in `folder` into ``folder/frames.parquet``.

    `scheduled` has the columns of `scheduled_frames`. Lost frames stay in the table, their stamps null.
    """
    producers = json.loads((folder / "producers.json").read_text())
    reports = consumer_reports(folder)
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "threads": 2}) as db:
        db.execute(f"SET temp_directory = {_quoted(folder / '.spill')}")
        _load(db, folder, run_id, scheduled, producers)
        db.execute(_JOIN)
        ordered = "SELECT * FROM frames ORDER BY intended_ns, device_id, seq"
        db.execute(f"COPY ({ordered}) TO {_quoted(folder / 'frames.parquet')}")
        found = _counts(db)
        disagreements = _disagreements(db, reports) + histograms.disagreements(folder, reports)
    in_broker = {topic: sum(ends.values()) for topic, ends in json.loads((folder / "broker.json").read_text()).items()}
    counts = Counts(**found, dead=in_broker["frames.dead"])
    if in_broker["frames"] != counts.sent:
        disagreements.append(f"Kafka holds {in_broker['frames']} messages, {counts.sent} frames were sent")
    return Collected(counts, disagreements, _dead_by_reason(reports))


def _dead_by_reason(reports: list[dict[str, Any]]) -> dict[str, int]:
    dead: dict[str, int] = {}
    for report in reports:
        for reason, count in report["dead"].items():
            key = f"{report['group']}: {reason}"
            dead[key] = dead.get(key, 0) + count
    return dead


def _load(
    db: duckdb.DuckDBPyConnection, folder: Path, run_id: str, scheduled: pa.Table, producers: list[dict[str, Any]]
) -> None:
    db.register("schedule_arrow", scheduled)
    # The same id as services.contract.message.make_image_id; a test holds the two together.
    key = "concat(?, chr(0), device_id, chr(0), seq)"
    db.execute(
        f"CREATE TABLE schedule AS SELECT substr(sha256({key}), 1, 24) image_id, * FROM schedule_arrow", [run_id]
    )
    db.unregister("schedule_arrow")
    unsent = [
        {"device_id": device, "seq": seq}
        for report in producers
        for device, numbers in report["unsent_frames"].items()
        for seq in numbers
    ]
    schema = pa.schema([("device_id", pa.string()), ("seq", pa.int64())])
    db.register("unsent_arrow", pa.Table.from_pylist(unsent, schema))
    db.execute("CREATE TABLE unacknowledged AS SELECT DISTINCT device_id, seq FROM unsent_arrow")
    _load_csv(db, "inference", folder / "consumers" / "inference-consumer-*.csv", INFERENCE_COLUMNS)
    _load_csv(db, "storage", folder / "consumers" / "db-consumer-*.csv", STORAGE_COLUMNS)
    db.execute(f"CREATE TABLE documents AS SELECT * FROM read_parquet({_quoted(folder / 'documents.parquet')})")


def _load_csv(db: duckdb.DuckDBPyConnection, table: str, pattern: Path, columns: tuple[str, ...]) -> None:
    kinds = {name: "VARCHAR" if name in _TEXT else "DOUBLE" if name == "score" else "BIGINT" for name in columns}
    if list(pattern.parent.glob(pattern.name)):
        dialect = "auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"'"
        source = f"SELECT * FROM read_csv({_quoted(pattern)}, {dialect}, columns = {kinds})"
    else:
        source = "SELECT " + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in kinds.items()) + " WHERE false"
    db.execute(f"CREATE TABLE {table}_rows AS {source}")
    # A frame handled twice counts from the first time it was done: that is when its effect was there.
    done = "labelled_ns" if table == "inference" else "stored_ns"
    db.execute(
        f"CREATE TABLE {table} AS SELECT * FROM {table}_rows "
        f"QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY {done}) = 1"
    )


_JOIN: Final = """
CREATE TABLE frames AS
SELECT s.image_id, s.device_id, s.seq, coalesce(i.truth, t.truth) AS truth,
    coalesce(i.bytes, t.bytes, d.bytes) AS bytes,
    -- A producer that had no answer can't know whether the broker has the frame; a consumer that saw it does.
    u.seq IS NULL OR i.image_id IS NOT NULL OR t.image_id IS NOT NULL OR d.image_id IS NOT NULL AS sent,
    s.intended_ns, coalesce(i.sent_ns, t.sent_ns, d.sent_ns) AS sent_ns,
    i.received_ns, i.requested_ns, i.answered_ns, i.labelled_ns,
    t.storage_received_ns, t.stored_ns,
    i.server_queue_ns, i.server_decode_ns, i.server_inference_ns,
    i.attempts, t.attempts AS storage_attempts,
    i.label, i.class_id, i.score,
    coalesce(i.partition, t.partition) AS partition, coalesce(i.offset, t.offset) AS offset,
    d.labelled_ns AS document_labelled_ns, d.stored_ns AS document_stored_ns
FROM schedule s
LEFT JOIN unacknowledged u USING (device_id, seq)
LEFT JOIN inference i USING (image_id)
LEFT JOIN storage t USING (image_id)
LEFT JOIN documents d USING (image_id)
"""


def _quoted(path: Path) -> str:
    """A path as a string of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def _one(db: duckdb.DuckDBPyConnection, query: str) -> int:
    row = db.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    # Without a CSV (write_csv = false) the documents are the only record there is.
    labelled = "coalesce(labelled_ns, document_labelled_ns) IS NOT NULL"
    stored = "coalesce(stored_ns, document_stored_ns) IS NOT NULL"
    query = f"""
        SELECT count(*) AS scheduled, count(*) FILTER (sent) AS sent, count(*) FILTER (NOT sent) AS unsent,
            count(*) FILTER ({stored}) AS stored, count(*) FILTER ({labelled}) AS labelled,
            count(*) FILTER (sent AND NOT ({stored})) AS lost_storage,
            count(*) FILTER (sent AND NOT ({labelled})) AS lost_inference,
            count(document_stored_ns) AS documents_stored, count(document_labelled_ns) AS documents_labelled
        FROM frames"""
    answer = db.execute(query)
    names = [column[0] for column in answer.description]
    row = answer.fetchone()
    assert row is not None
    tables = ("inference", "storage")
    redelivered = sum(_one(db, f"SELECT count(*) - count(DISTINCT image_id) FROM {table}_rows") for table in tables)
    return dict(zip(names, map(int, row), strict=True)) | {"redelivered": redelivered}


_CHECKS: Final = {
    "rows of the CSV files belong to no scheduled frame": """
        SELECT count(*) FROM (SELECT image_id FROM inference UNION SELECT image_id FROM storage)
        WHERE image_id NOT IN (SELECT image_id FROM schedule)""",
    "documents in MongoDB belong to no scheduled frame": """
        SELECT count(*) FROM documents WHERE image_id NOT IN (SELECT image_id FROM schedule)""",
    "frames are labelled in the CSV files and not in MongoDB": """
        SELECT count(*) FROM frames WHERE labelled_ns IS NOT NULL AND document_labelled_ns IS NULL""",
    "frames are stored in the CSV files and not in MongoDB": """
        SELECT count(*) FROM frames WHERE stored_ns IS NOT NULL AND document_stored_ns IS NULL""",
    "documents have a label that no row of the CSV files has": """
        SELECT count(*) FROM documents d WHERE d.labelled_ns IS NOT NULL AND NOT EXISTS (SELECT 1 FROM inference_rows r
        WHERE r.image_id = d.image_id AND r.write_ns = d.labelled_ns AND r.class_id = d.class_id AND r.label = d.label
        )""",
    "documents were stored by a write that no row of the CSV files has": """
        SELECT count(*) FROM documents d WHERE d.stored_ns IS NOT NULL AND NOT EXISTS (SELECT 1 FROM storage_rows r
        WHERE r.image_id = d.image_id AND r.write_ns = d.stored_ns AND r.bytes = d.bytes)""",
    "documents have other intended or sent times than the CSV files": """
        SELECT count(*) FROM documents d JOIN storage t USING (image_id)
        WHERE d.intended_ns <> t.intended_ns OR d.sent_ns <> t.sent_ns""",
    "frames were sent with another intended time than the schedule's": """
        SELECT count(*) FROM schedule s JOIN storage t USING (image_id) WHERE s.intended_ns <> t.intended_ns""",
}


def _disagreements(db: duckdb.DuckDBPyConnection, reports: list[dict[str, Any]]) -> list[str]:
    checks = dict(_CHECKS)
    if any(report["csv"] is None for report in reports):
        checks = {text: query for text, query in checks.items() if "CSV" not in text}
    return [f"{count} {text}" for text, query in checks.items() if (count := _one(db, query))]
