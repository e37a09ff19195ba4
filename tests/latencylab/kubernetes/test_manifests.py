import subprocess

import pytest
import yaml

from latencylab.backends.backend import BackendError
from latencylab.backends.kubernetes import manifests
from latencylab.backends.kubernetes.manifests import BY_HAND, GENERATION, MADE, MANAGED, Manifests
from latencylab.backends.kubernetes.settings import MANIFESTS, ClusterSettings


@pytest.fixture(scope="module")
def rendered():
    settings = ClusterSettings(namespace="elsewhere", overlay="onenode", components="quota")
    return Manifests(manifests.render(settings))


def test_everything_is_in_the_namespace_and_carries_the_label(rendered):
    objects = [rendered.namespace(MADE), *rendered.at_once()]
    assert rendered.namespace(MADE)["metadata"]["name"] == "elsewhere"
    assert {o["metadata"].get("namespace", "elsewhere") for o in objects} == {"elsewhere"}
    assert all(MANAGED.items() <= o["metadata"]["labels"].items() for o in objects)
    assert rendered.get("ResourceQuota", "latencylab")


def test_templates_wait_and_consumers_have_no_replica_before_a_run(rendered):
    objects = rendered.at_once()
    assert not [o for o in objects if o["kind"] == "Job"]
    replicas = {o["metadata"]["name"]: o["spec"]["replicas"] for o in objects if o["kind"] == "Deployment"}
    assert replicas == {"db-consumer": 0, "inference-consumer": 0, "inference-server": 1, "toolbox": 1}
    assert BY_HAND in rendered.get("Job", "producer")["metadata"]["labels"]


def test_what_is_handed_out_is_a_copy(rendered):
    rendered.get("Job", "producer")["spec"]["parallelism"] = 99
    assert rendered.get("Job", "producer")["spec"]["parallelism"] == 1


def test_the_rendering_is_what_kubectl_gives(rendered):
    plain = subprocess.run(
        ["kubectl", "kustomize", MANIFESTS / "overlays" / "onenode"], capture_output=True, text=True, check=True
    )
    names = {(o["kind"], o["metadata"]["name"]) for o in yaml.safe_load_all(plain.stdout)}
    for kind, name in names - {("Namespace", "latencylab")}:
        assert rendered.get(kind, name)


def test_a_variable_replaces_its_namesake_even_one_that_came_from_elsewhere(rendered):
    server = rendered.get("Deployment", "inference-server")
    manifests.set_environment(server, {"MEMORY_BUDGET_BYTES": "5", "BATCH_MAX": "4"})
    environment = {entry["name"]: entry for entry in manifests.container(server)["env"]}
    assert environment["MEMORY_BUDGET_BYTES"] == {"name": "MEMORY_BUDGET_BYTES", "value": "5"}
    assert environment["BATCH_MAX"]["value"] == "4"
    assert environment["INFERENCE_PORT"]["value"] == "8000"


def test_the_mark_goes_on_the_pods(rendered):
    consumer = rendered.get("Deployment", "db-consumer")
    manifests.set_generation(consumer, "g1")
    assert consumer["spec"]["template"]["metadata"]["annotations"] == {GENERATION: "g1"}


def test_every_secret_is_another():
    first, second = (manifests.deployment_secret("n")["stringData"] for _ in range(2))
    assert not set(first.values()) & set(second.values())
    assert first["mongodb-password"] in first["mongodb-uri"]


def test_files_that_fit_into_no_configmap_are_refused(tmp_path):
    (tmp_path / "large.jpg").write_bytes(bytes(800_000))
    with pytest.raises(BackendError, match="source_directory"):
        manifests.input_files("input", "n", [tmp_path / "large.jpg"])


@pytest.mark.parametrize(
    ("field", "words"),
    [("overlay", "LATENCYLAB_OVERLAY.*chameleon-4vm"), ("components", "LATENCYLAB_COMPONENTS.*three-brokers")],
)
def test_an_unknown_folder_is_named_with_those_there_are(field, words):
    with pytest.raises(BackendError, match=words):
        manifests.render(ClusterSettings.model_validate({field: "nowhere"}))


def test_a_component_that_the_overlay_has_may_be_asked_for():
    settings = ClusterSettings(overlay="chameleon-4vm", components="clocks,ferretdb")
    assert [folder.name for folder in settings.component_folders()] == ["ferretdb"]
    assert Manifests(manifests.render(settings)).get("DaemonSet", "clock")


def test_a_broken_overlay_gives_kustomizes_words(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(BackendError, match=r"missing\.yaml"):
        manifests.render(ClusterSettings(overlay=str(tmp_path)))
