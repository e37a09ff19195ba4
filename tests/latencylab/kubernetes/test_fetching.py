import contextlib
import io
import json

import pytest

from latencylab import histograms
from latencylab.backends.kubernetes.cluster import ExecError
from latencylab.backends.kubernetes.fetching import Fetcher
from latencylab.backends.kubernetes.manifests import GENERATION
from services.contract import keeper
from services.contract.histogram import LatencyHistogram


class FakeCluster:
    """Runs the keeper on a folder of this machine; `damage` changes what the next transfers give back."""

    def __init__(self, folder):
        self.folder = folder
        self.damage = []
        self.released = False
        self.goes_at_once = False

    def run(self, pod, container, command, timeout_s=60.0):
        assert container == "collector"
        action, _, *names = command[3:]
        if action == "list":
            return json.dumps(keeper.files(self.folder))
        if action == "release":
            self.released = True
            if self.goes_at_once:
                raise ExecError("the pod has gone")
            return ""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            keeper.send(self.folder, names[0])
        return self.damage.pop(0)(out.getvalue()) if self.damage else out.getvalue()

    def log(self, pod, container, previous=False, lines=None):
        return f"{container} said\n"


def cut(text: str) -> str:
    return text[: len(text) // 2]


def lose(text: str) -> str:
    raise ExecError("the stream broke")


def make_pod(generation="g", *, leaving=True):
    metadata = {"name": "db-consumer-x", "uid": "1", "annotations": {GENERATION: generation}}
    if leaving:
        metadata["deletionTimestamp"] = "t"
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "db-consumer"}]},
        "status": {"initContainerStatuses": [{"name": "collector"}]},
    }


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "pod"
    folder.mkdir()
    (folder / "db-consumer-x-1.csv").write_text("a,b\n1,2\n")
    (folder / "db-consumer-x-1.json").write_text("{}")
    (folder / "db-consumer-x-1.hdr.json").write_text(LatencyHistogram().encode())
    return FakeCluster(folder)


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def fetcher(cluster, target):
    return Fetcher(cluster, target, "g")


def test_everything_is_fetched_before_the_pod_is_let_go(fetcher, cluster, target):
    fetcher.see(make_pod())
    fetcher.see(make_pod())
    assert fetcher.wait() == []
    names = sorted(path.name for path in (target / "consumers").iterdir())
    assert names == ["db-consumer-x-1.csv", "db-consumer-x-1.hdr.json", "db-consumer-x-1.json"]
    assert len(histograms.merged(target, "db-consumer")) == 0
    assert (target / "consumers" / "db-consumer-x-1.csv").read_text() == "a,b\n1,2\n"
    assert (target / "logs" / "db-consumer-x.log").read_text() == "db-consumer said\n"
    assert cluster.released


def test_a_pod_that_goes_while_it_is_being_released_has_lost_nothing(fetcher, cluster, target):
    cluster.goes_at_once = True
    fetcher.see(make_pod())
    assert fetcher.wait() == []
    assert (target / "consumers" / "db-consumer-x-1.csv").exists()


@pytest.mark.parametrize("damage", [cut, lose])
def test_a_damaged_transfer_is_made_again(damage, fetcher, cluster, target):
    cluster.damage = [damage, damage]
    fetcher.see(make_pod())
    assert fetcher.wait() == []
    assert (target / "consumers" / "db-consumer-x-1.csv").read_text() == "a,b\n1,2\n"


def test_a_pod_that_can_not_be_emptied_is_named_and_kept(fetcher, cluster):
    cluster.damage = [lose] * 10
    fetcher.see(make_pod())
    (failure,) = fetcher.wait()
    assert "db-consumer-x" in failure
    assert "the stream broke" in failure
    assert not cluster.released


@pytest.mark.parametrize("pod", [make_pod(leaving=False), make_pod("of another run")])
def test_other_pods_are_left_alone(pod, fetcher, cluster, target):
    fetcher.see(pod)
    assert fetcher.wait() == []
    assert not cluster.released
    assert not (target / "consumers").exists()
