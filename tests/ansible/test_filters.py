from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest


def load(name: str):
    path = Path(__file__).parents[2] / "ansible" / "filter_plugins" / f"{name}.py"
    return SourceFileLoader(f"filter_{name}", str(path)).load_module()


cluster = load("cluster")
clock = load("clock")
WANTED = {"vm1": "producer", "vm3": "broker"}
PLACEMENT = {"producer": "producer", "kafka": "broker", "clock": "any"}


def node(name: str, role: str | None, ready: str = "True") -> dict:
    return {
        "metadata": {"name": name, "labels": {"iot-role": role} if role else {}},
        "status": {
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
            "nodeInfo": {"kubeletVersion": "v1.34.4"},
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "192.0.2.1"}],
        },
    }


def pod(component: str, node_name: str | None, phase: str = "Running") -> dict:
    spec = {"nodeName": node_name} if node_name else {}
    status = {"phase": phase, "containerStatuses": [{"restartCount": 2}, {"restartCount": 1}]}
    return {
        "metadata": {"name": f"{component}-0", "labels": {"app.kubernetes.io/name": component}},
        "spec": spec,
        "status": status,
    }


def test_a_cluster_in_order_has_no_faults():
    nodes = [node("vm1", "producer"), node("vm3", "broker")]
    assert cluster.node_faults(nodes, "iot-role", WANTED) == []
    assert (
        cluster.pod_faults(
            [pod("producer", "vm1", "Succeeded"), pod("kafka", "vm3"), pod("clock", "vm3")], PLACEMENT, WANTED
        )
        == []
    )


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        ([node("vm1", "producer")], "node vm3 is not in the cluster"),
        ([node("vm1", "producer"), node("vm3", "broker"), node("vm9", None)], "node vm9 is in the cluster but not in"),
        ([node("vm1", "producer"), node("vm3", "broker", "Unknown")], "node vm3 is not Ready"),
        ([node("vm1", "producer"), node("vm3", None)], "node vm3 has iot-role=None instead of broker"),
    ],
)
def test_faults_of_nodes_are_named(nodes, fault):
    faults = cluster.node_faults(nodes, "iot-role", WANTED)
    assert any(found.startswith(fault) for found in faults), faults


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (pod("kafka", "vm1"), "pod kafka-0 is on vm1 (producer) instead of the machine of broker"),
        (pod("kafka", None, "Pending"), "pod kafka-0 is on no node yet"),
        (pod("kafka", "vm3", "Failed"), "pod kafka-0 is Failed"),
        (pod("stranger", "vm3"), "pod stranger-0 has the label app.kubernetes.io/name=stranger, which has no place"),
    ],
)
def test_faults_of_pods_are_named(wrong, fault):
    assert fault in cluster.pod_faults([wrong], PLACEMENT, WANTED)


def test_tables_are_aligned():
    rows = cluster.node_rows([node("vm1", "producer"), node("vm3-long", None, "False")], "iot-role")
    assert cluster.table(rows, ["NODE", "ROLE", "STATE", "VERSION", "ADDRESS"]) == [
        "NODE      ROLE      STATE     VERSION  ADDRESS",
        "vm1       producer  Ready     v1.34.4  192.0.2.1",
        "vm3-long  -         NotReady  v1.34.4  192.0.2.1",
    ]
    assert cluster.pod_rows([pod("kafka", None)]) == [("kafka-0", "-", "Running", "3")]


def test_the_clock_filter_takes_what_the_program_prints():
    assert clock.clock_offset([[1000, 1510, 1520, 1030]]) == {"offset_ns": 500, "bound_ns": 11}
