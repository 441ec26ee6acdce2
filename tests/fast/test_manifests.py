"""What a platform team applies: built without a cluster, every field known, every name the pipeline's."""

import ipaddress
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.cluster import release, runs, schedules
from pipeline.cluster.access import SERVER, Access
from pipeline.cluster.compiled_file import read_pipeline
from pipeline.cluster.connection import connect
from pipeline.cluster.cron import read_cron
from pipeline.parameters import read_parameters
from pipeline.placement import SECRET_VARIABLES
from pipeline.settings import load_settings
from tests.cluster_file import compiled_for_a_cluster
from tests.kfp_server import KfpServer
from tests.kustomize import Object, build, read_kustomization, read_objects
from tests.tables import table

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
COMPONENTS = [MANIFESTS / "components" / name for name in ("egress", "kueue", "pipelines-server")]
OVERLAYS = [MANIFESTS / "overlays" / name for name in ("dev", "prod")]
SECRETS = ["osft-artifacts", "osft-hub", "osft-judge", "osft-s3", "osft-webhook"]
CLAIM = "osft-workspace"
QUEUE = "osft"
PODS = {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}  # KFP's, on all pods of a run

CORE = {
    "ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "Role", "RoleBinding", "Secret", "ServiceAccount"
}  # fmt: skip
"""Kubernetes' own kinds that may be here: nothing that runs, nothing of the whole cluster."""
CUSTOM = table("manifests", "custom")


