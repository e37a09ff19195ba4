"""The roles on four real machines: bare, labelled cluster, nothing changed, off again, and back."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.machines, pytest.mark.timeout(3600)]
NODES = ["vm1", "vm2", "vm3", "vm4"]


@pytest.fixture
def cluster(site):
    return site.machines


def test_the_second_run_changes_nothing(site):
    run = site.make()
    assert run.code == 0, run.output
    assert run.changed == dict.fromkeys(["localhost", *NODES], 0), run.output


def test_verify_prints_nodes_labels_and_clock_bounds(cluster):
    run = cluster.playbook("verify.yml")
    assert run.code == 0, run.output
    for number, role in enumerate(["producer", "inference", "broker", "database"], start=1):
        assert f'"vm{number}   {role.ljust(9)}  Ready  v1.34.4  10.77.0.1{number}"' in run.output
    assert "OFFSET ms  BOUND ms" in run.output
    assert "4 nodes and 0 pods are where they belong." in run.output


def test_verify_fails_on_a_wrong_label_and_the_next_run_mends_it(cluster):
    cluster.shell(1, "kubectl label node vm3 iot-role=database --overwrite")
    wrong = cluster.playbook("verify.yml")
    assert wrong.code != 0
    assert "node vm3 has iot-role=database instead of broker" in wrong.output
    mended = cluster.playbook("cluster.yml")
    assert mended.changed == {"localhost": 0, "vm1": 1, "vm2": 0, "vm3": 0, "vm4": 0}, mended.output


def test_verify_demands_pods_on_request(cluster):
    run = cluster.playbook("verify.yml", verify_need_pods=True)
    assert run.code != 0
    assert "the pipeline is not deployed" in run.output


def test_pods_talk_across_machines_and_names_resolve(cluster):
    manifest = Path(__file__).with_name("pods.yaml").read_text()
    cluster.shell(1, "kubectl apply -f - && kubectl rollout status daemonset/web --timeout=180s", manifest)
    lines = cluster.shell(
        1,
        "kubectl get pods -l app=web -o "
        "'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{\"\\n\"}{end}'",
    ).splitlines()
    pods = [line.split() for line in lines]
    assert sorted(node for _, node, _ in pods) == NODES
    for name, _, _ in pods:
        curls = "; ".join(f"curl -s -m 10 http://{address}:8080/" for _, _, address in pods)
        seen = cluster.shell(1, f"kubectl exec {name} -- sh -c '{curls}'").split()
        assert sorted(seen) == NODES
        by_name = cluster.shell(1, f"kubectl exec {name} -- curl -s -m 10 http://web.default.svc.cluster.local/")
        assert by_name.strip() in NODES
    cluster.shell(1, "kubectl delete daemonset,service web --wait")


def test_reset_takes_kubernetes_off_and_a_third_run_brings_it_back(cluster, site):
    first = cluster.playbook("reset.yml")
    assert first.code == 0, first.output
    for number in range(1, 5):
        left = cluster.shell(
            number,
            "ls -d /etc/kubernetes /var/lib/kubelet /etc/cni/net.d 2>/dev/null; command -v kubelet kubeadm kubectl;"
            " iptables-save | grep -E 'KUBE-|CNI-'; ip route | grep 10.78.; ip -br link | grep cni0; true",
        )
        assert left == "", f"vm{number} still has {left}"
    second = cluster.playbook("reset.yml")
    assert (second.code, set(second.changed.values())) == (0, {0}), second.output
    third = site.make()
    assert third.code == 0, third.output
    assert cluster.playbook("verify.yml").code == 0
