"""The long-lived part of the local pipeline: Kafka, a MongoDB-protocol server and the inference server."""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL import Image
from pymongo.errors import PyMongoError

from latencylab import paths
from latencylab.backends import local_kafka
from latencylab.backends.backend import BackendError, Progress, server_environment
from latencylab.backends.guard import Guard
from latencylab.backends.processes import Service, accepts, answers, end_process, free_port, stop_all
from latencylab.experiment import Experiment
from services.contract import database
from services.contract.settings import MongoSettings

FERRETDB = paths.BUILD / "ferretdb"

EXTERNAL = "external"
"""Name of a database that ``MONGODB_URI`` gave: what is in it is somebody's, and stays."""

_STATE_FILE = "stack.json"

BROKER, DATABASE, SERVER = "kafka", "mongodb", "inference-server"


@dataclass
class StackState:
    """What another process needs to use or end this stack; kept in ``stack.json``."""

    kafka_bootstrap: str = ""
    mongodb_uri: str = ""
    database_name: str = ""
    inference_url: str = ""
    server_environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)  # component -> (pid, created at)
    holder: tuple[int, float] | None = None  # the process that is starting it, or that ends it when it is done

    @classmethod
    def load(cls) -> "StackState | None":
        """The stack that was left running, or None."""
        with contextlib.suppress(FileNotFoundError):
            return cls(**json.loads((paths.stack() / _STATE_FILE).read_text()))
        return None

    def save(self, folder: Path | None = None) -> None:
        """Write it into the stack's folder, or into one that is about to become it."""
        path = (folder or paths.stack()) / _STATE_FILE
        staged = path.with_suffix(".part")
        staged.write_text(json.dumps(self.__dict__, indent=1))
        staged.rename(path)

    @property
    def owns_database(self) -> bool:
        """Whether the database began with this stack and ends with it."""
        return self.database_name != EXTERNAL

    def hold(self) -> None:
        """Make this process its holder."""
        self.holder = (os.getpid(), psutil.Process().create_time())

    def stranger(self) -> int | None:
        """Pid of a holder that is neither this process nor one that started it, as a sweep starts its kernel."""
        if self.holder is None or not _runs(*self.holder):
            return None
        me = psutil.Process()
        return None if self.holder[0] in {me.pid, *(parent.pid for parent in me.parents())} else self.holder[0]

    @property
    def up(self) -> bool:
        """Whether all of it was started, runs and goes on running: what a holder leaves behind is about to end."""
        abandoned = self.holder is not None and not _runs(*self.holder)
        return SERVER in self.processes and not self.dead() and not abandoned

    def dead(self) -> list[str]:
        """Components whose process has ended."""
        return [component for component, (pid, created) in self.processes.items() if not _runs(pid, created)]


def _runs(pid: int, created_s: float) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return abs(process.create_time() - created_s) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def _held(by: str) -> BackendError:
    return BackendError(
        f"{by} has a pipeline of this project and ends it when it is done; wait for it, since two would disturb each "
        "other (a pipeline that several may use one after another is brought up by  latencylab up)"
    )


def end_stack() -> list[str]:
    """End the stack that ``stack.json`` names and remove its folder; the names of what was running."""
    state = StackState.load() or StackState()
    running = [name for name in state.processes if name not in state.dead()]
    for component in (SERVER, DATABASE, BROKER):
        if component in state.processes:
            end_process(*state.processes[component])
    shutil.rmtree(paths.stack(), ignore_errors=True)
    return running


