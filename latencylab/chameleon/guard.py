"""Nothing outlives the process that made it: a watcher in a process of its own tears down when this one ends.

The watcher holds the reading end of a pipe whose writing end only this process has. However this process ends
(return, exception, Ctrl-C, kernel shutdown, SIGKILL) the pipe closes, and the watcher, which is in a session of its own
and so hears no Ctrl-C, removes what belongs to the prefix. `Guard.keep` tells it not to.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from latencylab.chameleon.lease import LeaseDesk, connect
from latencylab.chameleon.teardown import Teardown

_KEEP: Final = b"keep"
_READY: Final = "watching"
_LATE_S: Final = 5.0


class Guard:
    """While entered, everything of `prefix` in `cloud` goes when this process does; on leaving, it goes too.

    Leaving waits for the removal; it raises `RuntimeError` with the watcher's log when something is left.
    """

    def __init__(self, cloud: str, prefix: str, state: Path) -> None:
        self._command = [sys.executable, "-m", "latencylab.chameleon.guard", cloud, prefix, str(state)]
        self.log = state / "teardown.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Guard":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        while _READY not in self.log.read_text():
            if self._process.poll() is not None:
                raise RuntimeError(f"the teardown watcher did not start: {self.log.read_text().strip()}")
            time.sleep(0.05)
        return self

    def keep(self) -> None:
        """Leave everything running when this process ends; the lease still ends by itself."""
        self._finish(_KEEP)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(b"")

    def _finish(self, word: bytes) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.communicate(word)
        if process.returncode != 0:
            raise RuntimeError(f"teardown failed; run it again (ansible-playbook teardown.yml): {self.log.read_text()}")


def watch(pipe: int, tear_down: Callable[[], object]) -> bool:
    """Wait until `pipe`, a file descriptor, closes; then tear down unless it said otherwise. Returns whether it did."""
    said = b""
    while chunk := os.read(pipe, 64):
        said += chunk
    if said == _KEEP:
        return False
    tear_down()
    return True


def main() -> None:
    cloud, prefix, state = sys.argv[1:]
    connection = connect(cloud)
    teardown = Teardown(connection, LeaseDesk(connection, Path(state)), prefix)
    teardown.find()  # credentials and network work: better known now than when it counts
    print(_READY, flush=True)

    def tear_down() -> None:
        teardown.run(report=lambda line: print(line, flush=True))
        time.sleep(_LATE_S)  # a request that was under way when the process died may have been answered meanwhile
        teardown.run(report=lambda line: print(line, flush=True))

    watch(sys.stdin.fileno(), tear_down)


if __name__ == "__main__":
    main()
