"""Processes of this machine: started with a log, asked how they are, stopped for certain."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import psutil
import requests

from latencylab.backends.backend import BackendError
from latencylab.backends.guard import Guard

_DUMP_S: Final = 0.2
_EPHEMERAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT: Final = 10_000
_given_ports: Final[deque[int]] = deque(maxlen=1000)


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses now and that was not among the last 1000 given.

    Nobody uses it yet when the next one is asked for: two services were once told the same, and the one that listened
    answered for both. It is also none of those that the system gives to connections, where there are others, since a
    connection may get it before the service listens.
    """
    for candidate in _candidates():
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in _given_ports:
            _given_ports.append(port)
            return port
    raise BackendError("no TCP port of 127.0.0.1 is free")


def _candidates() -> list[int]:
    """Ports to try; 0 is any that the system gives."""
    try:
        first_ephemeral = int(_EPHEMERAL_PORTS.read_text().split()[0])
    except OSError:  # no Linux
        return [0] * 50
    others = range(_LOWEST_PORT, first_ephemeral)
    return [*random.SystemRandom().sample(others, min(len(others), 50)), *[0] * 50]


@dataclass(frozen=True)
class Launch:
    """What is run, with which whole environment, and the files that take its output; in a session of its own."""

    command: list[str]
    environment: dict[str, str]
    log_path: Path
    working_directory: Path | None = None
    output_path: Path | None = None


class Child(Protocol):
    """A started process as `subprocess.Popen` is one to its owner."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...


def spawn(launch: Launch) -> Child:
    """Start a program from its file."""
    with contextlib.ExitStack() as files:
        log = files.enter_context(launch.log_path.open("ab"))
        output = files.enter_context(launch.output_path.open("wb")) if launch.output_path else log
        return subprocess.Popen(
            launch.command,
            env=launch.environment,
            cwd=launch.working_directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
        )


@dataclass
class Service:
    """One process: what it is called in logs, resources and errors, and how it was started.

    One that has to be killed gets `dump_signal` first, if it logs where its threads are on that.
    """

    component: str
    command: list[str]
    environment: dict[str, str]
    log_path: Path
    guard: Guard | None = None
    working_directory: Path | None = None
    output_path: Path | None = None
    start: Callable[[Launch], Child] = spawn
    dump_signal: signal.Signals | None = None
    process: Child = field(init=False)

    def __post_init__(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.touch()
        environment = {**os.environ, **self.environment}
        launch = Launch(self.command, environment, self.log_path, self.working_directory, self.output_path)
        self.process = self.start(launch)
        if self.guard is not None:
            self.guard.watch(self.pid)

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def last_lines(self, count: int = 15) -> str:
        """The end of its log, for an error message."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(f"    {line}" for line in lines[-count:])

    def check(self) -> None:
        """Raise `BackendError` with the end of the log when the process has ended."""
        if (status := self.exit_status()) is not None:
            raise BackendError(
                f"{self.component} ended with status {status}; the end of {self.log_path}:\n{self.last_lines()}"
            )

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for `ready`; raise `BackendError` if the process ends first or `timeout_s` is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise BackendError(
                    f"{self.component} is not ready after {timeout_s:.0f} s; the end of {self.log_path}:\n"
                    f"{self.last_lines()}"
                )
            time.sleep(0.05)

    def stop(self, grace_s: float = 30.0) -> bool:
        """SIGTERM, then SIGKILL to its whole process group after `grace_s`; whether it ended by itself."""
        obeyed = True
        if self.exit_status() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                obeyed = False
                if self.dump_signal is not None:
                    self._signal(self.dump_signal)
                    time.sleep(_DUMP_S)
            self._signal(signal.SIGKILL)  # also to what it started and left behind
            self.process.wait()
        if self.guard is not None:
            self.guard.forget(self.pid)
        return obeyed

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def stop_all(services: list[Service], grace_s: float = 30.0) -> list[str]:
    """Stop several at once: all get SIGTERM before the first is waited for. Returns those that had to be killed."""
    for service in services:
        if service.exit_status() is None:
            service._signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    return [service.component for service in services if not service.stop(max(0.1, deadline - time.monotonic()))]


def end_process(pid: int, created_s: float, grace_s: float = 30.0) -> None:
    """End a process that another one started, if that very process (not a later one of its number) still runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if abs(process.create_time() - created_s) > 1:
            return
        process.terminate()
        try:
            process.wait(grace_s)
        except psutil.TimeoutExpired:
            process.kill()


def answers(url: str) -> bool:
    """Whether an HTTP GET of `url` is answered with 200."""
    session = requests.Session()
    session.trust_env = False
    with contextlib.suppress(requests.RequestException), session:
        return session.get(url, timeout=2).status_code == 200
    return False


def accepts(port: int) -> bool:
    """Whether something listens on `port` of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
