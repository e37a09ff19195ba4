from types import SimpleNamespace

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes.cluster import Cluster, configuration
from latencylab.backends.kubernetes.manifests import ENDING, STATE
from latencylab.backends.kubernetes.settings import ClusterSettings


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """kubeconfig(CONTEXT...): KUBECONFIG names a file with these; nothing listens at their servers."""

    def write(*contexts: str) -> None:
        path = tmp_path / "kubeconfig"
        clusters = [
            {"name": name, "cluster": {"server": f"https://127.0.0.1:{number}"}}
            for number, name in enumerate(contexts, start=1)
        ]
        bound = [{"name": name, "context": {"cluster": name, "user": "me"}} for name in contexts]
        users = [{"name": "me", "user": {"token": "none"}}]
        document = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": bound, "users": users}
        path.write_text(yaml.safe_dump(document | {"current-context": contexts[0] if contexts else ""}))
        monkeypatch.setenv("KUBECONFIG", str(path))

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return write


def test_the_only_context_needs_no_name(kubeconfig):
    kubeconfig("one")
    assert configuration("").host == "https://127.0.0.1:1"


def test_one_of_several_contexts_must_be_named(kubeconfig):
    kubeconfig("prod", "lab")
    with pytest.raises(BackendError, match=r"LATENCYLAB_CONTEXT.*prod, lab"):
        configuration("")
    assert configuration("lab").host == "https://127.0.0.1:2"


def test_an_unknown_context_is_refused_with_those_there_are(kubeconfig):
    kubeconfig("lab")
    with pytest.raises(BackendError, match=r"'lba'.*lab"):
        configuration("lba")


def test_no_cluster_at_all_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(BackendError, match="no Kubernetes cluster is configured"):
        configuration("")


def test_a_cluster_that_does_not_answer_is_named(kubeconfig):
    kubeconfig("lab")
    with pytest.raises(BackendError, match=r"https://127\.0\.0\.1:1 does not answer"):
        Cluster(ClusterSettings())


class EndingApi:
    """The part of the API that a deletion uses: one pod, and an API server that is overloaded now and then."""

    def __init__(self, failures):
        self.failures = list(failures)
        self.annotations = {}
        self.pods, self.there = ["kafka-0"], True

    def __getattr__(self, name):
        return lambda *arguments, **options: SimpleNamespace(items=[])

    def patch_namespace(self, name, body):
        self.annotations |= body["metadata"]["annotations"]

    def list_namespaced_pod(self, namespace, label_selector=None):
        return SimpleNamespace(items=[SimpleNamespace(metadata=SimpleNamespace(name=n)) for n in self.pods])

    def delete_collection_namespaced_pod(self, namespace, **options):
        if self.failures:
            raise ApiException(status=self.failures.pop(0), reason="try later")
        self.pods = []

    def delete_namespace(self, name, **options):
        self.there = False

    def read_namespace(self, name):
        if not self.there:
            raise ApiException(status=404)


@pytest.fixture
def ending(monkeypatch):
    """ending(FAILURES): a cluster whose API server fails so often, with these statuses, while pods are deleted."""

    def make(*failures: int) -> tuple[Cluster, EndingApi]:
        api = EndingApi(failures)
        found = object.__new__(Cluster)
        found.namespace, found.core, found.apps, found.batch = "lab", api, api, api
        monkeypatch.setattr(found, "let_go", lambda: None)
        return found, api

    return make


def test_a_deletion_outlives_an_overloaded_api_server(ending):
    cluster, api = ending(500, 429)
    cluster.delete_namespace(30, print)
    assert not api.there
    assert api.annotations == {STATE: ENDING}


def test_a_refused_deletion_ends_with_the_reason(ending):
    cluster, api = ending(403)
    with pytest.raises(BackendError, match="lab can't be deleted: try later"):
        cluster.delete_namespace(30, print)
    assert api.there
