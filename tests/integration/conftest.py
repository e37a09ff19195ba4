"""One real stack for all integration tests: Kafka, a MongoDB-protocol server and the TensorFlow server."""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latencylab.backends.local import LocalBackend
from latencylab.experiment import Experiment
from latencylab.measurement import measure
from latencylab.request import Request
from latencylab.runs import Run, RunName

SERVER = {"batch_max": 2}  # fewer batch sizes to warm up


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


class ActingBackend(LocalBackend):
    """The local backend with one thing that happens while the load is on."""

    action: Callable[[], None] | None = None
    after_s: float = 0.0

    def release(self, lead_s: float) -> int:
        start_at_ns = super().release(lead_s)
        if self.action is not None:
            threading.Timer(lead_s + self.after_s, self.action).start()
            self.action = None
        return start_at_ns

    def process(self, component: str) -> Any:
        """The running process of a component of the stack or of the run."""
        return {**self._stack._services, **self._consumers, **self._producers}[component].process


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder of the tests' own, so that a stack of the user's is left alone."""
    folder = tmp_path_factory.mktemp("data")
    before = os.environ.get("LATENCYLAB_DATA")
    os.environ["LATENCYLAB_DATA"] = str(folder)
    yield folder
    if before is None:
        del os.environ["LATENCYLAB_DATA"]
    else:
        os.environ["LATENCYLAB_DATA"] = before


@pytest.fixture(scope="session")
def backend(data: Path) -> Iterator[ActingBackend]:
    """The stack, up."""
    running = ActingBackend()
    try:
        running.up(Experiment.parse(SERVER), print)
        yield running
    finally:
        running.down()


_numbers = itertools.count(1)


@pytest.fixture
def measured(backend: ActingBackend, data: Path, request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Measure an experiment; optionally call ``action`` some seconds after the start of the load."""

    def run(action: Callable[[], None] | None = None, after_s: float = 0.0, **parameters: Any) -> Run:
        experiment = Experiment.parse(SERVER | parameters)
        name = RunName("tests", "".join(c if c.isalnum() else "-" for c in request.node.name), next(_numbers))
        backend.up(experiment, print)  # restarts the server if this experiment needs other settings
        backend.action, backend.after_s = action, after_s
        return measure(Request(name, experiment, root=data / "runs"), backend, print)

    return run
