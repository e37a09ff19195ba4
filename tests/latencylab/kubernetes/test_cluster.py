import pytest
import yaml

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes.cluster import Cluster, configuration
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
