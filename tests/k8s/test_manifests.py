"""Gates on the rendered objects of every overlay and component; no cluster is needed."""

import os
import re
import subprocess
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.contract import settings
from services.contract.timesync import DEFAULT_PORT

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
RENDERINGS = ["base", *OVERLAYS, *(f"base+{name}" for name in COMPONENTS), "onenode+everything"]
EVERYTHING = ["clocks", "network-policies", "three-brokers", "quota", "autoscaling"]
VERSIONS = ["1.33", "1.34", "1.35"]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
MEASURED = {"kafka", "mongodb", "inference-server", "db-consumer", "inference-consumer", "producer"}
SETTINGS = {
    "producer": settings.ProducerSettings,
    "db-consumer": settings.DbConsumerSettings,
    "inference-consumer": settings.InferenceConsumerSettings,
    "inference-server": settings.InferenceServerSettings,
    "topics": settings.ReplicationSettings,
}
GIVEN_BY_KUBERNETES = {"HOSTNAME", "JOB_COMPLETION_INDEX"}

Object = dict[str, Any]


def kustomize(folder: Path) -> list[Object]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """rendered(NAME): the objects of an overlay, or of OVERLAY+COMPONENT; each is rendered once."""

    @cache
    def render(name: str) -> list[Object]:
        overlay, _, component = name.partition("+")
        resource = K8S / "base" if overlay == "base" else K8S / "overlays" / overlay
        if not component:
            return kustomize(resource)
        names = EVERYTHING if component == "everything" else [component]
        folder = tmp_path_factory.mktemp("rendering").resolve()
        kustomization = {
            "resources": [os.path.relpath(resource, folder)],
            "components": [os.path.relpath(K8S / "components" / each, folder) for each in names],
            "namespace": "latencylab",
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(folder)

    return render


@pytest.fixture(params=RENDERINGS)
def objects(request, rendered) -> list[Object]:
    return rendered(request.param)


def workloads(objects: list[Object]) -> list[Object]:
    return [item for item in objects if item["kind"] in WORKLOADS]


def pods(objects: list[Object]) -> dict[str, Object]:
    """Workload name -> the spec of its pods."""
    return {item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in workloads(objects)}


def containers(objects: list[Object]) -> list[tuple[str, Object]]:
    """(workload/container, container) of all containers and init containers."""
    return [
        (f"{name}/{container['name']}", container)
        for name, spec in pods(objects).items()
        for container in [*spec.get("initContainers", []), *spec["containers"]]
    ]


def variables(container: Object) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


@pytest.mark.parametrize(("version", "name"), product(VERSIONS, RENDERINGS))
def test_every_object_keeps_to_the_strict_schema_of_the_version(version, name, rendered):
    for item in rendered(name):
        kubernetes_validate.validate(item, version, strict=True)


def test_the_validator_does_refuse_a_misspelt_field(rendered):
    item = yaml.safe_load(yaml.safe_dump(rendered("base")[-1]))
    item["spec"]["replicaz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(item, VERSIONS[-1], strict=True)


def test_the_namespace_enforces_the_restricted_profile_and_holds_everything(objects):
    namespaces = [item for item in objects if item["kind"] == "Namespace"]
    assert [item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for item in namespaces] == ["restricted"]
    homes = {
        item["metadata"].get("namespace") for item in objects if item["kind"] not in ("Namespace", "PersistentVolume")
    }
    assert homes == {namespaces[0]["metadata"]["name"]}


def test_every_pod_meets_the_restricted_profile(objects):
    for name, spec in pods(objects).items():
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "configMap", "secret"}, name
    for name, container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert "privileged" not in context, name


def test_no_pod_gets_a_token_or_the_addresses_of_services(objects):
    for name, spec in pods(objects).items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name


def test_no_process_is_the_first_of_its_namespace(objects):
    for name, spec in pods(objects).items():
        assert spec["shareProcessNamespace"] is True, f"{name}: its process 1 ignores a SIGTERM that comes early"


def test_every_container_requests_and_memory_is_fixed_where_it_is_measured(objects):
    for name, container in containers(objects):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), name
        assert "cpu" not in resources.get("limits", {}), f"{name}: a CPU limit is a factor of the experiment"
        if name.split("/")[0] in MEASURED:
            assert resources["limits"]["memory"] == resources["requests"]["memory"], name


def test_images_are_pinned_and_never_fetched_again(objects):
    for name, container in containers(objects):
        tag = container["image"].rpartition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), f"{name}: {container['image']}"
        assert container["imagePullPolicy"] == "IfNotPresent", name


def test_our_images_are_built_by_the_project(rendered):
    listed = subprocess.run([ROOT / "scripts" / "images.sh", "list"], capture_output=True, text=True, check=True).stdout
    built = {f"localhost/latencylab/{line.split()[0]}" for line in listed.splitlines()}
    used = {c["image"].rpartition(":")[0] for name in RENDERINGS for _, c in containers(rendered(name))}
    assert {image for image in used if image.startswith("localhost/")} == built
    assert used - built == {"docker.io/library/mongo"}