class LocalStack:
    """Starts the three services, or takes over those that are up.

    ``keep=True`` leaves them running when this process ends (`latencylab up`); otherwise they end with it.
    """

    def __init__(self, server_program: str, keep: bool = False) -> None:
        self._server_program = server_program
        self._keep = keep
        self._guard: Guard | None = None
        self._services: dict[str, Service] = {}
        self.state = StackState()
        self.database: dict[str, Any] = {}
        self.owned = False

    def up(self, experiment: Experiment, progress: Progress) -> None:
        """Bring up what is missing and wait until all of it is deeply ready.

        Raises `BackendError` when a process that this one does not belong to holds a stack here: it would be ended
        under this one's hands, and each would disturb what the other measures.
        """
        left = StackState.load()
        if not self._services:
            if left is not None and (pid := left.stranger()) is not None:
                raise _held(f"process {pid}")
            if left is not None and left.up:
                self.state = left
            else:
                end_stack()
                self._start(experiment)
        if self.state.server_environment != server_environment(experiment):
            self._restart_server(experiment)
        self._wait_ready(progress)

    def _start(self, experiment: Experiment) -> None:
        self._take_folder()
        self.owned = True
        if not self._keep:
            self._guard = Guard()
        self._start_kafka()
        self._start_database()
        self._start_server(experiment)
        if self._keep:
            self.state.holder = None
        self.state.save()

    def _take_folder(self) -> None:
        """Make the stack's folder, with this process as its holder, in one step: of two that try, one gets it."""
        self.state = StackState()
        self.state.hold()
        paths.stack().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=paths.stack().parent) as made:
            folder = Path(made) / "stack"
            folder.mkdir()
            self.state.save(folder)
            try:
                folder.rename(paths.stack())
            except OSError:
                raise _held("another process") from None

    def _service(self, component: str, command: list[str], environment: dict[str, str]) -> None:
        log = paths.stack() / "logs" / f"{component}.log"
        service = Service(component, command, environment, log, self._guard, working_directory=paths.ROOT)
        self._services[component] = service
        self.state.processes[component] = (service.pid, psutil.Process(service.pid).create_time())
        self.state.save()  # at once: what outlives this process must be found, even after half a start

    def _start_kafka(self) -> None:
        port = free_port()
        properties = local_kafka.write_properties(paths.stack() / "kafka", port, free_port())
        self._service(BROKER, local_kafka.format_and_start(properties), {})
        self.state.kafka_bootstrap = f"127.0.0.1:{port}"

    def _start_database(self) -> None:
        if given := os.environ.get("MONGODB_URI"):
            self.state.mongodb_uri = given
            self.state.database_name = EXTERNAL
            return
        port = free_port()
        folder = paths.stack() / "mongodb"
        folder.mkdir()
        if mongod := shutil.which("mongod"):
            command = [mongod, "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
            self.state.database_name = "mongod"
        elif FERRETDB.exists():
            command = [str(FERRETDB), "--listen", f"127.0.0.1:{port}", "--data", str(folder)]
            self.state.database_name = "ferretdb"
        else:
            raise BackendError("no MongoDB: set MONGODB_URI, put mongod on PATH, or run  make setup  to build FerretDB")
        self._service(DATABASE, command, {})
        self.state.mongodb_uri = f"mongodb://127.0.0.1:{port}/"

    def _start_server(self, experiment: Experiment) -> None:
        port = free_port()
        environment = {
            **server_environment(experiment),
            "INFERENCE_HOST": "127.0.0.1",
            "INFERENCE_PORT": str(port),
            "CACHE_DIRECTORY": str(paths.BUILD / "inference_server"),
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self._service(SERVER, [sys.executable, "-m", self._server_program], environment)
        self.state.inference_url = f"http://127.0.0.1:{port}"
        self.state.server_environment = server_environment(experiment)

    def _restart_server(self, experiment: Experiment) -> None:
        if SERVER in self._services:
            self._services.pop(SERVER).stop()
        else:
            end_process(*self.state.processes[SERVER])
        self._start_server(experiment)
        self.state.save()

    def _wait_ready(self, progress: Progress) -> None:
        began = time.monotonic()
        checks = {BROKER: self._broker_is_ready, DATABASE: self._database_is_ready, SERVER: self._server_is_ready}
        for component, ready in checks.items():
            progress(f"waiting for {component}")
            service = self._services.get(component)
            if service is not None:
                service.wait_until(ready, timeout_s=120)
            elif not ready():
                raise BackendError(f"{component} does not answer; end this stack with  latencylab down")
        progress(f"stack ready after {time.monotonic() - began:.1f} s")

    def _broker_is_ready(self) -> bool:
        return accepts(int(self.state.kafka_bootstrap.rsplit(":", 1)[1]))

    def _database_is_ready(self) -> bool:
        if self._services.get(DATABASE) is not None and not accepts(
            int(self.state.mongodb_uri.rstrip("/").rsplit(":")[-1])
        ):
            return False
        settings = MongoSettings(mongodb_uri=self.state.mongodb_uri)
        with contextlib.suppress(PyMongoError):
            self.database = database.check(database.open_collection(settings))
            return True
        return False

    def _server_is_ready(self) -> bool:
        if not answers(f"{self.state.inference_url}/readyz"):
            return False
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(picture, "JPEG")
        session = requests.Session()
        session.trust_env = False
        answer = session.post(
            f"{self.state.inference_url}/predict",
            data=picture.getvalue(),
            headers={"Content-Type": "image/jpeg"},
            timeout=30,
        )
        return answer.status_code == 200 and "label" in answer.json()

    def down(self) -> None:
        """End what this object started, unless it was to be kept."""
        if self.owned and not self._keep:
            stop_all(list(self._services.values()))
            self._services.clear()
            shutil.rmtree(paths.stack(), ignore_errors=True)
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        self.owned = False