def _write_kustomization(folder: Path, resources: list[Path], components: list[Path]) -> Path:
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "team-a",
        "resources": [os.path.relpath(path, folder) for path in resources],
        "components": [os.path.relpath(path, folder) for path in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The pipeline of a cluster with images of its own and the queue."""
    return compiled_for_a_cluster(tmp_path_factory.mktemp("compiled"), f'kueue.queue = "{QUEUE}"\n')


@pytest.fixture(scope="module")
def everything(tmp_path_factory, compiled):
    """A platform team's own overlay: all components, and the pipeline itself."""
    folder = tmp_path_factory.mktemp("everything").resolve()
    release.write_release(compiled, folder / "pipeline.yaml")
    return _write_kustomization(folder, [OVERLAYS[0], folder / "pipeline.yaml"], COMPONENTS)


@pytest.fixture(params=["base", "overlays/dev", "overlays/prod", "everything"])
def folder(request, everything):
    return everything if request.param == "everything" else MANIFESTS / request.param


@pytest.fixture(scope="module")
def objects(everything):
    return build(everything)


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    (found,) = (item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"]))
    return found


def template(name: str) -> Object:
    (content,) = read_objects(MANIFESTS / "secrets" / f"{name}.yaml")
    return content


def texts(value: Any) -> Iterator[str]:
    """All keys and values, as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


# Files and objects


def test_a_build_has_one_object_of_a_name_all_in_its_namespace(folder):
    built = build(folder)
    namespace = read_kustomization(folder).get("namespace")

    assert len(built) >= 6
    assert len({(item["kind"], item["metadata"]["name"]) for item in built}) == len(built)
    assert {item["metadata"].get("namespace") for item in built} == {namespace}
    assert all(item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "osft-pipeline" for item in built)


# Schemas


def problem_of(item: Object) -> str:
    """What is wrong with an object's fields; empty when nothing is."""
    if spec := CUSTOM.get(f"{item['apiVersion']} {item['kind']}"):
        unknown = set(item) - {"apiVersion", "kind", "metadata", "spec"}
        return f"unknown {unknown}" if unknown else _differs(item["spec"], spec, "spec")
    assert item["kind"] in CORE, f"{item['kind']} is not among the kinds that may be here"
    try:
        kubernetes_validate.validate(item, "1.32", strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return ""


def _differs(value: Any, known: Any, path: str) -> str:
    if isinstance(known, dict):
        if set(value) != set(known):
            return f"{path}: {set(value) ^ set(known)}"
        return next(filter(None, (_differs(value[key], known[key], f"{path}.{key}") for key in known)), "")
    return "" if type(value).__name__ == known and value not in ("", {}) else f"{path}: {value!r}"


def test_every_field_is_known(folder):
    for item in [*build(folder), *map(template, SECRETS)]:
        assert problem_of(item) == "", item["metadata"]["name"]


# Names that the pipeline uses


def test_the_claim_is_the_one_that_the_pipeline_mounts(folder):
    claim = one(build(folder), "PersistentVolumeClaim")

    assert claim["metadata"]["name"] == load_settings().workspace.claim == CLAIM
    assert claim["spec"]["accessModes"] in (["ReadWriteMany"], ["ReadWriteOnce"])


def test_every_secret_of_the_cluster_file_has_a_template_with_the_keys_that_steps_read():
    secrets = load_settings().secrets

    assert set(secrets) == set(SECRET_VARIABLES)
    assert {*secrets.values(), "osft-artifacts"} == set(SECRETS)
    for purpose, name in secrets.items():
        assert template(name)["metadata"]["name"] == name
        assert set(template(name)["stringData"]) == set(SECRET_VARIABLES[purpose]), name
        assert "data" not in template(name)
        assert set(template(name)["stringData"].values()) == {""}


def test_no_secret_is_applied(folder):
    assert "Secret" not in {item["kind"] for item in build(folder)}


def test_the_queue_is_the_one_that_a_cluster_file_names(objects):
    text = (MANIFESTS / "components" / "kueue" / "local-queue.yaml").read_text(encoding="utf-8")

    assert one(objects, "LocalQueue")["metadata"]["name"] == QUEUE
    assert f"kueue.x-k8s.io/queue-name: {QUEUE}," in text


# The account that schedules


def test_the_account_may_use_one_pipelines_server_and_nothing_else(folder):
    built = build(folder)
    (rule,) = one(built, "Role")["rules"]
    binding = one(built, "RoleBinding")

    assert rule["apiGroups"] == ["datasciencepipelinesapplications.opendatahub.io"]
    assert rule["resources"] == ["datasciencepipelinesapplications/api"]
    assert len(rule["resourceNames"]) == 1
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": one(built, "Role")["metadata"]["name"],
    }
    (subject,) = binding["subjects"]
    assert subject.pop("namespace", None) == read_kustomization(folder).get("namespace")
    assert subject == {"kind": "ServiceAccount", "name": one(built, "ServiceAccount")["metadata"]["name"]}
    assert one(built, "ServiceAccount")["automountServiceAccountToken"] is False


def test_the_account_s_verbs_are_what_the_commands_need(monkeypatch, compiled):
    monkeypatch.setenv("HOME", "/nonexistent")
    pipeline = read_pipeline(compiled)
    values = read_parameters(pipeline, ["data=/mnt/osft/qa.csv", "questions=/mnt/osft/gaps.csv"], None)
    crons = [read_cron(text, datetime(2026, 1, 1, tzinfo=UTC)) for text in ("0 0 2 * * 0", "0 0 2 * * 1")]
    with KfpServer(token="token") as server:
        connection = connect(Access(host=server.url, token="token"))
        runs.upload(connection, pipeline, False)
        runs.submit(connection, pipeline, values, False)
        for cron in crons:
            schedules.schedule(connection, pipeline, "weekly", cron, values, False, settle_seconds=0)
        runs.status(connection, pipeline.name, 1)
        schedules.unschedule(connection, pipeline.name, "weekly", False, settle_seconds=0)
        used = {request.method for request in server.requests}

    verb = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    (rule,) = one(build(OVERLAYS[0]), "Role")["rules"]
    assert set(rule["verbs"]) == {verb[method] for method in used}


# The pipelines server


def test_the_sample_server_is_what_commands_and_account_mean_and_finds_its_credentials(objects):
    server = one(objects, "DataSciencePipelinesApplication")
    name, spec = server["metadata"]["name"], server["spec"]

    assert f"//ds-pipeline-{name}." in SERVER
    assert one(objects, "Role")["rules"][0]["resourceNames"] == [name]
    assert spec["scheduledWorkflow"]["cronScheduleTimezone"] == "UTC"
    assert spec["apiServer"]["pipelineStore"] == "kubernetes"
    credentials = spec["objectStorage"]["externalStorage"]["s3CredentialsSecret"]
    authorities = one(objects, "ConfigMap")

    assert set(template(credentials["secretName"])["stringData"]) == {
        credentials["accessKey"],
        credentials["secretKey"],
    }
    assert spec["apiServer"]["cABundle"] == {
        "configMapName": authorities["metadata"]["name"],
        "configMapKey": "ca-bundle.crt",  # OpenShift's name
    }


# Least privilege


def test_nothing_asks_for_more_than_the_project_has(folder):
    built = [item for item in build(folder) if item["kind"] != "PipelineVersion"]

    assert not {text for item in built for text in texts(item)} & {"*", "privileged", "hostPath", "cluster-admin"}


def test_nobody_can_connect_to_a_pod_of_a_run(folder):
    policy = one(build(folder), "NetworkPolicy", "osft-no-ingress")["spec"]

    assert policy == {"podSelector": PODS, "policyTypes": ["Ingress"]}


def may_connect(rules: list[Object], address: str, port: int) -> bool:
    """Whether one of a policy's rules for addresses lets a TCP connection through."""
    where = ipaddress.ip_address(address)
    for rule in rules:
        blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
        inside = any(
            where in ipaddress.ip_network(block["cidr"])
            and not any(where in ipaddress.ip_network(exception) for exception in block.get("except", []))
            for block in blocks
        )
        if inside and {"protocol": "TCP", "port": port} in rule["ports"]:
            return True
    return False


@pytest.mark.parametrize(("address", "port", "allowed"), table("manifests", "egress"))
def test_in_production_steps_connect_to_https_and_never_to_the_cloud_s_metadata(address, port, allowed):
    policy = one(build(OVERLAYS[1]), "NetworkPolicy", "osft-egress")["spec"]

    assert policy["podSelector"] == PODS
    assert policy["policyTypes"] == ["Egress"]
    assert may_connect(policy["egress"], address, port) is allowed


# Argo CD


@pytest.mark.parametrize(
    "kind", ["PersistentVolumeClaim", "DataSciencePipelinesApplication", "Pipeline", "PipelineVersion"]
)
def test_what_holds_data_or_history_is_never_pruned(objects, kind):
    annotations = one(objects, kind)["metadata"]["annotations"]

    assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
