import threading

import pytest

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import watching
from latencylab.backends.kubernetes.manifests import GENERATION
from latencylab.backends.kubernetes.watching import IncidentRecorder, PodWatch


class FakeCluster:
    """Has no pods of its own; the tests hand them to the watch."""

    namespace = "latencylab"

    def __init__(self):
        self.core = self
        self.events = []

    def list_namespaced_pod(self, namespace, **options):
        raise OSError("nothing to list")

    def warnings(self):
        return self.events

    def log(self, pod, container, previous=False, lines=None):
        return f"last words of {pod}/{container}\n"


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def watch(cluster):
    found = PodWatch(cluster)
    yield found
    found.close()


def make_pod(name="kafka-0", component="kafka", *, uid="", ready=True, generation="", restarts=0, **metadata):
    return {
        "metadata": {
            "name": name,
            "uid": uid or name,
            "labels": {"app.kubernetes.io/name": component},
            "annotations": {GENERATION: generation},
            **metadata,
        },
        "spec": {"containers": [{"name": component}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {
                    "name": component,
                    "image": "i",
                    "restartCount": restarts,
                    "state": {"running": {}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}} if restarts else {},
                }
            ],
        },
    }


def wait(watch, wanted, timeout_s=5.0):
    said: list[str] = []
    watch.wait_ready(wanted, timeout_s, said.append)
    return said


def test_waiting_ends_with_the_pod_that_was_missing(watch):
    threading.Timer(0.2, lambda: watch._take("ADDED", make_pod())).start()
    assert wait(watch, {"kafka": (1, "")})[0] == "waiting for kafka (no pod yet)"


def test_pods_of_another_generation_do_not_count_and_are_waited_out(watch):
    watch._take("ADDED", make_pod("server-old", "server", generation="a"))
    watch._take("ADDED", make_pod("server-new", "server", generation="b"))
    threading.Timer(0.2, lambda: watch._take("DELETED", make_pod("server-old", "server", generation="a"))).start()
    assert wait(watch, {"server": (1, "b")})


def test_a_missing_image_ends_the_waiting_at_once(watch):
    pod = make_pod(ready=False)
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    watch._take("ADDED", pod)
    with pytest.raises(BackendError, match=r"kafka-0.*ErrImagePull: no such image"):
        wait(watch, {"kafka": (1, "")}, timeout_s=60)


def test_a_crash_loop_ends_the_waiting_with_the_last_lines(watch):
    pod = make_pod(ready=False, restarts=3)
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    watch._take("ADDED", pod)
    with pytest.raises(BackendError, match=r"OOMKilled(.|\n)*last words of kafka-0/kafka"):
        wait(watch, {"kafka": (1, "")}, timeout_s=60)


def test_a_pod_that_fits_nowhere_ends_the_waiting_after_a_grace(watch, monkeypatch):
    monkeypatch.setattr(watching, "_UNSCHEDULABLE_FOR_S", 0.1)
    pod = make_pod(ready=False)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has the CPU"}
    pod["status"] = {"phase": "Pending", "conditions": [condition]}
    watch._take("ADDED", pod)
    with pytest.raises(BackendError, match="no node has the CPU"):
        wait(watch, {"kafka": (1, "")}, timeout_s=60)


def test_a_pod_that_may_not_be_made_ends_the_waiting_with_the_event(watch, cluster, monkeypatch):
    monkeypatch.setattr(watching, "_NO_POD_FOR_S", 0.1)
    cluster.events = ["StatefulSet kafka: FailedCreate: exceeded quota"]
    with pytest.raises(BackendError, match="exceeded quota"):
        wait(watch, {"kafka": (1, "")}, timeout_s=60)


def test_waiting_in_vain_ends_with_what_was_missing(watch):
    with pytest.raises(BackendError, match=r"not ready after 0\.2 s: kafka \(no pod yet\)"):
        wait(watch, {"kafka": (1, "")}, timeout_s=0.2)


def test_restarts_and_deletions_during_a_run_are_told_and_those_before_are_not():
    recorder = IncidentRecorder([make_pod(restarts=1), make_pod("old", deletionTimestamp="t")])
    recorder.see(make_pod(restarts=1))
    recorder.see(make_pod("old", deletionTimestamp="t"))
    assert recorder.incidents == []
    recorder.see(make_pod(restarts=2))
    recorder.see(make_pod(restarts=2))
    recorder.see(make_pod("mongodb-0", "mongodb", deletionTimestamp="t"))
    assert recorder.incidents == [
        "kafka: container kafka of pod kafka-0 restarted during the run (OOMKilled, exit status 137)",
        "mongodb: pod mongodb-0 was deleted during the run",
    ]


def test_a_pod_that_vanishes_without_notice_was_deleted(watch):
    watch._take("ADDED", make_pod())
    watch.record()
    watch._take("DELETED", make_pod())
    assert watch.end_record() == ["kafka: pod kafka-0 was deleted during the run"]
    assert watch.pods() == []


def test_listeners_see_every_change(watch):
    seen = []
    watch.listeners.append(lambda pod: seen.append(pod["metadata"]["name"]))
    watch._take("ADDED", make_pod())
    watch._take("BOOKMARK", make_pod("nothing"))
    assert seen == ["kafka-0"]