def test_the_tag_of_our_images_is_the_version_of_the_project(objects):
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    ours = {c["image"].rpartition(":")[2] for _, c in containers(objects) if c["image"].startswith("localhost/")}
    assert ours == {version}


def test_selectors_match_the_pods_they_mean(objects):
    labels = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"] for item in workloads(objects)}
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            assert item["spec"]["selector"]["matchLabels"].items() <= labels[item["metadata"]["name"]].items()
        if item["kind"] == "Service":
            chosen = [name for name, of in labels.items() if item["spec"]["selector"].items() <= of.items()]
            assert chosen == [item["metadata"]["name"]]
        if item["kind"] == "HorizontalPodAutoscaler":
            assert item["spec"]["scaleTargetRef"]["name"] in labels
        if item["kind"] == "NetworkPolicy":
            assert_policy_names_pods(item, {of["app.kubernetes.io/name"] for of in labels.values()} | {"clock"})


def assert_policy_names_pods(policy: Object, known: set[str]) -> None:
    named = re.findall(r"app\.kubernetes\.io/name: (\S+)", yaml.safe_dump(policy["spec"]))
    lists = re.findall(
        r"key: app\.kubernetes\.io/name\n\s+operator: In\n\s+values:\n((?:\s+- \S+\n)+)", yaml.safe_dump(policy)
    )
    for block in lists:
        named += re.findall(r"- (\S+)", block)
    assert set(named) <= known, policy["metadata"]["name"]


def test_every_variable_of_our_services_is_a_setting_and_every_required_one_is_set(objects):
    for workload, spec in pods(objects).items():
        if workload not in SETTINGS:
            continue
        fields = SETTINGS[workload].model_fields
        known = {str(field.validation_alias or name).upper(): field for name, field in fields.items()}
        given = variables(spec["containers"][0])
        assert set(given) <= set(known), workload
        required = {name for name, field in known.items() if field.is_required()}
        assert required <= set(given) | GIVEN_BY_KUBERNETES, workload


def test_the_values_of_our_services_variables_are_accepted(objects, monkeypatch):
    for workload, spec in pods(objects).items():
        if workload not in SETTINGS:
            continue
        for name, value in variables(spec["containers"][0]).items():
            monkeypatch.setenv(name, value if value is not None else "1")
        SETTINGS[workload]()


def test_the_toolbox_can_ask_every_part(objects):
    given = set(variables(pods(objects)["toolbox"]["containers"][0]))
    assert given >= {"KAFKA_BOOTSTRAP", "MONGODB_URI", "INFERENCE_URL", "REPLICATION_FACTOR", "MIN_INSYNC_REPLICAS"}


def test_kafkas_variables_are_those_its_start_script_reads(objects):
    script = (ROOT / "services" / "kafka" / "start.sh").read_text()
    read = set(re.findall(r"\$\{(KAFKA_\w+)", script))
    assert set(variables(pods(objects)["kafka"]["containers"][0])) <= read


def test_broker_count_replication_and_quorum_agree(objects):
    kafka = next(item for item in objects if item["metadata"]["name"] == "kafka" and item["kind"] == "StatefulSet")
    brokers = kafka["spec"]["replicas"]
    assert variables(kafka["spec"]["template"]["spec"]["containers"][0])["KAFKA_BROKERS"] == str(brokers)
    for name in ("toolbox", "topics"):
        given = variables(pods(objects)[name]["containers"][0])
        assert given["REPLICATION_FACTOR"] == str(min(3, brokers))
        assert given["MIN_INSYNC_REPLICAS"] == str(1 if brokers < 3 else 2)


def test_brokers_find_each_other_before_they_are_ready(objects):
    service = next(item for item in objects if item["kind"] == "Service" and item["metadata"]["name"] == "kafka")
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["clusterIP"] == "None"
    kafka = next(item for item in objects if item["kind"] == "StatefulSet" and item["metadata"]["name"] == "kafka")
    assert kafka["spec"]["podManagementPolicy"] == "Parallel"


def test_probes_are_cheap(objects):
    for name, container in containers(objects):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind)
            if probe is not None:
                assert {"tcpSocket", "httpGet"} & set(probe), f"{name}: {kind} must not run a command"
                port = (probe.get("tcpSocket") or probe["httpGet"])["port"]
                assert port in {each["name"] for each in container["ports"]}, name
    assert "startupProbe" in pods(objects)["inference-server"]["containers"][0]
    producer = pods(objects)["producer"]["containers"][0]
    assert "readinessProbe" not in producer, "nothing may interrupt the schedule"
    assert "livenessProbe" not in producer, "nothing may interrupt the schedule"


