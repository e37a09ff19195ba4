"""What a pod's status says: ready, waiting for what, or failed for good. Pods are dictionaries as in the API's JSON."""

from typing import Any, Final

from latencylab.backends.kubernetes.manifests import GENERATION

Pod = dict[str, Any]

_HOPELESS: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


def name(pod: Pod) -> str:
    """The pod's name."""
    return str(pod["metadata"]["name"])


def component(pod: Pod) -> str:
    """Which part of the pipeline it is: its label app.kubernetes.io/name."""
    return str(pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", ""))


def generation(pod: Pod) -> str:
    """The run or settings that it was made for."""
    return str(pod["metadata"].get("annotations", {}).get(GENERATION, ""))


def leaving(pod: Pod) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def phase(pod: Pod) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase", "Unknown"))


def ready(pod: Pod) -> bool:
    """Whether it passes its probes and is not being deleted."""
    conditions = pod.get("status", {}).get("conditions", [])
    passed = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return passed and not leaving(pod)


def container_statuses(pod: Pod) -> list[dict[str, Any]]:
    """Statuses of init containers and containers."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def restarts(pod: Pod) -> dict[str, tuple[int, str]]:
    """{container: (times restarted, why the last one ended)}."""
    found = {}
    for status in container_statuses(pod):
        ended = status.get("lastState", {}).get("terminated", {})
        why = f"{ended.get('reason', 'ended')}, exit status {ended.get('exitCode', 'unknown')}"
        found[status["name"]] = (int(status.get("restartCount", 0)), why)
    return found


def images(pod: Pod) -> dict[str, str]:
    """{image as it was asked for: image as it was found, with its digest}."""
    return {status["image"]: status.get("imageID", "") for status in container_statuses(pod) if status.get("imageID")}


def unschedulable(pod: Pod) -> str:
    """Why no node takes it; empty when one did or nobody has tried."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return ""


def hopeless(pod: Pod) -> str:
    """Why the pod can't come up by waiting: it names pod, container, image and reason. Empty when it may."""
    for status in container_statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        why = waiting.get("reason", "")
        if why in _HOPELESS:
            text = waiting.get("message", "")
            return f"pod {name(pod)}, container {status['name']}, image {status['image']}: {why}: {text}"
    if phase(pod) == "Failed":
        status = pod["status"]
        ended = [s["state"]["terminated"] for s in container_statuses(pod) if "terminated" in s.get("state", {})]
        codes = ", ".join(f"{e.get('reason', '')} with exit status {e['exitCode']}" for e in ended if e["exitCode"])
        return f"pod {name(pod)} failed: {codes or status.get('reason', '')} {status.get('message', '')}".rstrip()
    return ""


def crash_looping(pod: Pod) -> str:
    """The container that keeps ending, or an empty string."""
    for status in container_statuses(pod):
        if status.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff":
            return str(status["name"])
    return ""


def waiting_for(pod: Pod) -> str:
    """In a few words, what keeps the pod from being ready."""
    if leaving(pod):
        return f"{name(pod)} to go"
    if why := unschedulable(pod):
        return f"{name(pod)} ({why})"
    for status in container_statuses(pod):
        if why := status.get("state", {}).get("waiting", {}).get("reason", ""):
            return f"{name(pod)} ({status['name']}: {why})"
    return f"{name(pod)} ({'to be ready' if phase(pod) == 'Running' else phase(pod)})"
