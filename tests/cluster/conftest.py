"""The cluster that KUBECONFIG names, with the overlay that LATENCYLAB_OVERLAY names."""

import os
import warnings

import pytest
from kubernetes.client.exceptions import ApiException

from latencylab.backends.kubernetes import KubernetesBackend
from latencylab.backends.kubernetes.cluster import Cluster
from latencylab.backends.kubernetes.settings import ClusterSettings
from latencylab.experiment import Experiment

WHY_NOT = (
    "NO TEST RAN ON KUBERNETES: KUBECONFIG is not set. With onenode beside the project, `.ci/cluster run pytest "
    "tests/cluster` starts a cluster for them; with a cluster of your own, set KUBECONFIG and LATENCYLAB_OVERLAY."
)


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory, monkeypatch):
    """Runs of the tests stay out of the project's data."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("LATENCYLAB_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def settings() -> ClusterSettings:
    if "KUBECONFIG" not in os.environ:
        warnings.warn(WHY_NOT, stacklevel=1)
        pytest.skip(WHY_NOT)
    return ClusterSettings()


@pytest.fixture(scope="session")
def cluster(settings) -> Cluster:
    return Cluster(settings)


@pytest.fixture
def experiment() -> Experiment:
    """Small, and random weights: a cluster need not have others."""
    return Experiment(backend="kubernetes", weights="random", duration_s=8, drain_timeout_s=180, producers=2)


@pytest.fixture(scope="module")
def backend(settings):
    """A deployment that the tests of a module share."""
    found = KubernetesBackend()
    try:
        found.up(Experiment(backend="kubernetes", weights="random"), print)
        yield found
    finally:
        found.down()


@pytest.fixture
def nothing_left(cluster):
    """nothing_left(): asserts that neither the namespace nor a cluster-wide object of ours is there."""

    def check() -> None:
        with pytest.raises(ApiException) as found:
            cluster.core.read_namespace(cluster.namespace)
        assert found.value.status == 404
        volumes = cluster.core.list_persistent_volume(label_selector="app.kubernetes.io/managed-by=latencylab")
        assert volumes.items == []

    return check
