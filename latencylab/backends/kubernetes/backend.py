"""`latencylab.backends.backend.Backend` on a Kubernetes cluster."""

import contextlib
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from kubernetes.client.exceptions import ApiException

from latencylab import paths
from latencylab.backends.backend import BackendError, Progress, RunPlan
from latencylab.backends.kubernetes import clocks, evidence, manifests, pods
from latencylab.backends.kubernetes.cluster import SELECTOR, Cluster, reason
from latencylab.backends.kubernetes.deployment import Deployment
from latencylab.backends.kubernetes.fetching import Fetcher
from latencylab.backends.kubernetes.sampling import PodSampler
from latencylab.backends.kubernetes.settings import ClusterSettings
from latencylab.backends.resources import write_resources
from latencylab.clock_offsets import PairOffset
from latencylab.documents import write_documents
from latencylab.experiment import Experiment

log = logging.getLogger(__name__)

CONSUMERS: Final = ("db-consumer", "inference-consumer")
PRODUCER: Final = "producer"
_RUN_LABEL: Final = "latencylab.io/run"
_INPUT: Final = "/input"
_START_LINE_TIMEOUT_S: Final = 240.0
_LEAST_LEAD_S: Final = 3.0  # the start is published by a process in the cluster that connects to the broker first


class KubernetesBackend:
    """One deployment and the runs on it; ``keep=True`` leaves the deployment up for other processes."""

    name = "kubernetes"

    def __init__(self, keep: bool = False) -> None:
        self._deployment = Deployment(keep)
        self._cluster = self._deployment.cluster
        self._plan: RunPlan | None = None
        self._generation = ""
        self._folder = Path()
        self._fetcher: Fetcher | None = None
        self._sampler: PodSampler | None = None
        self._incidents: list[str] = []
        self._clocks: list[PairOffset] = []
        self._pods: list[pods.Pod] = []

    def up(self, experiment: Experiment, progress: Progress) -> None:
        try:
            self._deployment.up(experiment, progress)
        except BackendError:
            self._save_failure("up")
            raise

    def describe(self) -> dict[str, Any]:
        return evidence.describe(self._deployment, self._pods) | {"clocks": [pair.as_dict() for pair in self._clocks]}

    def prepare(self, plan: RunPlan, progress: Progress) -> None:
        self._plan = plan
        self._generation = manifests.fingerprint([plan.run_id, time.time_ns()])
        self._incidents = []
        self._clear_earlier_run()
        experiment = plan.experiment
        watch = self._deployment.watch
        self._folder = Path(tempfile.mkdtemp(prefix="latencylab-"))
        self._fetcher = Fetcher(self._cluster, self._folder, self._generation)
        watch.listeners.append(self._fetcher.see)
        self._start_producers(plan)  # they draw their frames while the rest is made ready
        progress("making the topics anew")
        self._deployment.renew_topics(experiment)
        self._deployment.toolbox.ask("empty_database")
        counts = {"db-consumer": experiment.db_consumers, "inference-consumer": experiment.inference_consumers}
        for name, count in counts.items():
            consumer = self._cluster_object("Deployment", name, plan.consumer_environment())
            consumer["spec"]["replicas"] = count
            self._cluster.apply(consumer)
        wanted = {name: (count, self._generation) for name, count in counts.items()}
        wanted[PRODUCER] = (experiment.producers, self._generation)
        watch.wait_ready(wanted, _START_LINE_TIMEOUT_S, progress)
        self._clocks = clocks.measure(self._cluster, watch)
        self._sampler = PodSampler(self._cluster)
        self._pods = watch.pods()
        for pod in self._pods:
            self._sampler.see(pod)
        watch.listeners.append(self._sampler.see)
        watch.record()

    def _cluster_object(self, kind: str, name: str, environment: dict[str, str]) -> manifests.Object:
        """A rendered workload with the run's settings and mark."""
        item = self._deployment.manifests.get(kind, name)
        manifests.set_environment(item, environment)
        manifests.set_generation(item, self._generation)
        return item

    def _start_producers(self, plan: RunPlan) -> None:
        experiment = plan.experiment
        environment = plan.producer_environment()
        job = self._cluster_object("Job", PRODUCER, environment)
        del job["metadata"]["labels"][manifests.BY_HAND]
        job["metadata"]["name"] = f"{PRODUCER}-{self._generation}"
        job["metadata"]["labels"][_RUN_LABEL] = self._generation
        job["spec"] |= {
            "suspend": True,
            "activeDeadlineSeconds": int(_START_LINE_TIMEOUT_S + experiment.duration_s + 300),
        }
        self._add_input(job, experiment)
        self._cluster.apply(job)
        scale = {"suspend": False, "parallelism": experiment.producers, "completions": experiment.producers}
        self._cluster.batch.patch_namespaced_job(job["metadata"]["name"], self._cluster.namespace, {"spec": scale})

    def _add_input(self, job: manifests.Object, experiment: Experiment) -> None:
        """Carry the files that the producers read to where they run."""
        files: list[Path] = []
        if experiment.source_directory:
            files = sorted(path for path in paths.resolve(experiment.source_directory).iterdir() if path.is_file())
            manifests.set_environment(job, {"SOURCE_DIRECTORY": _INPUT})
        if experiment.trace_file:
            trace = paths.resolve(experiment.trace_file)
            files.append(trace)
            manifests.set_environment(job, {"TRACE_FILE": f"{_INPUT}/{trace.name}"})
        if not files:
            return
        name = f"input-{self._generation}"
        carried = manifests.input_files(name, self._cluster.namespace, files)
        carried["metadata"]["labels"][_RUN_LABEL] = self._generation
        self._cluster.apply(carried)
        pod = manifests.pod_template(job)["spec"]
        pod["volumes"].append({"name": "input", "configMap": {"name": name}})
        manifests.container(job)["volumeMounts"].append({"name": "input", "mountPath": _INPUT, "readOnly": True})

    def release(self, lead_s: float) -> int:
        assert self._plan is not None
        return int(self._deployment.toolbox.ask("start", run_id=self._plan.run_id, lead_s=max(lead_s, _LEAST_LEAD_S)))

    def producers_left(self) -> int:
        assert self._plan is not None
        found = self._deployment.watch.pods(PRODUCER, self._generation)
        for pod in found:
            if why := pods.hopeless(pod):
                lines = self._cluster.log(pods.name(pod), PRODUCER, lines=15)
                raise BackendError(f"{why}; the end of its log:\n{lines}")
        if len(found) < self._plan.experiment.producers:
            raise BackendError(
                f"{self._plan.experiment.producers - len(found)} producer pods were deleted during the run"
            )
        return sum(pods.phase(pod) != "Succeeded" for pod in found)

    def lag(self) -> dict[str, int]:
        assert self._plan is not None
        return dict(self._deployment.toolbox.ask("lag", run_id=self._plan.run_id, groups=list(CONSUMERS)))

    def growing_records(self) -> Path | None:
        return None  # they lie in the pods until they are fetched

    def finish(self, folder: Path) -> None:
        assert self._plan is not None
        assert self._sampler is not None
        watch = self._deployment.watch
        self._incidents += watch.end_record()
        self._sampler.stop()
        self._clocks, objections = clocks.over_run(self._cluster, watch, self._clocks)
        self._incidents += objections
        reports = [self._producer_report(pod) for pod in watch.pods(PRODUCER, self._generation)]
        self._stop_consumers()
        (folder / "producers.json").write_text(json.dumps(reports, indent=1))
        ends = self._deployment.toolbox.ask("end_offsets")
        (folder / "broker.json").write_text(json.dumps(ends, indent=1))
        write_documents(self._deployment.toolbox.documents(self._plan.run_id), folder / "documents.parquet")
        write_resources(self._sampler.samples, folder / "resources.parquet")
        evidence.save_logs(self._cluster, watch.pods(), folder / "logs")
        for part in ("consumers", "logs"):
            (folder / part).mkdir(exist_ok=True)
            for path in sorted((self._folder / part).glob("*")):
                shutil.move(path, folder / part / path.name)
        self._end_run()

    def _producer_report(self, pod: pods.Pod) -> dict[str, Any]:
        text = self._cluster.log(pods.name(pod), PRODUCER)
        for line in reversed(text.splitlines()):
            if line.startswith("{"):
                return dict(json.loads(line))
        raise BackendError(f"pod {pods.name(pod)} left no report; the end of its log:\n{text[-2000:]}")

    def _stop_consumers(self) -> None:
        """Scale the consumers down and return when everything they held has been fetched."""
        assert self._fetcher is not None
        for name in CONSUMERS:
            self._cluster.apps.patch_namespaced_deployment(name, self._cluster.namespace, {"spec": {"replicas": 0}})
        deadline = time.monotonic() + 60
        while any(not pods.leaving(pod) for name in CONSUMERS for pod in self._deployment.watch.pods(name)):
            if time.monotonic() > deadline:
                raise BackendError("the consumers were not told to stop within 60 s of being scaled to none")
            time.sleep(0.1)
        self._incidents += self._fetcher.wait()

    def incidents(self) -> list[str]:
        return list(self._incidents)

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._save_failure(self._plan.run_id if self._plan else "run")
        with contextlib.suppress(Exception):
            self._deployment.watch.end_record()
            if self._sampler is not None:
                self._sampler.stop()
            self._clear_earlier_run()
        with contextlib.suppress(Exception):
            self._end_run()

    def _clear_earlier_run(self) -> None:
        """Remove the producers and consumers of a run that will not be finished."""
        namespace = self._cluster.namespace
        for name in CONSUMERS:
            self._cluster.apps.patch_namespaced_deployment(name, namespace, {"spec": {"replicas": 0}})
        self._delete_jobs()
        gone = f"app.kubernetes.io/name in ({', '.join((*CONSUMERS, PRODUCER))})"
        deadline = time.monotonic() + 60
        while self._cluster.core.list_namespaced_pod(namespace, label_selector=gone).items:
            self._cluster.let_go()
            self._cluster.core.delete_collection_namespaced_pod(namespace, label_selector=gone, grace_period_seconds=1)
            if time.monotonic() > deadline:
                raise BackendError("consumers and producers of an earlier run do not go away")
            time.sleep(0.3)

    def _delete_jobs(self) -> None:
        namespace = self._cluster.namespace
        self._cluster.batch.delete_collection_namespaced_job(
            namespace, label_selector=_RUN_LABEL, propagation_policy="Background"
        )
        self._cluster.core.delete_collection_namespaced_config_map(namespace, label_selector=_RUN_LABEL)

    def _end_run(self) -> None:
        watch = self._deployment.watch
        watch.listeners.clear()
        if self._fetcher is not None:
            self._fetcher.cancel()
        self._delete_jobs()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()
        self._plan, self._fetcher, self._sampler = None, None, None

    def _save_failure(self, what: str) -> None:
        folder = paths.runs() / ".failed" / f"{what.replace('/', '_')}-{time.strftime('%Y%m%dT%H%M%S')}"
        try:
            evidence.save_all(self._cluster, self._deployment.watch.pods(), folder)
        except (ApiException, OSError) as error:
            log.warning("logs and events could not be saved: %s", error)
        else:
            log.warning("logs and events are in %s", paths.shown(folder))

    def end_leftovers(self, everything: bool) -> list[str]:
        if everything:
            return end_deployments(lambda text: None)
        return self._deployment.end()

    def down(self) -> None:
        if self._plan is not None:
            self.abandon()
        self._deployment.down()


def end_deployments(progress: Progress) -> list[str]:
    """Delete every namespace on the cluster that a deployment of ours made, whoever left it; what was deleted.

    Raises `BackendError` when one of them does not go.
    """
    settings = ClusterSettings()
    cluster = Cluster(settings)
    try:
        found = [item.metadata.name for item in cluster.core.list_namespace(label_selector=SELECTOR).items]
    except ApiException as error:
        raise BackendError(f"the cluster's namespaces can't be listed: {reason(error)}") from None
    for name in found:
        Cluster(settings.model_copy(update={"namespace": name})).delete_namespace(120, progress)
    return [f"deleted namespace {name}" for name in found]
