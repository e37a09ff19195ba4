import json

import pytest

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import clocks
from latencylab.backends.kubernetes.cluster import ExecError

MS = 1_000_000


class FakePods:
    """Pods by component; the only thing that is asked of a watch."""

    def __init__(self, **by_component):
        self._by_component = by_component

    def pods(self, component):
        return self._by_component.get(component.replace("-", "_"), [])


class FakeCluster:
    """Each node's clock is `ahead` of the toolbox's by so many ns; an exchange takes 2 ms."""

    def __init__(self, ahead):
        self.ahead = ahead

    def run(self, pod, container, command):
        assert (pod, command[:-1]) == ("toolbox", ["python", "-m", "services.contract.timesync", "measure"])
        if command[-1] not in self.ahead:
            raise ExecError("no answer")
        there = MS + self.ahead[command[-1]]
        return json.dumps({"host": command[-1], "samples": [[0, there, there, 2 * MS]]})


def make_pod(name, node):
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"nodeName": node, "containers": [{"name": name}]},
        "status": {"podIP": f"ip of {node}", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def two_nodes(**more):
    clock_pods = [make_pod("clock-a", "a"), make_pod("clock-b", "b")]
    return FakePods(toolbox=[make_pod("toolbox", "a")], clock=clock_pods, **more)


def test_other_nodes_are_compared_with_the_toolboxs():
    (pair,) = clocks.measure(FakeCluster({"ip of b": 3 * MS}), two_nodes())
    assert (pair.asker, pair.responder, pair.offset.offset_ns) == ("a", "b", 3 * MS)
    assert pair.offset.bound_ns >= MS


def test_one_node_has_nothing_to_compare_and_nothing_against_it():
    watch = FakePods(toolbox=[make_pod("toolbox", "a")], producer=[make_pod("producer", "a")])
    assert clocks.over_run(FakeCluster({}), watch, []) == ([], [])


def test_clocks_that_agree_are_no_objection():
    cluster, watch = FakeCluster({"ip of b": MS}), two_nodes(producer=[make_pod("producer", "b")])
    pairs, reasons = clocks.over_run(cluster, watch, clocks.measure(cluster, watch))
    assert len(pairs) == 1
    assert reasons == []


def test_clocks_far_apart_are_an_objection():
    cluster, watch = FakeCluster({"ip of b": 50 * MS}), two_nodes()
    _, (reason,) = clocks.over_run(cluster, watch, clocks.measure(cluster, watch))
    assert "clocks of the nodes may be 51.0 ms apart" in reason


def test_a_node_that_stamps_without_being_compared_is_an_objection():
    watch = two_nodes(db_consumer=[make_pod("db-consumer", "c")])
    cluster = FakeCluster({"ip of b": 0})
    _, (reason,) = clocks.over_run(cluster, watch, clocks.measure(cluster, watch))
    assert reason.startswith("the clock of c was compared with no other")


def test_a_clock_pod_that_does_not_answer_is_named_before_a_run_and_objected_to_after_it():
    with pytest.raises(BackendError, match="clocks of a and b could not be compared: no answer"):
        clocks.measure(FakeCluster({}), two_nodes())
    _, (reason,) = clocks.over_run(FakeCluster({}), two_nodes(), [])
    assert "no answer" in reason
