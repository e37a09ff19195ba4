"""Whole runs on a cluster, undisturbed and disturbed."""

import json
import threading

import pytest

from latencylab import histograms
from latencylab.collect import consumer_reports
from latencylab.measurement import measure
from latencylab.request import Request
from latencylab.runs import RunName

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def record(backend, data_folder):
    """record(EXPERIMENT): measure it once."""

    def run(experiment):
        backend.up(experiment, print)
        request = Request(RunName("cluster", "point", 1), experiment, root=data_folder / "runs")
        return measure(request, backend, print)

    return run


def counts_that_must_agree(run):
    counts = run.info["counts"]
    assert counts["lost_storage"] == counts["lost_inference"] == counts["unsent"] == counts["dead"] == 0
    assert counts["scheduled"] == counts["stored"] == counts["labelled"] == counts["documents_labelled"]
    return counts


def test_a_run_loses_nothing_and_leaves_a_complete_folder(record, experiment):
    run = record(experiment.model_copy(update={"producers": 2, "inference_consumers": 2}))
    counts = counts_that_must_agree(run)
    assert counts["scheduled"] == 16
    assert len(list((run.folder / "consumers").glob("*.csv"))) == 3
    assert len(consumer_reports(run.folder)) == 3
    merged = histograms.merged(run.folder, "inference-consumer")
    assert len(merged) == 16
    sampled = set(run.resources["component"])
    assert sampled >= {"kafka", "mongodb", "inference-server", "db-consumer", "inference-consumer", "producer"}
    assert (run.resources["rss_bytes"] > 0).all()
    images = run.info["running"]["images"]
    assert {name.rpartition("/")[2].split(":")[0] for name in images} >= {"producer", "db-consumer", "kafka"}
    logs = {path.name.split("-")[0] for path in (run.folder / "logs").glob("*.log")}
    assert logs >= {"kafka", "mongodb", "inference", "db", "producer"}
    assert all("sha256:" in digest for digest in images.values())
    assert run.info["running"]["database"]["name"] in ("MongoDB", "FerretDB")
    indices = {report["producer_index"] for report in json.loads((run.folder / "producers.json").read_text())}
    assert indices == {0, 1}


@pytest.mark.parametrize("component", ["db-consumer", "inference-consumer", "inference-server", "kafka", "mongodb"])
def test_a_pod_deleted_in_a_run_loses_no_frame_and_makes_it_invalid(
    component, record, experiment, backend, cluster, monkeypatch
):
    def delete() -> None:
        selector = f"app.kubernetes.io/name={component}"
        (pod,) = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
        cluster.core.delete_namespaced_pod(pod.metadata.name, cluster.namespace)
        deleted.append(pod.metadata.name)

    deleted: list[str] = []
    release = backend.release
    timer = threading.Timer(4.0, delete)

    def release_and_disturb(lead_s: float) -> int:
        timer.start()
        return release(lead_s)

    monkeypatch.setattr(backend, "release", release_and_disturb)
    run = record(experiment.model_copy(update={"duration_s": 12.0}))
    timer.join()
    counts_that_must_agree(run)
    assert f"{component}: pod {deleted[0]} was deleted during the run" in run.info["invalid_reasons"]


def test_another_setting_of_the_server_gives_another_server(record, experiment):
    run = record(experiment.model_copy(update={"batch_max": 2, "cpu_limit": 1.0}))
    counts_that_must_agree(run)
    assert run.info["running"]["server"]["batching"]["max"] == 2
    throttled = run.resources.query("component == 'inference-server'")["throttled_s"]
    assert throttled.notna().all()
