"""Made-up runs: what a backend leaves of a run, frame by frame, and a backend in memory that leaves it."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from latencylab import measurement
from latencylab.backends.backend import Progress, RunPlan
from latencylab.backends.resources import write_resources
from latencylab.collect import scheduled_frames
from latencylab.documents import write_documents
from latencylab.experiment import Experiment
from latencylab.request import Request
from latencylab.runs import Run, RunName
from services.contract.histogram import SUFFIX, HistogramFile
from services.contract.latency_csv import INFERENCE_COLUMNS, STORAGE_COLUMNS, LatencyCsv
from services.contract.message import make_image_id

# A busy machine is no failure: no test asserts how long something takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


@dataclass
class Leftovers:
    """What the backend leaves of one run, in rows that a test can take away from, repeat or falsify.

    As made, every frame was sent, stored and labelled once. The latencies follow from `seed`.
    """

    run_id: str
    scheduled: pa.Table
    seed: int = 1
    latency_ms: float = 100.0
    unsent: list[tuple[str, int]] = field(default_factory=list)
    dead: dict[str, int] = field(default_factory=dict)
    messages: int | None = None
    write_csv: bool = True
    drift_ns: int = 0
    inference: list[dict[str, Any]] = field(init=False)
    storage: list[dict[str, Any]] = field(init=False)
    documents: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        extra_ms = random.exponential(self.latency_ms / 5, self.scheduled.num_rows)
        frames = [self._frame(row, extra) for row, extra in zip(self.scheduled.to_pylist(), extra_ms, strict=True)]
        self.inference = [{name: frame[name] for name in INFERENCE_COLUMNS} for frame in frames]
        self.storage = [
            {name: frame[name] for name in STORAGE_COLUMNS} | {"write_ns": frame["stored_ns"] - MS} for frame in frames
        ]
        self.documents = [
            {key: frame[key] for key in ("image_id", "run_id", "device_id", "seq", "bytes", "intended_ns", "sent_ns")}
            | {"stored_ns": frame["stored_ns"] - MS, "labelled_ns": frame["write_ns"]}
            | {key: frame[key] for key in ("label", "class_id", "score")}
            for frame in frames
        ]

    def _frame(self, row: dict[str, Any], extra_ms: float) -> dict[str, Any]:
        sent_ns = row["intended_ns"] + MS // 10
        answered_ns = sent_ns + int((self.latency_ms + extra_ms) * MS)
        return {
            **row,
            "run_id": self.run_id,
            "image_id": make_image_id(self.run_id, row["device_id"], row["seq"]),
            "partition": 0,
            "offset": row["seq"],
            "bytes": 40_000 + row["seq"],
            "truth": "cross",
            "sent_ns": sent_ns,
            "received_ns": sent_ns + 5 * MS,
            "storage_received_ns": sent_ns + 6 * MS,
            "stored_ns": sent_ns + 20 * MS,
            "requested_ns": sent_ns + 7 * MS,
            "answered_ns": answered_ns,
            "write_ns": answered_ns + MS,
            "labelled_ns": answered_ns + 10 * MS,
            "server_queue_ns": MS,
            "server_decode_ns": 2 * MS,
            "server_inference_ns": 50 * MS,
            "attempts": 1,
            "label": "poncho, with a comma",
            "class_id": 735,
            "score": 0.25,
        }

    def never_sent(self, index: int) -> None:
        """The producer had no acknowledgement for frame `index`, and nobody else saw it."""
        row = self.scheduled.slice(index, 1).to_pylist()[0]
        self.unsent.append((row["device_id"], row["seq"]))
        self.not_stored(index)
        self.not_labelled(index)

    def not_stored(self, index: int) -> None:
        """The DB consumer lost frame `index`."""
        image_id = self.image_id(index)
        self.storage = [row for row in self.storage if row["image_id"] != image_id]
        self._forget(image_id, ("stored_ns", "bytes", "device_id", "seq", "intended_ns", "sent_ns"))

    def not_labelled(self, index: int) -> None:
        """The inference consumer lost frame `index`."""
        image_id = self.image_id(index)
        self.inference = [row for row in self.inference if row["image_id"] != image_id]
        self._forget(image_id, ("labelled_ns", "label", "class_id", "score"))

    def _forget(self, image_id: str, columns: tuple[str, ...]) -> None:
        for document in self.documents:
            if document["image_id"] == image_id:
                document.update(dict.fromkeys(columns))
        written = ("stored_ns", "labelled_ns")
        self.documents = [d for d in self.documents if any(d[column] is not None for column in written)]

    def image_id(self, index: int) -> str:
        """Id of scheduled frame `index`."""
        row = self.scheduled.slice(index, 1).to_pylist()[0]
        return make_image_id(self.run_id, row["device_id"], row["seq"])

    def write(self, folder: Path) -> None:
        """Leave everything in `folder` as `latencylab.backends.backend.Backend.finish` does."""
        (folder / "consumers").mkdir(parents=True)
        (folder / "logs").mkdir()
        sent = self.scheduled.num_rows - len(self.unsent)
        unsent: dict[str, list[int]] = {}
        for device, seq in self.unsent:
            unsent.setdefault(device, []).append(seq)
        producer = {"producer_index": 0, "unsent_frames": unsent, "drift_ns": self.drift_ns, "client": {"acks": "all"}}
        (folder / "producers.json").write_text(json.dumps([producer]))
        ends = {"frames": {"0": sent if self.messages is None else self.messages}}
        ends["frames.dead"] = {"0": sum(self.dead.values())}
        (folder / "broker.json").write_text(json.dumps(ends))
        self._consumer(folder, "db-consumer", STORAGE_COLUMNS, self.storage)
        self._consumer(folder, "inference-consumer", INFERENCE_COLUMNS, self.inference)
        write_documents(self.documents, folder / "documents.parquet")
        write_resources([], folder / "resources.parquet")

    def _consumer(self, folder: Path, group: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
        name = f"{group}-0"
        histogram = HistogramFile(folder / "consumers" / f"{name}{SUFFIX}")
        done = "stored_ns" if group == "db-consumer" else "labelled_ns"
        histogram.record(row[done] - row["intended_ns"] for row in rows if isinstance(row[done], int))
        histogram.write()
        if self.write_csv:
            file = LatencyCsv(folder / "consumers" / f"{name}.csv", columns)
            for row in rows:
                file.write(row)
            file.close()
        report = {
            "group": group,
            "consumer": name,
            "dead": self.dead if group == "inference-consumer" else {},
            "csv": f"{name}.csv" if self.write_csv else None,
            "rows": len(rows) if self.write_csv else None,
            "histogram": f"{name}{SUFFIX}",
            "clock_drift_ns": 0,
            "kafka_client": {"enable_auto_commit": False},
        }
        (folder / "consumers" / f"{name}.json").write_text(json.dumps(report))


@dataclass
class MemoryBackend:
    """A backend without a process: what a run leaves is made up, and `change` may alter it before it is written."""

    change: Callable[[Leftovers], None] = lambda leftovers: None
    weights: str = "random"
    engine: dict[str, Any] = field(default_factory=lambda: {"form": "frozen"})
    latency_ms: float = 100.0
    lags: list[dict[str, int]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    fails_at: dict[str, BaseException] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    plan: RunPlan | None = None
    name: str = "local"

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if what in self.fails_at:
            raise self.fails_at[what]

    def up(self, experiment: Experiment, progress: Progress) -> None:
        self._called("up")

    def describe(self) -> dict[str, Any]:
        caveat = "The weights are random (seed 1)." if self.weights == "random" else None
        server = {"model": "resnet50", "weights": self.weights, "weights_caveat": caveat, "engine": self.engine}
        return {
            "server": server,
            "database": {"name": "FerretDB", "version": "7.0.42", "stand_in": True},
            "broker": {"name": "Apache Kafka", "version": "4.1.1"},
            "hosts": [{"name": "host", "cpu": "made up", "cores": 2}],
            "images": {},
            "caveats": ["stand-in database: FerretDB on SQLite, not MongoDB"],
        }

    def prepare(self, plan: RunPlan, progress: Progress) -> None:
        self._called("prepare")
        self.plan = plan

    def release(self, lead_s: float) -> int:
        self._called("release")
        return START_NS

    def producers_left(self) -> int:
        self._called("producers_left")
        return 0

    def lag(self) -> dict[str, int]:
        self._called("lag")
        return self.lags.pop(0) if self.lags else {"db-consumer": 0, "inference-consumer": 0}

    def growing_records(self) -> Path | None:
        return None

    def finish(self, folder: Path) -> None:
        self._called("finish")
        assert self.plan is not None
        plan = self.plan
        scheduled = scheduled_frames(plan.experiment, plan.seed, START_NS)
        leftovers = Leftovers(plan.run_id, scheduled, plan.seed, self.latency_ms)
        self.change(leftovers)
        leftovers.write(folder)

    def incidents(self) -> list[str]:
        return list(self.happened)

    def abandon(self) -> None:
        self._called("abandon")

    def down(self) -> None:
        self._called("down")

    def end_leftovers(self, everything: bool) -> list[str]:
        return []


@pytest.fixture(scope="session")
def make_leftovers() -> Callable[..., Leftovers]:
    """What a run of `devices` cameras with `frames` frames each leaves, nothing lost."""

    def make(devices: int = 2, frames: int = 3, run_id: str = "sweep/point/1") -> Leftovers:
        experiment = Experiment.parse({"producers": devices, "rate_hz": 1.0, "duration_s": float(frames)})
        return Leftovers(run_id, scheduled_frames(experiment, 1, START_NS))

    return make


@pytest.fixture(scope="session")
def memory_backend() -> type[MemoryBackend]:
    """The class of backends that only make things up."""
    return MemoryBackend


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own."""
    monkeypatch.setenv("LATENCYLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Record a complete run below ``root`` with a made-up backend: ``make_run(root, name, backend, **parameters)``."""

    def make(root: Path, name: RunName, backend: MemoryBackend | None = None, **parameters: Any) -> Run:
        order = parameters.pop("point_order", 0)
        experiment = Experiment.parse({"rate_hz": 10.0, "duration_s": 8.0} | parameters)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LATENCYLAB_DATA", str(root))
            request = Request(name, experiment, order, root / "runs")
            return measurement.measure(request, backend or MemoryBackend(), lambda text: None)

    return make
