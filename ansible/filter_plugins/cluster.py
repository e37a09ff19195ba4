"""Jinja filters that turn what kubectl answers into tables and findings: plain functions over the API's JSON."""

from collections.abc import Iterable
from typing import Any

Row = tuple[str, ...]


def table(rows: Iterable[Iterable[Any]], header: Iterable[str]) -> list[str]:
    """Lines of a table with columns as wide as they need to be."""
    lines = [tuple(header), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))


def node_rows(nodes: list[dict[str, Any]], label: str) -> list[Row]:
    """(name, role label, state, version, address) of each node."""
    return [
        (
            node["metadata"]["name"],
            node["metadata"]["labels"].get(label, "-"),
            "Ready" if _is_ready(node) else "NotReady",
            node["status"]["nodeInfo"]["kubeletVersion"],
            next((a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"), "-"),
        )
        for node in nodes
    ]


def node_faults(nodes: list[dict[str, Any]], label: str, wanted: dict[str, str]) -> list[str]:
    """What is wrong with the nodes; `wanted` is {node: role}."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    faults = [f"node {name} is not in the cluster" for name in wanted if name not in by_name]
    faults += [f"node {name} is in the cluster but not in the inventory" for name in by_name if name not in wanted]
    for name, node in by_name.items():
        if not _is_ready(node):
            faults.append(f"node {name} is not Ready")
        found = node["metadata"]["labels"].get(label)
        if name in wanted and found != wanted[name]:
            faults.append(f"node {name} has {label}={found} instead of {wanted[name]}")
    return faults


def pod_rows(pods: list[dict[str, Any]]) -> list[Row]:
    """(name, node, phase, restarts) of each pod."""
    return [
        (
            pod["metadata"]["name"],
            pod["spec"].get("nodeName", "-"),
            pod["status"].get("phase", "-"),
            str(sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))),
        )
        for pod in pods
    ]


def pod_faults(pods: list[dict[str, Any]], placement: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Pods on the wrong machine or not running; `placement` is {component: role or any}, `wanted` {node: role}."""
    faults = []
    for pod in pods:
        name = pod["metadata"]["name"]
        component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", "")
        node = pod["spec"].get("nodeName")
        role = placement.get(component)
        if role is None:
            faults.append(
                f"pod {name} has the label app.kubernetes.io/name={component or 'nothing'}, which has no place"
            )
        elif node is None:
            faults.append(f"pod {name} is on no node yet")
        elif role not in ("any", wanted.get(node)):
            faults.append(f"pod {name} is on {node} ({wanted.get(node)}) instead of the machine of {role}")
        if pod["status"].get("phase") not in ("Running", "Succeeded"):
            faults.append(f"pod {name} is {pod['status'].get('phase')}")
    return faults


class FilterModule:
    """What Ansible looks for in a filter plugin."""

    def filters(self) -> dict[str, Any]:
        return {f.__name__: f for f in (table, node_rows, node_faults, pod_rows, pod_faults)}
