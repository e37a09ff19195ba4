"""How far the clocks of the cluster's nodes are apart: the toolbox asks the clock pod of every other node."""

import json
from typing import Final

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster, ExecError
from latencylab.backends.kubernetes.pods import Pod
from latencylab.backends.kubernetes.watching import PodWatch
from latencylab.clock_offsets import ClockSampleError, PairOffset, estimate, pairs_over_run, uncertainty_ns
from latencylab.validity import MAX_CLOCK_DRIFT_NS

_ASK: Final = ["python", "-m", "services.contract.timesync", "measure"]
_STAMPING: Final = ("producer", "db-consumer", "inference-consumer")


def measure(cluster: Cluster, watch: PodWatch) -> list[PairOffset]:
    """The toolbox's node against each other node that has a clock pod. Raises `BackendError`."""
    toolbox = _toolbox(watch)
    here = toolbox["spec"]["nodeName"]
    found = []
    for pod in watch.pods("clock"):
        node = pod["spec"].get("nodeName", here)
        if node == here or not pods.ready(pod):
            continue
        try:
            answer = cluster.run(pods.name(toolbox), "toolbox", [*_ASK, pod["status"]["podIP"]])
            found.append(PairOffset(here, node, estimate(map(tuple, json.loads(answer)["samples"]))))
        except (ExecError, ClockSampleError) as error:
            raise BackendError(f"the clocks of {here} and {node} could not be compared: {error}") from None
    return found


def over_run(cluster: Cluster, watch: PodWatch, before: list[PairOffset]) -> tuple[list[PairOffset], list[str]]:
    """The offsets that hold for a whole run, from those before it and a measurement now; and why they speak against
    the run: not known where stamps were made, or too far apart."""
    try:
        pairs = pairs_over_run(before, measure(cluster, watch))
    except (BackendError, ClockSampleError) as error:
        return before, [str(error)]
    toolbox = _toolbox(watch)
    compared = {toolbox["spec"]["nodeName"], *(pair.responder for pair in pairs)}
    stamping = {pod["spec"]["nodeName"] for name in _STAMPING for pod in watch.pods(name) if "nodeName" in pod["spec"]}
    reasons = []
    if alone := sorted(stamping - compared):
        reasons.append(
            f"the clock of {', '.join(alone)} was compared with no other: add the component clocks "
            "(LATENCYLAB_COMPONENTS=clocks)"
        )
    if (uncertainty := uncertainty_ns(pairs)) > MAX_CLOCK_DRIFT_NS:
        reasons.append(f"clocks of the nodes may be {uncertainty / 1e6:.1f} ms apart (limit 5 ms)")
    return pairs, reasons


def _toolbox(watch: PodWatch) -> Pod:
    for pod in watch.pods("toolbox"):
        if pods.ready(pod):
            return pod
    raise BackendError("no toolbox pod is ready")
