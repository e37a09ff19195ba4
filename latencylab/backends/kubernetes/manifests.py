"""The objects of a deployment: rendered by kustomize, looked up and completed for a run."""

import base64
import copy
import hashlib
import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes.settings import ClusterSettings

Object = dict[str, Any]
"""A Kubernetes object as in JSON."""

MANAGED: Final = {"app.kubernetes.io/managed-by": "latencylab"}
"""Label of everything that a deployment makes; what carries it is ours to delete."""
BY_HAND: Final = "latencylab.io/by-hand"
"""Label of what is only for use without the suite, or a template for it."""
COLLECT: Final = "latencylab.io/collect"
"""Label of pods whose files are fetched before they go."""
COLLECTOR: Final = "collector"
"""Name of the sidecar that keeps such a pod until its files have been fetched."""
RECORDS: Final = "/data"
"""The folder with these files."""
GENERATION: Final = "latencylab.io/generation"
"""Annotation of pods that tells those of the current run or settings from those that are on their way out."""
STATE: Final = "latencylab.io/state"
"""Annotation of the namespace: what the process that wrote it was about, should it be killed meanwhile."""
MAKING: Final = "making"
MADE: Final = "made"
ENDING: Final = "ending"


def render(settings: ClusterSettings) -> list[Object]:
    """Overlay and components as objects, in the namespace and with the label of a deployment.

    Raises `BackendError` with kustomize's own words, or when kubectl is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        # kustomize takes relative paths only, and both ends must be free of symbolic links
        here = Path(folder).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": settings.namespace,
            "labels": [{"pairs": MANAGED, "includeTemplates": True}],
            "resources": [os.path.relpath(settings.overlay_folder(), here)],
            "components": [os.path.relpath(path, here) for path in settings.component_folders()],
        }
        (here / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        try:
            done = subprocess.run(["kubectl", "kustomize", str(here)], capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            raise BackendError("kubectl is not installed; it renders the manifests of k8s/") from None
    if done.returncode != 0:
        raise BackendError(f"kustomize refuses overlay {settings.overlay}: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def fingerprint(value: Any) -> str:
    """12 hex digits that change with `value`, which must be plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def deployment_secret(namespace: str) -> Object:
    """The Secret that every deployment gets anew: MongoDB's password, the URI with it, and an id."""
    password = secrets.token_urlsafe(24)
    uri = f"mongodb://latencylab:{password}@mongodb:27017/?authSource=admin"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deployment", "namespace": namespace, "labels": dict(MANAGED)},
        "stringData": {"mongodb-password": password, "mongodb-uri": uri, "id": secrets.token_hex(8)},
    }


def input_files(name: str, namespace: str, paths: list[Path]) -> Object:
    """A ConfigMap of files that producers read. Raises `BackendError` when they are too large for one (1 MiB)."""
    total = sum(path.stat().st_size for path in paths)
    if total > 700_000:
        raise BackendError(
            f"source_directory or trace_file: {total} bytes in {len(paths)} files; Kubernetes carries 700,000 to the "
            "producers' pods. Use fewer or smaller pictures, or build them into the producer's image"
        )
    content = {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "binaryData": content,
    }


class Manifests:
    """The rendered objects of one deployment; what is handed out is a copy."""

    def __init__(self, objects: list[Object]) -> None:
        self._objects = objects

    def fingerprint(self) -> str:
        """12 hex digits that change with any object."""
        return fingerprint(self._objects)

    def namespace(self, state: str) -> Object:
        """The Namespace, with its state and the fingerprint of all objects as annotations."""
        found = copy.deepcopy(next(item for item in self._objects if item["kind"] == "Namespace"))
        found["metadata"].setdefault("annotations", {}).update({GENERATION: self.fingerprint(), STATE: state})
        return found

    def get(self, kind: str, name: str) -> Object:
        """The object of that kind and name. Raises `BackendError` when the overlay has none."""
        for item in self._objects:
            if item["kind"] == kind and item["metadata"]["name"] == name:
                return copy.deepcopy(item)
        raise BackendError(f"the overlay renders no {kind} {name}; k8s/base has one")

    def at_once(self) -> list[Object]:
        """What is applied when a deployment is made: all but templates; consumers with no replica before a run."""
        chosen = []
        for item in copy.deepcopy(self._objects):
            if item["kind"] == "Namespace" or BY_HAND in item["metadata"].get("labels", {}):
                continue
            if COLLECT in pod_template(item).get("metadata", {}).get("labels", {}):
                item["spec"]["replicas"] = 0
            chosen.append(item)
        return chosen


def pod_template(item: Object) -> Object:
    """The pod template of a workload; an empty one for anything else."""
    spec = item.get("spec", {})
    template = spec.get("template", {}) if isinstance(spec, dict) else {}
    return template if isinstance(template, dict) else {}


def container(item: Object) -> Object:
    """The first container of a workload's pod template."""
    found: Object = pod_template(item)["spec"]["containers"][0]
    return found


def set_environment(item: Object, values: dict[str, str]) -> None:
    """Set environment variables of a workload's container, replacing those of the same name."""
    kept = [entry for entry in container(item).get("env", []) if entry["name"] not in values]
    container(item)["env"] = kept + [{"name": name, "value": value} for name, value in sorted(values.items())]


def set_generation(item: Object, value: str) -> None:
    """Mark the pods of a workload (`GENERATION`); a changed mark replaces them."""
    metadata = pod_template(item).setdefault("metadata", {})
    metadata.setdefault("annotations", {})[GENERATION] = value
