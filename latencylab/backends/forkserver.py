"""Python programs forked from one process that has imported them: eight producers cost one import, not eight.

A program started here is the one that ``python -m MODULE`` starts: the same module, run as ``__main__``, in its own
process group with its own environment and files, and it ends as an interpreter does. (`multiprocessing` has a fork
server as well, but it imports its owner's main script again in every child.)
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self

from latencylab.backends.backend import BackendError
from latencylab.backends.processes import Launch

PRELOADED: Final = ("services.producer.main", "services.db_consumer.main", "services.inference_consumer.main")
"""What a fork server imports once; none of these starts a thread by being imported."""

_TURN_S: Final = 0.1


class ForkServer:
    """The owner's end: one line of JSON per program asked for, one back per start and per end.

    It ends with its owner, who has to end the programs (`latencylab.backends.guard`).
    """

    _shared: "Self | None" = None

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "latencylab.backends.forkserver", *PRELOADED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._unread = b""
        self._started: list[int] = []
        self._ended: dict[int, int] = {}

    @classmethod
    def shared(cls) -> Self:
        """This process' fork server, started now unless it runs already; it imports beside what is done next."""
        if cls._shared is None or cls._shared._process.poll() is not None:
            cls._shared = cls()
        return cls._shared

    def start(self, launch: Launch) -> "ForkedProcess":
        """Fork one process for ``[python, "-m", MODULE, ARGUMENTS...]``. Raises `BackendError`."""
        _, _, *program = launch.command
        files = (launch.log_path, launch.working_directory, launch.output_path)
        asked = [program, launch.environment, *(str(path.absolute()) if path else None for path in files)]
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
            try:
                self._await_start()
            except KeyboardInterrupt:  # nobody would know what was asked for, and its owner may live on
                self._await_start()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._started.pop(), signal.SIGKILL)
                raise
            return ForkedProcess(self, self._started.pop())

    def _await_start(self) -> None:
        while not self._started:
            self._read(None)

    def status(self, pid: int, timeout_s: float | None = 0.0) -> int | None:
        """The exit status of a program, or None when it still runs after `timeout_s` (None: however long)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = _TURN_S if deadline is None else deadline - time.monotonic()
            with self._lock:  # for a moment only: another thread may be starting a program or asking for one
                if pid not in self._ended:
                    self._read(min(max(0.0, left_s), _TURN_S))
                if pid in self._ended or left_s <= 0:
                    return self._ended.get(pid)

    def _read(self, timeout_s: float | None) -> None:
        """Take in what is answered within `timeout_s` (None: however long)."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return
        received = os.read(self._process.stdout.fileno(), 65536)
        if not received:
            raise BackendError("the process that starts producers and consumers has ended")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for pid, status in map(json.loads, lines):
            if status is None:
                self._started.append(pid)
            else:
                self._ended[pid] = status


@dataclass(frozen=True)
class ForkedProcess:
    """To its owner like `subprocess.Popen`: `pid`, `poll`, `wait`, `send_signal`."""

    server: ForkServer
    pid: int

    def poll(self) -> int | None:
        """The exit status, or None while it runs; minus the signal's number when one ended it."""
        return self.server.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        status = self.server.status(self.pid, timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(launch: Launch) -> ForkedProcess:
    """Start a program from this process' fork server; takes the place of `latencylab.backends.processes.spawn`."""
    return ForkServer.shared().start(launch)


def serve() -> list[Any] | None:
    """Fork what the lines on standard input ask for; returns what to run in a child, None in the server at the end."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    unread = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _report_ends()
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                return None
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    os.setpgid(0, 0)  # here and there, since either may come first
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(wake_read)
                    os.close(wake_write)
                    return list(json.loads(line))
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already
                    os.setpgid(pid, pid)  # before its owner hears of it, and may send its group a signal
                _answer(pid, None)


def _report_ends() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            _answer(ended[0], os.waitstatus_to_exitcode(ended[1]))
    except ChildProcessError:
        pass


def _answer(pid: int, status: int | None) -> None:
    os.write(1, json.dumps([pid, status]).encode() + b"\n")


def become(asked: list[Any]) -> None:
    """Turn this child into the program that was asked for, up to its first line."""
    (module, *arguments), environment, log_path, working_directory, output_path = asked
    with open(os.devnull, "rb") as nothing, Path(log_path).open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if output_path:
        with Path(output_path).open("wb") as output:
            os.dup2(output.fileno(), 1)
    os.environ.clear()
    os.environ.update(environment)
    if working_directory:
        os.chdir(working_directory)
    sys.path[0] = os.getcwd()
    sys.argv = [module, *arguments]


def main(preloaded: Sequence[str]) -> None:
    for name in preloaded:
        import_module(name)
    gc.freeze()  # nothing of this is garbage: no child need look through it, in its run or at its end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its owner decides when it ends
    asked = serve()
    if asked is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        become(asked)
        runpy.run_module(asked[0][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
