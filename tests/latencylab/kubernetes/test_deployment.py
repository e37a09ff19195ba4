"""What an interrupted process left of a deployment is carried on, not taken for a whole one."""

from types import SimpleNamespace

import pytest

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes.deployment import Deployment
from latencylab.backends.kubernetes.manifests import ENDING, GENERATION, MADE, MAKING, STATE


class FakeCluster:
    """Has a namespace in a state, and notes what is done to it."""

    def __init__(self, state, phase="Active", generation="ours"):
        metadata = SimpleNamespace(annotations={GENERATION: generation, STATE: state})
        self.found = SimpleNamespace(metadata=metadata, status=SimpleNamespace(phase=phase))
        self.done = []

    def read_namespace(self):
        return self.found

    def delete_namespace(self, timeout_s, progress):
        self.done.append("deleted")

    def apply(self, item):
        self.done.append(item)

    def create_once(self, secret):
        self.done.append(secret["metadata"]["name"])


class FakeManifests:
    def fingerprint(self):
        return "ours"

    def namespace(self, state):
        return f"namespace {state}"

    def at_once(self):
        return [{"kind": "StatefulSet", "metadata": {"name": "kafka"}}]


def deployment(cluster):
    found = object.__new__(Deployment)
    found.cluster, found.manifests = cluster, FakeManifests()
    found.settings = SimpleNamespace(namespace="lab", overlay="minikube")
    return found


def test_a_whole_deployment_is_used_as_it_is():
    cluster = FakeCluster(MADE)
    assert deployment(cluster)._is_there(print)
    assert cluster.done == []


def test_one_that_was_interrupted_while_being_made_is_completed():
    cluster = FakeCluster(MAKING)
    assert deployment(cluster)._is_there(print)
    kafka = {"kind": "StatefulSet", "metadata": {"name": "kafka"}}
    assert cluster.done == [f"namespace {MAKING}", "deployment", kafka, f"namespace {MADE}"]


@pytest.mark.parametrize(("state", "phase"), [(ENDING, "Active"), (MADE, "Terminating")])
def test_one_that_was_being_deleted_is_deleted_and_not_used(state, phase):
    cluster = FakeCluster(state, phase)
    assert not deployment(cluster)._is_there(print)
    assert cluster.done == ["deleted"]


def test_one_of_other_manifests_is_left_alone():
    cluster = FakeCluster(MADE, generation="theirs")
    with pytest.raises(BackendError, match="end it with  latencylab down --all"):
        deployment(cluster)._is_there(print)
    assert cluster.done == []