def test_probe_paths_are_served(objects):
    served = (
        (ROOT / "services/contract/status.py").read_text(),
        (ROOT / "services/inference_server/probes.py").read_text(),
    )
    for name, container in containers(objects):
        for probe in (container.get(kind, {}) for kind in ("startupProbe", "readinessProbe", "livenessProbe")):
            if "httpGet" in probe:
                assert f'"{probe["httpGet"]["path"]}"' in served["inference-server" in name]


def test_ports_agree_with_the_code(objects):
    declared = {
        f"{name.split('/')[0]}:{port['name']}": port["containerPort"]
        for name, container in containers(objects)
        for port in container.get("ports", [])
    }
    status = settings.StatusSettings.model_fields["status_port"].default
    assert (
        declared.pop("inference-server:http") == settings.InferenceServerSettings.model_fields["inference_port"].default
    )
    assert declared.pop("kafka:kafka") == 9092
    assert declared.pop("kafka:controller") == 9093
    assert declared.pop("mongodb:mongodb") == 27017
    assert declared.pop("clock:timesync", DEFAULT_PORT) == DEFAULT_PORT
    assert set(declared.values()) == {status}
    kafka = (ROOT / "services" / "kafka" / "server.properties").read_text()
    assert "listeners=PLAINTEXT://:9092,CONTROLLER://:9093" in kafka
    for item in objects:
        if item["kind"] == "Service":
            ports = {p["containerPort"] for p in pods(objects)[item["metadata"]["name"]]["containers"][0]["ports"]}
            assert {port["port"] for port in item["spec"]["ports"]} == ports


def test_urls_name_services_and_their_ports(objects):
    services = {
        item["metadata"]["name"]: item["spec"]["ports"][0]["port"] for item in objects if item["kind"] == "Service"
    }
    for _, container in containers(objects):
        for value in filter(None, variables(container).values()):
            if found := re.fullmatch(r"(?:\w+://)?([a-z-]+):(\d+)/?", value):
                assert services[found[1]] == int(found[2])


def test_clock_exchanges_are_let_through(rendered):
    policies = {
        item["metadata"]["name"]: item for item in rendered("base+network-policies") if item["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["clock"]["spec"]["ingress"][0]["ports"] == [{"port": DEFAULT_PORT, "protocol": "UDP"}]
    assert policies["dns"]["spec"]["podSelector"] == {}


def test_producers_are_a_job_that_can_be_scaled_and_never_retries(objects):
    job = next(item for item in objects if item["kind"] == "Job" and item["metadata"]["name"] == "producer")["spec"]
    assert (job["completionMode"], job["suspend"]) == ("Indexed", True)
    assert job["completions"] == job["parallelism"]
    assert (job["backoffLimit"], job["podReplacementPolicy"]) == (0, "Failed")
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_every_job_has_a_deadline(objects):
    assert all(item["spec"]["activeDeadlineSeconds"] > 0 for item in objects if item["kind"] == "Job")


def test_consumers_records_outlive_the_consumers(objects):
    for name in ("db-consumer", "inference-consumer"):
        spec = pods(objects)[name]
        (collector,) = spec["initContainers"]
        assert collector["restartPolicy"] == "Always", "a sidecar is stopped after the containers"
        assert collector["volumeMounts"] == spec["containers"][0]["volumeMounts"]
        assert variables(spec["containers"][0])["OUTPUT_DIRECTORY"] == collector["volumeMounts"][0]["mountPath"]
        drain = settings.ConsumerSettings.model_fields["drain_timeout_s"].default
        assert spec["terminationGracePeriodSeconds"] >= 2 * drain + 60, "drain, close, and time to fetch"


def test_four_machines_carry_one_group_each(rendered):
    specs = pods(rendered("chameleon-4vm"))
    assert "nodeSelector" not in specs.pop("clock"), "every machine's clock is compared"
    roles = {name: spec["nodeSelector"]["iot-role"] for name, spec in specs.items()}
    assert roles == {
        "producer": "producer",
        "inference-server": "inference",
        "kafka": "broker",
        "db-consumer": "broker",
        "inference-consumer": "broker",
        "topics": "broker",
        "toolbox": "broker",
        "mongodb": "database",
    }


def test_only_clusters_without_the_mongo_image_get_the_stand_in(rendered):
    images = {name: pods(rendered(name))["mongodb"]["containers"][0]["image"] for name in ("base", *OVERLAYS)}
    assert {name for name, image in images.items() if "ferretdb" in image} == {"onenode"}


def test_local_volumes_are_claimed_by_their_own_class_and_cleared(rendered):
    objects = rendered("base+local-volumes")
    offered = {item["spec"]["storageClassName"] for item in objects if item["kind"] == "PersistentVolume"}
    claimed = {
        item["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"]
        for item in objects
        if item["kind"] == "StatefulSet"
    }
    assert claimed == offered == {"latencylab-kafka", "latencylab-mongodb"}
    assert all(pods(objects)[name]["initContainers"][0]["name"] == "clear" for name in ("kafka", "mongodb"))
