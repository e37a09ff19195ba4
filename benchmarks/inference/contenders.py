"""The servers in the race: how each is started, fed, watched and stopped."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.inference.environment import ROOT
from benchmarks.inference.load import Client, Target, base64_json, base64_list, raw
from latencylab.backends.processes import free_port

_START_LIMIT_S: Final = 180
_OURS: Final = "services.inference_server"


@dataclass(frozen=True)
class Contender:
    """A server: `command` from an interpreter and a port, and how it is asked."""

    name: str
    command: Callable[[str, int], list[str]]
    own_environment: bool = False
    target: Callable[[int], Target] = Target
    variables: dict[str, str] = field(default_factory=dict)


def _module(name: str) -> Callable[[str, int], list[str]]:
    return lambda python, port: [python, "-m", name]


def _bento(python: str, port: int) -> list[str]:
    service = "benchmarks.inference.servers.bento:Predictor"
    return [python, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


OURS: Final = Contender("ours", _module(_OURS))
UNBATCHED: Final = Contender("ours, unbatched", _module(_OURS), variables={"BATCH_MAX": "1"})
NAIVE: Final = Contender(
    "naive",
    _module("benchmarks.inference.servers.naive"),
    target=lambda port: Target(port, base64_json, keep_alive=False),
)
PEERS: Final = (
    Contender("BentoML", _bento, True, lambda port: Target(port, base64_list)),
    Contender("LitServe", _module("benchmarks.inference.servers.lit"), True, lambda port: Target(port, base64_json)),
    Contender("Ray Serve", _module("benchmarks.inference.servers.ray_serve"), True, lambda port: Target(port, raw)),
)


class Running:
    """A started server. Between its turns it is stopped (SIGSTOP), so that idle servers cost the others nothing."""

    def __init__(self, contender: Contender, python: str, variables: dict[str, str]) -> None:
        self.contender = contender
        port = free_port()
        self.target = contender.target(port)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "INFERENCE_HOST": "127.0.0.1",
            "INFERENCE_PORT": str(port),
            "BENTOML_DO_NOT_TRACK": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_failure_threshold": "100000",
            **variables,
            **contender.variables,
        }
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            contender.command(python, port),
            env=environment,
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.start_s = 0.0

    def wait_until_it_labels(self, jpeg: bytes) -> None:
        """Return at the first label; raise `RuntimeError` with its log's end when it does not come."""
        while time.monotonic() < self._began + _START_LIMIT_S and self._process.poll() is None:
            client = Client(self.target)
            try:
                if client.ask(jpeg)[0] == 200:
                    self.start_s = time.monotonic() - self._began
                    return
            except (OSError, ValueError):
                pass  # not listening yet, or not in JSON
            finally:
                client.close()
            time.sleep(0.1)
        self._log.seek(0)
        raise RuntimeError(f"{self.contender.name} did not start: {self._log.read()[-2000:]}")

    def _tree(self) -> list[psutil.Process]:
        """Every process of its session: some servers' workers are no children of theirs any more."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self._process.pid:
                    found.append(process)
            except (ProcessLookupError, PermissionError):
                continue
        known = {process.pid for process in found}
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        return found + [child for child in children if child.pid not in known]

    def cpu_s(self) -> float:
        """Processor seconds that its processes have used."""
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
                total += times.user + times.system
            except psutil.Error:
                continue
        return total

    def thread_cpu_s(self) -> dict[int, float]:
        """Processor seconds that each of its threads has used, by the thread's id."""
        found: dict[int, float] = {}
        for process in self._tree():
            try:
                found.update((thread.id, thread.user_time + thread.system_time) for thread in process.threads())
            except psutil.Error:
                continue
        return found

    def memory_bytes(self) -> int:
        """Its memory, pages shared between processes counted once (PSS)."""
        total = 0
        for process in self._tree():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total

    def peak_bytes(self) -> int:
        """The most resident memory that its processes have had so far (VmHWM), summed over them."""
        total = 0
        for process in self._tree():
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        return total

    def metric(self, name: str, **labels: str) -> float:
        """A sample of its /metrics; 0 when it has none such."""
        client = Client(self.target)
        try:
            text = client.get_text("/metrics")
        finally:
            client.close()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def pause(self) -> None:
        """Stop its processes until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes run."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._tree():
            try:
                process.send_signal(number)
            except psutil.Error:
                continue

    def end(self) -> None:
        """Kill its processes."""
        self._signal(signal.SIGKILL)
        self._process.wait(30)
        self._log.close()


def end_servers_on_sigterm() -> None:
    """Unwind when this process is told to end, so that no server outlives it: each is in a session of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def interpreter(contender: Contender, bench_python: Path) -> str:
    """Which Python runs it."""
    return str(bench_python) if contender.own_environment else sys.executable
