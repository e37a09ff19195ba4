"""The suite's end of the line to `services.contract.toolbox` in the cluster."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed
from websocket import WebSocketException

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster, ExecError
from latencylab.backends.kubernetes.watching import PodWatch
from services.contract.toolbox import unpack

_COMMAND: Final = ["python", "-m", "services.contract.toolbox"]
COMPONENT: Final = "toolbox"


class Toolbox:
    """Asks one question at a time; a broken stream is opened again, as every question may be asked twice."""

    def __init__(self, cluster: Cluster, watch: PodWatch) -> None:
        self._cluster = cluster
        self._watch = watch
        self._channel: Any = None

    def ask(self, do: str, timeout_s: float = 90.0, **arguments: Any) -> Any:
        """The value that action `do` returns. Raises `BackendError` with its error."""
        *_, value = self._retrying(do, timeout_s, arguments)
        return value

    def documents(self, run_id: str, timeout_s: float = 600.0) -> Iterator[dict[str, Any]]:
        """What MongoDB holds of a run."""
        for part in self._retrying("documents", timeout_s, {"run_id": run_id})[:-1]:
            yield from unpack(part)

    def close(self) -> None:
        """Let the process in the cluster end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _retrying(self, do: str, timeout_s: float, arguments: dict[str, Any]) -> list[Any]:
        for attempt in Retrying(
            retry=retry_if_exception_type(ExecError), stop=stop_after_attempt(3), wait=wait_fixed(1), reraise=True
        ):
            with attempt:
                try:
                    return self._talk({"do": do, **arguments}, timeout_s)
                except (WebSocketException, OSError, ExecError) as error:
                    self.close()
                    raise ExecError(f"toolbox, {do}: {error}") from None
        raise AssertionError("unreachable: the last attempt raises")

    def _talk(self, request: dict[str, Any], timeout_s: float) -> list[Any]:
        """The parts of the answer and, last, its value."""
        if self._channel is None or not self._channel.is_open():
            self._channel = self._cluster.open(self._pod(), COMPONENT, _COMMAND, stdin=True)
        self._channel.write_stdin(json.dumps(request) + "\n")
        deadline = time.monotonic() + timeout_s
        parts: list[Any] = []
        while True:
            line = self._channel.readline_stdout(timeout=max(0.0, deadline - time.monotonic()))
            if not line:
                raise ExecError(f"no answer within {timeout_s:g} s {self._channel.read_channel(2)}".rstrip())
            reply = json.loads(line)
            if "part" in reply:
                parts.append(reply["part"])
            elif "error" in reply:
                raise BackendError(f"{request['do']}: {reply['error']}")
            else:
                return [*parts, reply["done"]]

    def _pod(self) -> str:
        for pod in self._watch.pods(COMPONENT):
            if pods.ready(pod):
                return pods.name(pod)
        raise ExecError("no toolbox pod is ready")
