"""Fetching what a consumer's pod holds, through the API, checked against the checksums made in the pod."""

import contextlib
import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from kubernetes.client.exceptions import ApiException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster, ExecError
from latencylab.backends.kubernetes.manifests import COLLECTOR, RECORDS
from latencylab.backends.kubernetes.pods import Pod
from services.contract.keeper import unpack

_KEEPER: Final = ["python", "-m", "services.contract.keeper"]


class Fetcher:
    """Empties each consumer pod that is on its way out, whoever deleted it, and then lets it go."""

    def __init__(self, cluster: Cluster, folder: Path, generation: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self._generation = generation
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="fetch")
        self._fetches: dict[str, tuple[str, Future[None]]] = {}

    def see(self, pod: Pod) -> None:
        """Begin to fetch from `pod` if it is a consumer of this run that is being deleted."""
        uid = pod["metadata"]["uid"]
        if uid in self._fetches or not pods.leaving(pod) or pods.generation(pod) != self._generation:
            return
        if any(status["name"] == COLLECTOR for status in pods.container_statuses(pod)):
            self._fetches[uid] = (pods.name(pod), self._pool.submit(self._empty, pod))

    def wait(self) -> list[str]:
        """Return when all that was begun is done; a sentence for each pod whose files could not be had."""
        failures = []
        for name, fetch in list(self._fetches.values()):
            try:
                fetch.result()
            except (ExecError, ValueError) as error:
                failures.append(f"the records of pod {name} could not be fetched: {error}")
        self._pool.shutdown()
        return failures

    def cancel(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _empty(self, pod: Pod) -> None:
        name = pods.name(pod)
        listed = self._retrying(name, [*_KEEPER, "list", RECORDS], timeout_s=130)
        for entry in json.loads(listed):
            self._fetch(name, entry["name"], entry["sha256"])
        worker = pod["spec"]["containers"][0]["name"]
        log = self._folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(self._cluster.log(name, worker))
        with contextlib.suppress(ExecError):  # the pod may go before the command's end is told; all it held is here
            self._cluster.run(name, COLLECTOR, [*_KEEPER, "release", RECORDS])

    def _fetch(self, pod: str, file: str, sha256: str) -> None:
        for attempt in self._attempts():
            with attempt:
                content = unpack(self._cluster.run(pod, COLLECTOR, [*_KEEPER, "send", RECORDS, file], timeout_s=120))
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise ValueError(f"{file}: the checksum differs from that in the pod")
                target = self._folder / "consumers" / file
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content)

    def _retrying(self, pod: str, command: list[str], timeout_s: float = 60.0) -> str:
        for attempt in self._attempts():
            with attempt:
                return self._cluster.run(pod, COLLECTOR, command, timeout_s)
        raise AssertionError("unreachable: the last attempt raises")

    @staticmethod
    def _attempts() -> Retrying:
        transient = (ExecError, ValueError, ApiException)
        return Retrying(
            retry=retry_if_exception_type(transient),
            stop=stop_after_attempt(4),
            wait=wait_exponential(multiplier=0.5),
            reraise=True,
        )
