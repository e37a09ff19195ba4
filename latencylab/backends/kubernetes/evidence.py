"""What is known of a deployment: what runs where, for run.json; logs and events, for whoever looks for a cause."""

import json
import re
from pathlib import Path
from typing import Any

from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster, ExecError
from latencylab.backends.kubernetes.deployment import Deployment
from latencylab.backends.kubernetes.pods import Pod


def describe(deployment: Deployment, of_run: list[Pod]) -> dict[str, Any]:
    """See `latencylab.backends.backend.Backend.describe`; `of_run` are pods that may be gone."""
    running = [pod for pod in deployment.watch.pods() if pods.phase(pod) == "Running"]
    known = {pods.name(pod): pod for pod in [*of_run, *running]}
    nodes = {pod["spec"]["nodeName"]: pod for pod in running}
    caveats = []
    if len(nodes) == 1:
        caveats.append("one host: producers, broker, database, server and consumers share its processors")
    if deployment.database.get("stand_in"):
        caveats.append("stand-in database: FerretDB on SQLite, not MongoDB")
    return {
        "server": deployment.server_info,
        "database": deployment.database,
        "broker": {"name": "Apache Kafka", "version": _kafka_version(deployment.cluster)},
        "hosts": [_host(deployment.cluster, node, pod) for node, pod in sorted(nodes.items())],
        "images": {name: digest for pod in known.values() for name, digest in pods.images(pod).items()},
        "placement": {name: pod["spec"]["nodeName"] for name, pod in sorted(known.items())},
        "cluster": {"overlay": deployment.settings.overlay, "components": deployment.settings.components},
        "caveats": caveats,
    }


def _kafka_version(cluster: Cluster) -> str:
    jars = cluster.run("kafka-0", "kafka", ["ls", "/kafka/libs"])
    found = re.search(r"kafka_2\.13-(.+)\.jar", jars)
    return found.group(1) if found else "unknown"


def _host(cluster: Cluster, node: str, pod: Pod) -> dict[str, Any]:
    status = cluster.core.read_node(node).status
    command = ["sh", "-c", "grep -m1 '^model name' /proc/cpuinfo || uname -m"]
    try:
        cpu = cluster.run(pods.name(pod), pod["spec"]["containers"][0]["name"], command)
    except ExecError:
        cpu = "unknown"
    return {
        "name": node,
        "cpu": cpu.split(":", 1)[-1].strip(),
        "cores": int(status.capacity["cpu"]),
        "system": f"{status.node_info.os_image}, {status.node_info.kernel_version}, {status.node_info.kubelet_version}",
    }


def save_logs(cluster: Cluster, found: list[Pod], folder: Path) -> None:
    """One file per pod with what its main container printed, and one of the last that ended before."""
    folder.mkdir(parents=True, exist_ok=True)
    for pod in found:
        name, container = pods.name(pod), pod["spec"]["containers"][0]["name"]
        if pods.phase(pod) == "Pending":
            continue
        (folder / f"{name}.log").write_text(cluster.log(name, container))
        if pods.restarts(pod).get(container, (0, ""))[0]:
            (folder / f"{name}.before-restart.log").write_text(cluster.log(name, container, previous=True))


def save_all(cluster: Cluster, found: list[Pod], folder: Path) -> None:
    """Logs, the pods as the API has them, and the namespace's warnings."""
    save_logs(cluster, found, folder)
    (folder / "pods.json").write_text(json.dumps(found, indent=1))
    (folder / "warnings.txt").write_text("\n".join(cluster.warnings()) + "\n")
