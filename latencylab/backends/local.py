"""The pipeline as processes of this machine."""

import contextlib
import json
import platform
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import requests

from latencylab import paths
from latencylab.backends.backend import BackendError, Progress, RunPlan, topic_environment
from latencylab.backends.forkserver import fork
from latencylab.backends.guard import Guard
from latencylab.backends.local_stack import LocalStack, StackState, end_stack
from latencylab.backends.processes import Service, answers, free_port, stop_all
from latencylab.backends.resources import ProcessSampler, write_resources
from latencylab.documents import write_documents
from latencylab.experiment import Experiment
from services.contract import broker, database
from services.contract.settings import KafkaSettings, MongoSettings, ReplicationSettings

PROGRAMS = {
    "inference-server": "services.inference_server",
    "db-consumer": "services.db_consumer",
    "inference-consumer": "services.inference_consumer",
    "producer": "services.producer",
}
"""Component -> the module that is run for it."""

GROUPS = ("db-consumer", "inference-consumer")


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


class LocalBackend:
    """`latencylab.backends.backend.Backend` on this machine; ``keep=True`` leaves the stack up for other runs.

    `programs` replaces single entries of `PROGRAMS`, to measure another server or consumer in the same pipeline.
    """

    name = "local"

    def __init__(self, keep: bool = False, programs: dict[str, str] | None = None) -> None:
        self.programs = PROGRAMS | (programs or {})
        self._stack = LocalStack(self.programs["inference-server"], keep)
        self._plan: RunPlan | None = None
        self._folder = paths.stack() / "runs" / "none"  # of the run; removed at its end, so never just Path()
        self._guard: Guard | None = None
        self._consumers: dict[str, Service] = {}
        self._producers: dict[str, Service] = {}
        self._status_ports: dict[str, int] = {}
        self._sampler = ProcessSampler()
        self._incidents: list[str] = []

    def up(self, experiment: Experiment, progress: Progress) -> None:
        self._stack.up(experiment, progress)

    @property
    def stack(self) -> StackState:
        """Where the stack's services are."""
        return self._stack.state

    def describe(self) -> dict[str, Any]:
        state = self._stack.state
        session = requests.Session()
        session.trust_env = False
        info = session.get(f"{state.inference_url}/info", timeout=10).json()
        host = {"name": platform.node(), "cpu": cpu_model(), "cores": psutil.cpu_count(), "system": platform.platform()}
        jars = (paths.BUILD / "kafka" / "libs").glob("kafka_2.13-*.jar")
        caveats = ["one host: producers, broker, database, server and consumers share its processors"]
        if self._stack.database.get("stand_in"):
            caveats.append("stand-in database: FerretDB on SQLite, not MongoDB")
        return {
            "server": info,
            "database": self._stack.database | {"source": state.database_name},
            "broker": {"name": "Apache Kafka", "version": next(jars).stem.split("-", 1)[1]},
            "hosts": [host],
            "images": {},
            "caveats": caveats,
        }

    def prepare(self, plan: RunPlan, progress: Progress) -> None:
        self._plan = plan
        self._folder = paths.stack() / "runs" / plan.run_id.replace("/", "_")
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "consumers").mkdir(parents=True)
        self._incidents = []
        self._guard = Guard()
        self._sampler = ProcessSampler()
        for component, (pid, _) in self.stack.processes.items():
            self._sampler.add(component, component, pid)
        experiment = plan.experiment
        for index in range(experiment.producers):
            self._start_producer(index)  # they draw their frames while the rest is made ready
        progress("making the topics anew")
        topics = {name.lower(): value for name, value in topic_environment(experiment).items()}
        topics["kafka_bootstrap"] = self.stack.kafka_bootstrap
        broker.renew_topics(ReplicationSettings.model_validate(topics))
        if self.stack.owns_database:
            database.empty(self._collection())
        else:
            database.forget_run(self._collection(), plan.run_id)
        for index in range(experiment.db_consumers):
            self.start_consumer("db-consumer", index)
        for index in range(experiment.inference_consumers):
            self.start_consumer("inference-consumer", index)
        for name, service in {**self._consumers, **self._producers}.items():
            progress(f"waiting for {name}")
            url = f"http://127.0.0.1:{self._status_ports[name]}/readyz"
            service.wait_until(lambda url=url: answers(url), timeout_s=120)  # type: ignore[misc]
        self._sampler.start()

    def _kafka(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap=self.stack.kafka_bootstrap)

    def _collection(self) -> Any:
        return database.open_collection(MongoSettings(mongodb_uri=self.stack.mongodb_uri))

    def start_consumer(self, group: str, index: int) -> Service:
        """Start one consumer process of the run (also one that replaces a killed one)."""
        assert self._plan is not None
        name = f"{group}-{index}"
        environment = self._plan.consumer_environment() | {
            "HOSTNAME": name,
            "MONGODB_URI": self.stack.mongodb_uri,
            "INFERENCE_URL": self.stack.inference_url,
            "OUTPUT_DIRECTORY": str(self._folder / "consumers"),
        }
        service = self._start(name, self.programs[group], environment)
        if name in self._consumers:
            self._note_early_end(name, self._consumers[name])
        self._consumers[name] = service
        self._sampler.add(group, name, service.pid)
        return service

    def _start_producer(self, index: int) -> None:
        assert self._plan is not None
        name = f"producer-{index}"
        experiment = self._plan.experiment
        environment = self._plan.producer_environment() | {"JOB_COMPLETION_INDEX": str(index)}
        for variable, path in {
            "TRACE_FILE": experiment.trace_file,
            "SOURCE_DIRECTORY": experiment.source_directory,
        }.items():
            if path:
                environment[variable] = str(paths.resolve(path))
        output = self._folder / "reports" / f"{name}.out"
        output.parent.mkdir(exist_ok=True)
        self._producers[name] = self._start(name, self.programs["producer"], environment, output)
        self._sampler.add("producer", name, self._producers[name].pid)

    def _start(self, name: str, module: str, environment: dict[str, str], output: Path | None = None) -> Service:
        self._status_ports[name] = free_port()
        common = {
            "KAFKA_BOOTSTRAP": self.stack.kafka_bootstrap,
            "STATUS_HOST": "127.0.0.1",
            "STATUS_PORT": str(self._status_ports[name]),
        }
        return Service(
            name,
            [sys.executable, "-m", module],
            common | environment,
            self._folder / "logs" / f"{name}.log",
            self._guard,
            working_directory=paths.ROOT,
            output_path=output,
            start=fork,
            dump_signal=signal.SIGUSR2,
        )

    def release(self, lead_s: float) -> int:
        assert self._plan is not None
        start_at_ns = time.time_ns() + int(lead_s * 1e9)
        broker.publish_start(self._kafka(), self._plan.run_id, start_at_ns)
        return start_at_ns

    def producers_left(self) -> int:
        for name, service in self._producers.items():
            if service.exit_status() not in (None, 0):
                raise BackendError(
                    f"{name} ended with status {service.exit_status()}; the end of its log:\n{service.last_lines()}"
                )
        return sum(service.exit_status() is None for service in self._producers.values())

    def lag(self) -> dict[str, int]:
        assert self._plan is not None
        return broker.lag(self._kafka(), self._plan.run_id, GROUPS)

    def growing_records(self) -> Path | None:
        return self._folder / "consumers"

    def finish(self, folder: Path) -> None:
        assert self._plan is not None
        for name, service in self._consumers.items():
            self._note_early_end(name, service)
        self._incidents += [f"{component} ended during the run" for component in self.stack.dead()]
        self._sampler.stop()
        stuck = stop_all([*self._consumers.values(), *self._producers.values()])
        self._incidents += [f"{name} did not end when it was asked to, and was killed" for name in stuck]
        reports = [self._producer_report(name) for name in self._producers]
        (folder / "producers.json").write_text(json.dumps(reports, indent=1))
        (folder / "broker.json").write_text(json.dumps(broker.end_offsets(self._kafka()), indent=1))
        shutil.copytree(self._folder / "consumers", folder / "consumers")
        shutil.copytree(self._folder / "logs", folder / "logs")
        for log in (paths.stack() / "logs").glob("*.log"):
            shutil.copy(log, folder / "logs" / log.name)
        write_documents(database.documents(self._collection(), self._plan.run_id), folder / "documents.parquet")
        write_resources(self._sampler.samples, folder / "resources.parquet")
        self._end_run()

    def _producer_report(self, name: str) -> dict[str, Any]:
        path = self._folder / "reports" / f"{name}.out"
        lines = path.read_text().splitlines()
        try:
            return dict(json.loads(lines[-1]))
        except (IndexError, ValueError):
            raise BackendError(
                f"{name} left no report; the end of its log:\n{self._producers[name].last_lines()}"
            ) from None

    def _note_early_end(self, name: str, service: Service) -> None:
        if (status := service.exit_status()) is not None:
            self._incidents.append(f"{name} ended during the run with status {status}")

    def incidents(self) -> list[str]:
        return list(self._incidents)

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._sampler.stop()
        stop_all([*self._producers.values(), *self._consumers.values()], grace_s=5)
        self._end_run()

    def _end_run(self) -> None:
        self._consumers, self._producers, self._status_ports = {}, {}, {}
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def down(self) -> None:
        if self._producers or self._consumers:
            self.abandon()
        self._stack.down()

    def end_leftovers(self, everything: bool) -> list[str]:
        return [f"stopped {component}" for component in end_stack()]
