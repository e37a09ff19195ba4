"""Ends a parent's child processes when the parent is gone, however it went (Ctrl-C, crash, kill -9).

The parent keeps a pipe to this process open and writes a line for each child's process group. The pipe closes when the
parent dies, and then every group still there gets SIGTERM and, after a grace, SIGKILL.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

GRACE_S = 10.0


class Guard:
    """The parent's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "latencylab.backends.guard"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def watch(self, pid: int) -> None:
        """End the process group `pid` should this process die."""
        self._write(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The group has ended in good order."""
        self._write(f"-{pid}\n")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def close(self) -> None:
        """Let the guard go; it ends what is still being watched."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _signal_group(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it must outlive whatever ends the parent
    groups: dict[int, None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line.startswith("+"):
            groups[pid] = None
        else:
            groups.pop(pid, None)
    left = [pid for pid in groups if _signal_group(pid, signal.SIGTERM)]
    deadline = time.monotonic() + GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [pid for pid in left if _signal_group(pid, 0)]
    for pid in left:
        _signal_group(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
