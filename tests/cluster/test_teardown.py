"""Nothing is left, however a session ends; and what can't come up says why."""

import os
import signal
import subprocess
import sys
import time

import pytest

from latencylab import paths
from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import KubernetesBackend

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def session(settings, data_folder):
    """session(ARGUMENTS): `latencylab ARGUMENTS` in a process of its own, in a process group of its own."""
    running = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "latencylab", *arguments]
        process = subprocess.Popen(command, cwd=paths.ROOT, env=os.environ, start_new_session=True)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_pod(cluster, component, timeout_s=240):
    deadline = time.monotonic() + timeout_s
    selector = f"app.kubernetes.io/name={component}"
    while time.monotonic() < deadline:
        items = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
        if any(pod.status.phase == "Running" for pod in items):
            return
        time.sleep(0.5)
    raise AssertionError(f"no pod of {component} ran within {timeout_s} s")


def test_ctrl_c_in_a_run_leaves_nothing(session, cluster, nothing_left):
    process = session("run", "-p", "backend=kubernetes", "-p", "weights=random", "-p", "duration_s=120")
    wait_for_pod(cluster, "producer")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=180) != 0
    nothing_left()


def test_sigterm_leaves_nothing(session, cluster, nothing_left):
    process = session("run", "-p", "backend=kubernetes", "-p", "weights=random", "-p", "duration_s=120")
    wait_for_pod(cluster, "kafka")
    process.terminate()
    assert process.wait(timeout=180) != 0
    nothing_left()


def test_what_a_killed_process_left_is_found_by_its_label(session, cluster, nothing_left):
    process = session("run", "-p", "backend=kubernetes", "-p", "weights=random", "-p", "duration_s=120")
    wait_for_pod(cluster, "kafka")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ended = session("down", "--backend", "kubernetes", "--all")
    assert ended.wait(timeout=180) == 0
    nothing_left()


def test_a_broken_image_name_ends_at_once_with_pod_image_and_reason(
    settings, experiment, tmp_path, monkeypatch, nothing_left
):
    relative = os.path.relpath(settings.overlay_folder(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{relative}]\nimages: [{{name: localhost/latencylab/kafka, newTag: 99.0.0}}]\n"
    )
    monkeypatch.setenv("LATENCYLAB_OVERLAY", str(tmp_path))
    backend = KubernetesBackend()
    began = time.monotonic()
    try:
        with pytest.raises(BackendError, match=r"kafka-0.*kafka:99\.0\.0.*(ErrImage|ImagePull)"):
            backend.up(experiment, print)
        print(f"refused after {time.monotonic() - began:.1f} s")
    finally:
        backend.down()
    nothing_left()


def test_a_namespace_of_somebody_else_is_left_alone(settings, experiment, cluster, monkeypatch):
    monkeypatch.setenv("LATENCYLAB_NAMESPACE", "not-ours")
    cluster.core.create_namespace({"metadata": {"name": "not-ours"}})
    try:
        backend = KubernetesBackend()
        with pytest.raises(BackendError, match=r"not-ours.*not made by latencylab"):
            backend.up(experiment, print)
        backend.down()
        with pytest.raises(BackendError, match=r"not-ours.*not made by latencylab"):
            backend.end_leftovers(everything=False)
        assert cluster.core.read_namespace("not-ours").status.phase == "Active"
    finally:
        cluster.core.delete_namespace("not-ours")
