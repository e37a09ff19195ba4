"""The long-lived part of the pipeline on a cluster: namespace, broker, database, server, toolbox."""

import atexit
import base64
import io
import signal
import threading
import time
from types import FrameType
from typing import Any, Final

from PIL import Image

from latencylab.backends.backend import BackendError, Progress, server_environment, topic_environment
from latencylab.backends.kubernetes import manifests
from latencylab.backends.kubernetes.cluster import Cluster
from latencylab.backends.kubernetes.manifests import ENDING, GENERATION, MADE, MAKING, STATE, Manifests, Object
from latencylab.backends.kubernetes.settings import ClusterSettings
from latencylab.backends.kubernetes.toolbox import Toolbox
from latencylab.backends.kubernetes.watching import PodWatch
from latencylab.experiment import Experiment

SERVER: Final = "inference-server"
_READY_TIMEOUT_S: Final = 300.0
_DELETE_TIMEOUT_S: Final = 120.0


class Deployment:
    """Makes the namespace and what is in it, or takes over what an earlier process of ours left up.

    ``keep=True`` leaves it there when this process ends.
    """

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._owned = False
        self.settings = ClusterSettings()
        self.manifests = Manifests(manifests.render(self.settings))
        self.cluster = Cluster(self.settings)
        self._watch: PodWatch | None = None
        self._toolbox: Toolbox | None = None
        self.database: dict[str, Any] = {}
        self.server_info: dict[str, Any] = {}

    @property
    def watch(self) -> PodWatch:
        """The watch on the namespace's pods, begun when first asked for."""
        if self._watch is None:
            self._watch = PodWatch(self.cluster)
        return self._watch

    @property
    def toolbox(self) -> Toolbox:
        """The line to the toolbox pod."""
        if self._toolbox is None:
            self._toolbox = Toolbox(self.cluster, self.watch)
        return self._toolbox

    def up(self, experiment: Experiment, progress: Progress) -> None:
        """Bring up what is missing and prove that all of it works."""
        began = time.monotonic()
        if not self._is_there(progress):
            self._own()
            self._make()
        server = self._server(experiment)
        self.cluster.apply(server)
        generation = manifests.pod_template(server)["metadata"]["annotations"][GENERATION]
        brokers = self.manifests.get("StatefulSet", "kafka")["spec"]["replicas"]
        self.watch.wait_ready(
            {"kafka": (brokers, ""), "mongodb": (1, ""), "toolbox": (1, ""), SERVER: (1, generation)},
            _READY_TIMEOUT_S,
            progress,
        )
        self._prove(experiment, progress)
        progress(f"pipeline ready after {time.monotonic() - began:.1f} s")

    def _is_there(self, progress: Progress) -> bool:
        """Whether the deployment that we would make is there already, complete.

        What another process was interrupted at, making it or ending it, is carried on. Raises `BackendError` when
        another deployment is there.
        """
        found = self.cluster.read_namespace()
        if found is None:
            return False
        annotations = found.metadata.annotations or {}
        if found.status.phase == "Terminating" or annotations.get(STATE) == ENDING:
            self.cluster.delete_namespace(_DELETE_TIMEOUT_S, progress)
            return False
        if annotations.get(GENERATION) != self.manifests.fingerprint():
            raise BackendError(
                f"namespace {self.settings.namespace} holds a deployment of other manifests than overlay "
                f"{self.settings.overlay} gives now: end it with  latencylab down --all"
            )
        if annotations.get(STATE) != MADE:
            self._make()
        return True

    def _own(self) -> None:
        self._owned = True
        if not self._keep:
            atexit.register(self.down)
            _exit_on_sigterm()

    def _make(self) -> None:
        self.cluster.apply(self.manifests.namespace(MAKING))
        self.cluster.create_once(manifests.deployment_secret(self.settings.namespace))
        for item in self.manifests.at_once():
            if item["metadata"]["name"] != SERVER or item["kind"] != "Deployment":
                self.cluster.apply(item)
        self.cluster.apply(self.manifests.namespace(MADE))

    def _server(self, experiment: Experiment) -> Object:
        server = self.manifests.get("Deployment", SERVER)
        wanted = server_environment(experiment)
        if not experiment.memory_budget_bytes:
            del wanted["MEMORY_BUDGET_BYTES"]  # the manifest derives it from the pod's memory limit
        manifests.set_environment(server, wanted)
        if experiment.cpu_limit:
            manifests.container(server)["resources"].setdefault("limits", {})["cpu"] = str(experiment.cpu_limit)
        manifests.set_generation(server, manifests.fingerprint(manifests.pod_template(server)))
        return server

    def _prove(self, experiment: Experiment, progress: Progress) -> None:
        progress("electing leaders of all partitions")
        self.renew_topics(experiment)
        progress("writing to MongoDB and reading it back")
        self.database = self.toolbox.ask("check_database")
        progress("labelling one picture")
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(picture, "JPEG")
        checked = self.toolbox.ask("check_inference", jpeg=base64.b64encode(picture.getvalue()).decode())
        if "label" not in checked["answer"]:
            raise BackendError(f"the inference server gave no label: {checked['answer']}")
        self.server_info = checked["info"]

    def renew_topics(self, experiment: Experiment) -> None:
        """Make the topics anew with what the experiment asks for; all their partitions have leaders then."""
        settings = {name.lower(): value for name, value in topic_environment(experiment).items()}
        self.toolbox.ask("renew_topics", settings=settings)

    def down(self) -> None:
        """Delete what `up` made, unless it is to be kept, and prove that it is gone."""
        if self._toolbox is not None:
            self._toolbox.close()
            self._toolbox = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._owned and not self._keep:
            atexit.unregister(self.down)
            self.cluster.delete_namespace(_DELETE_TIMEOUT_S, lambda text: None)
        self._owned = False

    def end(self) -> list[str]:
        """Delete this namespace if an earlier process of ours left it; what was deleted."""
        if self.cluster.read_namespace() is None:
            return []
        self.cluster.delete_namespace(_DELETE_TIMEOUT_S, lambda text: None)
        return [f"deleted namespace {self.settings.namespace}"]


def _exit_on_sigterm() -> None:
    """Let SIGTERM (a kernel that is shut down) end the process in order, so that what it made is deleted."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)
