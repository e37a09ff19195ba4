"""The connection to a cluster: which context, applying objects, commands in pods, and deleting a namespace for good."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from kubernetes import client, config, stream
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.dynamic import DynamicClient
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from latencylab.backends.backend import BackendError, Progress
from latencylab.backends.kubernetes.manifests import COLLECT, COLLECTOR, ENDING, MANAGED, RECORDS, STATE, Object
from latencylab.backends.kubernetes.settings import ClusterSettings
from services.contract.keeper import RELEASED

SELECTOR: Final = ",".join(f"{key}={value}" for key, value in MANAGED.items())
_FIELD_MANAGER: Final = "latencylab"
_MAY_PASS: Final = (0, 409, 429, 500, 502, 503, 504)  # of the API's statuses


class ExecError(RuntimeError):
    """A command in a pod failed or its stream broke; the text has what it printed."""


def configuration(context: str) -> client.Configuration:
    """The client configuration of `context`, or of the only one there is, or of the pod that this runs in.

    Raises `BackendError` when no cluster is configured, or when several contexts are and none was named.
    """
    found = client.Configuration()
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=found)
        return found
    file = os.environ.get("KUBECONFIG") or "~/.kube/config"  # the client reads the variable only when imported
    try:
        contexts = [entry["name"] for entry in config.list_kube_config_contexts(file)[0]]
        if context and context not in contexts:
            raise BackendError(f"LATENCYLAB_CONTEXT: no context {context!r}; there are: {', '.join(contexts)}")
        if not context and len(contexts) > 1:
            raise BackendError(f"set LATENCYLAB_CONTEXT to one of the {len(contexts)} contexts: {', '.join(contexts)}")
        config.load_kube_config(file, context or contexts[0], found)
    except (ConfigException, IndexError) as error:
        raise BackendError(f"no Kubernetes cluster is configured (KUBECONFIG, ~/.kube/config): {error}") from None
    found.retries = 3
    return found


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.namespace = settings.namespace
        self._configuration = configuration(settings.context)
        api = client.ApiClient(self._configuration)
        self.core: Any = client.CoreV1Api(api)  # what its models say of themselves is mostly "may be None"
        self.apps: Any = client.AppsV1Api(api)
        self.batch: Any = client.BatchV1Api(api)
        try:
            self._dynamic = DynamicClient(api)
        except (HTTPError, ApiException) as error:
            raise BackendError(f"the cluster at {self._configuration.host} does not answer: {error}") from None

    def apply(self, item: Object) -> None:
        """Create or change an object so that it is as given. Raises `BackendError` with the API's reason."""
        resource = self._dynamic.resources.get(api_version=item["apiVersion"], kind=item["kind"])
        name = item["metadata"]["name"]
        try:
            resource.server_side_apply(
                body=item,
                name=name,
                namespace=item["metadata"].get("namespace"),
                field_manager=_FIELD_MANAGER,
                force_conflicts=True,
            )
        except ApiException as error:
            raise BackendError(f"{item['kind']} {name} was refused: {reason(error)}") from None

    def create_once(self, secret: Object) -> None:
        """Create a Secret unless one of that name is there. Raises `BackendError` with the API's reason."""
        try:
            self.core.create_namespaced_secret(self.namespace, secret)
        except ApiException as error:
            if error.status != 409:
                raise BackendError(f"Secret {secret['metadata']['name']} was refused: {reason(error)}") from None

    def read_namespace(self) -> Any | None:
        """The namespace, or None. Raises `BackendError` when somebody else made it."""
        try:
            found = self.core.read_namespace(self.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise BackendError(f"namespace {self.namespace} can't be read: {reason(error)}") from None
        if any((found.metadata.labels or {}).get(key) != value for key, value in MANAGED.items()):
            raise BackendError(
                f"namespace {self.namespace} is there and was not made by latencylab, which deletes its namespace in "
                "the end: set LATENCYLAB_NAMESPACE to another name, or delete it yourself"
            )
        return found

    def run(self, pod: str, container: str, command: list[str], timeout_s: float = 60.0) -> str:
        """Standard output of a command in a container. Raises `ExecError`."""
        channel = self.open(pod, container, command)
        try:
            channel.run_forever(timeout=timeout_s)
            output, errors = channel.read_channel(1), channel.read_channel(2)
            if channel.is_open():
                raise ExecError(f"{pod}: {' '.join(command)} did not end within {timeout_s:g} s")
            status = json.loads(channel.read_channel(3) or "{}")
        except (WebSocketException, OSError, ValueError, TypeError) as error:  # the client polls a socket it has closed
            raise ExecError(f"{pod}: the stream broke: {error}") from None
        finally:
            channel.close()
        if status.get("status") != "Success":
            raise ExecError(f"{pod}: {' '.join(command)}: {errors.strip() or status.get('message', 'stream cut')}")
        return str(output)

    def open(self, pod: str, container: str, command: list[str], stdin: bool = False) -> Any:
        """A command in a container, its streams open (`kubernetes.stream.ws_client.WSClient`). Raises `ExecError`."""
        api = client.CoreV1Api(client.ApiClient(self._configuration))  # stream() changes the client it is given
        try:
            return stream.stream(
                api.connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=command,
                stdin=stdin,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
            )
        except ApiException as error:
            raise ExecError(f"{pod}: {' '.join(command)} could not be started: {reason(error)}") from None
        except (WebSocketException, OSError) as error:
            raise ExecError(f"{pod}: {' '.join(command)} could not be started: {error}") from None

    def log(self, pod: str, container: str, previous: bool = False, lines: int | None = None) -> str:
        """What a container printed, or a sentence on why that can't be had."""
        try:
            answer = self.core.read_namespaced_pod_log(
                pod, self.namespace, container=container, previous=previous, tail_lines=lines, _preload_content=False
            )
        except ApiException as error:
            return f"(no log of {pod}/{container}: {reason(error)})\n"
        return bytes(answer.data).decode("utf-8", "replace")

    def warnings(self) -> list[str]:
        """The namespace's Warning events, oldest first."""
        events = self.core.list_namespaced_event(self.namespace, field_selector="type=Warning").items
        return [f"{e.involved_object.kind} {e.involved_object.name}: {e.reason}: {e.message}" for e in events]

    def delete_namespace(self, timeout_s: float, progress: Progress) -> None:
        """Delete the namespace and our cluster-wide objects, and prove that nothing is left.

        Raises `BackendError` naming what is still there after `timeout_s`, or with the API's reason for refusing.
        """
        deadline = time.monotonic() + timeout_s
        again = Retrying(
            retry=retry_if_exception(_may_pass), stop=stop_after_delay(timeout_s), wait=wait_fixed(1), reraise=True
        )
        try:
            again(self._delete_all, deadline, progress)
        except (ApiException, HTTPError) as error:
            why = reason(error) if isinstance(error, ApiException) else error
            raise BackendError(f"namespace {self.namespace} can't be deleted: {why}") from None

    def _delete_all(self, deadline: float, progress: Progress) -> None:
        with _missing_is_fine():
            self.core.patch_namespace(self.namespace, {"metadata": {"annotations": {STATE: ENDING}}})
        # Pods first: with pods in it, a namespace is looked at again only after half of their longest grace period.
        for delete in (
            self.apps.delete_collection_namespaced_deployment,
            self.apps.delete_collection_namespaced_stateful_set,
            self.apps.delete_collection_namespaced_daemon_set,
            self.batch.delete_collection_namespaced_job,
        ):
            delete(self.namespace, propagation_policy="Background")
        while left := [pod.metadata.name for pod in self.core.list_namespaced_pod(self.namespace).items]:
            _give_up_after(deadline, left)
            progress(f"deleting {', '.join(left)[:100]}")
            self.let_go()
            self.core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=1)
            time.sleep(0.3)
        with _missing_is_fine():
            self.core.delete_namespace(self.namespace, propagation_policy="Background")
        while self._namespace_is_there():
            _give_up_after(deadline, [f"namespace {self.namespace}"])
            progress(f"deleting namespace {self.namespace}")
            time.sleep(0.3)
        for volume in self.core.list_persistent_volume(label_selector=SELECTOR).items:
            if volume.spec.claim_ref is None or volume.spec.claim_ref.namespace == self.namespace:
                with _missing_is_fine():
                    self.core.delete_persistent_volume(volume.metadata.name)
        while left := [v.metadata.name for v in self.core.list_persistent_volume(label_selector=SELECTOR).items]:
            _give_up_after(deadline, left)
            time.sleep(0.2)

    def let_go(self) -> None:
        """Give up what is in the consumers' pods: their collectors, which would hold them for minutes, end at once.

        A shorter grace period is not enough: the kubelet does not hand it on to sidecars that it has told to stop.
        """
        held = self.core.list_namespaced_pod(self.namespace, label_selector=f"{COLLECT}=true").items
        for pod in held:
            with contextlib.suppress(ExecError):  # it has not started, or is gone
                self.run(pod.metadata.name, COLLECTOR, ["touch", f"{RECORDS}/{RELEASED}"], timeout_s=10)

    def _namespace_is_there(self) -> bool:
        try:
            self.core.read_namespace(self.namespace)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True


def _may_pass(error: BaseException) -> bool:
    """Whether the API server may do next time what it did not do now."""
    return isinstance(error, HTTPError) or (isinstance(error, ApiException) and error.status in _MAY_PASS)


def _give_up_after(deadline: float, left: list[str]) -> None:
    if time.monotonic() > deadline:
        raise BackendError(f"deleted and still there: {', '.join(left)}")


def reason(error: ApiException) -> str:
    """The API's own message, in one line."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return str(json.loads(error.body or "")["message"])
    return str(error.reason).split(" -+-+- ")[0]  # a refused stream has all headers of the answer after that


@contextlib.contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise
