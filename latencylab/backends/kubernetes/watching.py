"""A watch on the namespace's pods: the latest state of each, waiting for a change, and what went wrong meanwhile."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Final

from kubernetes import watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from latencylab.backends.backend import BackendError, Progress
from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster
from latencylab.backends.kubernetes.pods import Pod

_UNSCHEDULABLE_FOR_S: Final = 10.0  # volumes are bound and old pods go meanwhile
_NO_POD_FOR_S: Final = 10.0
_LOG_LINES: Final = 15


class PodWatch:
    """Follows the pods from a thread of its own. `listeners` are called there with each pod that changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pods: dict[str, Pod] = {}  # by uid
        self._changed = threading.Condition()
        self._stopped = False
        self._version = ""
        self._recorder: IncidentRecorder | None = None
        self.listeners: list[Callable[[Pod], None]] = []
        self._stream = watch.Watch()
        self._thread = threading.Thread(target=self._follow, name="pods", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stopped = True
        self._stream.stop()

    def _follow(self) -> None:
        while not self._stopped:
            with contextlib.suppress(HTTPError, ApiException, OSError, ValueError):
                listed = self._cluster.core.list_namespaced_pod(self._cluster.namespace, _preload_content=False)
                self._take_list(listed.data)
                for event in self._stream.stream(
                    self._cluster.core.list_namespaced_pod,
                    self._cluster.namespace,
                    resource_version=self._version,
                    timeout_seconds=300,
                ):
                    self._take(event["type"], event["raw_object"])
            if not self._stopped:
                time.sleep(0.5)

    def _take_list(self, data: bytes) -> None:
        listed = json.loads(data)
        self._version = listed["metadata"]["resourceVersion"]
        present = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
        for uid in set(self._pods) - set(present):
            self._take("DELETED", self._pods[uid])
        for pod in present.values():
            self._take("MODIFIED", pod)

    def _take(self, kind: str, pod: Pod) -> None:
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return
        with self._changed:
            uid = pod["metadata"]["uid"]
            if kind == "DELETED":
                pod["metadata"].setdefault("deletionTimestamp", "now")
                self._pods.pop(uid, None)
            else:
                self._pods[uid] = pod
            if self._recorder is not None:
                self._recorder.see(pod)
            self._changed.notify_all()
        for listener in self.listeners:
            listener(pod)

    def pods(self, component: str = "", generation: str = "") -> list[Pod]:
        """The pods now, by name; those of one component and of one generation if these are given."""
        with self._changed:
            found = list(self._pods.values())
        return sorted(
            (p for p in found if component in ("", pods.component(p)) and generation in ("", pods.generation(p))),
            key=pods.name,
        )

    def record(self) -> None:
        """Begin to note restarts and deletions."""
        with self._changed:
            self._recorder = IncidentRecorder(list(self._pods.values()))

    def end_record(self) -> list[str]:
        """What was noted since `record`."""
        with self._changed:
            recorder, self._recorder = self._recorder, None
        return recorder.incidents if recorder else []

    def wait_ready(self, wanted: dict[str, tuple[int, str]], timeout_s: float, progress: Progress) -> None:
        """Return when `wanted`, {component: (pods, generation)}, are ready and no others of these components are left.

        Raises `BackendError` at once for what waiting can't mend, and after `timeout_s`.
        """
        began = time.monotonic()
        stuck_since: dict[str, float] = {}
        while missing := self._missing(wanted):
            now = time.monotonic()
            for component in missing:
                self._raise_if_hopeless(component, wanted[component][1], stuck_since)
            text = "; ".join(missing.values())
            if now - began > timeout_s:
                raise BackendError(f"not ready after {timeout_s:g} s: {text}\n" + "\n".join(self._cluster.warnings()))
            if now - began > _NO_POD_FOR_S and any("no pod" in what for what in missing.values()):
                refused = [line for line in self._cluster.warnings() if "FailedCreate" in line]
                if refused:
                    raise BackendError(f"no pod could be made: {refused[-1]}")
            progress(f"waiting for {text}")
            with self._changed:
                self._changed.wait(timeout=1.0)

    def _missing(self, wanted: dict[str, tuple[int, str]]) -> dict[str, str]:
        missing = {}
        for component, (count, generation) in wanted.items():
            found = self.pods(component)
            current = [pod for pod in found if generation in ("", pods.generation(pod))]
            unready = [pods.waiting_for(pod) for pod in current if not pods.ready(pod)]
            others = [pods.waiting_for(pod) for pod in found if pod not in current and not pods.leaving(pod)]
            if len(current) < count:
                unready.append(f"{component} (no pod yet)" if not current else f"{component} ({len(current)}/{count})")
            if unready or others:
                missing[component] = ", ".join(unready + others)
        return missing

    def _raise_if_hopeless(self, component: str, generation: str, stuck_since: dict[str, float]) -> None:
        for pod in self.pods(component, generation):
            if pods.leaving(pod):
                continue
            if why := pods.hopeless(pod):
                raise BackendError(why + self._last_lines(pod))
            if looping := pods.crash_looping(pod):
                times, ended = pods.restarts(pod)[looping]
                lines = self._cluster.log(pods.name(pod), looping, previous=True, lines=_LOG_LINES)
                raise BackendError(
                    f"pod {pods.name(pod)}, container {looping} keeps ending ({times} times; {ended}); "
                    f"the end of its log:\n{lines}"
                )
            if why := pods.unschedulable(pod):
                since = stuck_since.setdefault(pods.name(pod), time.monotonic())
                if time.monotonic() - since > _UNSCHEDULABLE_FOR_S:
                    raise BackendError(f"pod {pods.name(pod)} fits on no node: {why}")

    def _last_lines(self, pod: Pod) -> str:
        if pods.phase(pod) != "Failed":
            return ""
        name = pod["spec"]["containers"][0]["name"]
        return f"; the end of its log:\n{self._cluster.log(pods.name(pod), name, lines=_LOG_LINES)}"


class IncidentRecorder:
    """Turns changes of pods into sentences: a container restarted, a pod deleted."""

    def __init__(self, present: list[Pod]) -> None:
        self._restarts: dict[str, int] = {}
        self._leaving = {pod["metadata"]["uid"] for pod in present if pods.leaving(pod)}
        self.incidents: list[str] = []
        for pod in present:
            self._note_restarts(pod, report=False)

    def see(self, pod: Pod) -> None:
        """Note what is new about `pod`."""
        self._note_restarts(pod, report=True)
        uid = pod["metadata"]["uid"]
        if pods.leaving(pod) and uid not in self._leaving:
            self._leaving.add(uid)
            if pods.phase(pod) != "Succeeded":
                self.incidents.append(f"{pods.component(pod)}: pod {pods.name(pod)} was deleted during the run")

    def _note_restarts(self, pod: Pod, report: bool) -> None:
        for name, (times, why) in pods.restarts(pod).items():
            key = f"{pod['metadata']['uid']}/{name}"
            if report and times > self._restarts.get(key, 0):
                self.incidents.append(
                    f"{pods.component(pod)}: container {name} of pod {pods.name(pod)} restarted during the run ({why})"
                )
            self._restarts[key] = max(times, self._restarts.get(key, 0))
