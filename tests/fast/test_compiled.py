"""What the cluster will read: the compiled pipeline, as YAML."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.problems import Problems
from pipeline import compile as compiling
from pipeline.placement import PLACES
from pipeline.settings import load_settings
from tests.kfp_fields import unknown_fields
from tests.tables import table

GPU_STEPS = {"train_osft", "evaluate", "run_sweep"}
STEPS = {
    compiling.RUN: set(PLACES) - {"plan_sweep", "run_sweep", "compare"},
    compiling.SWEEP: set(PLACES) - {"plan_training", "train_osft", "evaluate"},
}


@pytest.fixture(scope="module", params=compiling.GRAPHS)
def name(request):
    """Of the pipeline."""
    return request.param


@pytest.fixture(scope="module")
def documents(name):
    return list(yaml.safe_load_all(compiling.COMMITTED[name].read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def containers(documents):
    """The container of each step."""
    executors = documents[0]["deploymentSpec"]["executors"]
    return {_step(name): executor["container"] for name, executor in executors.items()}


@pytest.fixture(scope="module")
def placed(documents):
    """The Kubernetes settings of each step."""
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {_step(name): executor for name, executor in executors.items()}


@pytest.fixture(scope="module")
def tasks(documents):
    """The task of each step, wherever in the graph it is."""
    dags = [documents[0]["root"]["dag"], *(c["dag"] for c in documents[0]["components"].values() if "dag" in c)]
    return {name.replace("-", "_"): task for dag in dags for name, task in dag["tasks"].items() if "taskInfo" in task}


def _step(executor: str) -> str:
    return executor.removeprefix("exec-").replace("-", "_")


def test_only_fields_of_kfp_2_14_are_used(documents):
    assert unknown_fields(documents) == []


def test_only_these_fields_are_used_with_everything_switched_on(tmp_path, name):
    documents = compiled(tmp_path, table("compiled", "everything"), name)

    assert unknown_fields(documents) == []
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {_step(executor) for executor in executors} == STEPS[name]
    for step, placed in ((_step(label), executor) for label, executor in executors.items()):
        part_of = {"app.kubernetes.io/part-of": "osft-pipeline", "app.kubernetes.io/component": step}
        queue = {"kueue.x-k8s.io/queue-name": "osft"} if step in GPU_STEPS else {}
        assert placed["podMetadata"]["labels"] == part_of | queue | {"cost-center": "4711"}
        assert placed["podMetadata"]["annotations"] == {"owner": "platform"}
        assert "puller" in str(placed["imagePullSecret"])
        assert ("pool" in str(placed)) == (step in GPU_STEPS)
    assert str(documents).count("'resourceCount': '2'") == len(GPU_STEPS & STEPS[name])


def test_training_and_evaluation_and_only_they_ask_for_one_l40s(name, containers, placed):
    for step in STEPS[name]:
        accelerator = containers[step]["resources"].get("accelerator", {})
        if step in GPU_STEPS:
            assert accelerator["resourceType"] == "nvidia.com/gpu"
            assert accelerator["resourceCount"] == "1"
            assert placed[step]["nodeSelector"] == {"labels": {"nvidia.com/gpu.product": "NVIDIA-L40S"}}
            tolerated = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            assert placed[step]["tolerations"] == [tolerated]
            (memory,) = placed[step]["emptyDirMounts"]
            assert (memory["mountPath"], memory["medium"]) == ("/dev/shm", "Memory")
        else:
            assert not accelerator
            assert not {"nodeSelector", "tolerations", "emptyDirMounts"} & set(placed[step])


def compiled(tmp_path: Path, settings: str, name: str = compiling.RUN) -> list[dict[str, Any]]:
    """The documents of a cluster file's pipeline."""
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(settings, encoding="utf-8")
    return list(yaml.safe_load_all(compiling.compiled_yaml(load_settings(cluster), name)))


TRIAL = (resources.files("pipeline.cluster_files") / "trial.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", ['gpu.count = "0"\nkueue.queue = "osft"\n', TRIAL], ids=["key", "trial.toml"])
def test_a_trial_is_the_same_graph_without_anything_of_a_gpu(name, documents, tmp_path, settings):
    pipeline, platform = compiled(tmp_path, settings, name)

    assert unknown_fields([pipeline, platform]) == []
    dags, others = ([part for part in of["components"].values() if "dag" in part] for of in (pipeline, documents[0]))
    for dag, other in zip(dags, others, strict=True):
        assert (set(dag["dag"]["tasks"]), dag["inputDefinitions"]) == (
            set(other["dag"]["tasks"]), other["inputDefinitions"],
        )  # fmt: skip
    for label, executor in pipeline["deploymentSpec"]["executors"].items():
        assert "accelerator" not in executor["container"]["resources"], label
    text = str(platform)
    for key in ("nodeSelector", "tolerations", "emptyDirMounts", "queue-name", "nvidia"):
        assert key not in text
    (plan,) = (task for dag in dags for task in dag["dag"]["tasks"].values() if "gpus" in task["inputs"]["parameters"])
    assert plan["inputs"]["parameters"]["gpus"]["runtimeValue"]["constant"] == 0


def test_steps_run_as_non_root_where_the_cluster_file_asks_for_it(name, placed, tmp_path):
    """KFP 2.14.3 knows no such field, so that nothing else sets it."""
    documents = compiled(tmp_path, "security.run_as_non_root = true\n", name)
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    assert all("securityContext" not in settings for settings in placed.values())
    assert {_step(executor) for executor in executors} == STEPS[name]
    assert all(executor["securityContext"] == {"runAsNonRoot": True} for executor in executors.values())
    assert {path.rpartition("/")[2] for path in unknown_fields(documents)} == {"securityContext"}


def test_every_step_mounts_the_same_claim(placed):
    for settings in placed.values():
        (mount,) = settings["pvcMount"]
        assert mount["pvcNameParameter"]["runtimeValue"]["constant"] == "osft-workspace"
        assert mount["mountPath"] == "/mnt/osft"


@pytest.mark.parametrize(
    ("variable", "steps"),
    [
        ("HF_TOKEN", {"snapshot_model"}),
        ("HF_ENDPOINT", {"snapshot_model"}),
        ("JUDGE_API_KEY", {"evaluate", "run_sweep"}),
        ("WEBHOOK_URL", {"notify"}),
        ("AWS_ACCESS_KEY_ID", {"ingest_sdg", "snapshot_model"}),
        ("AWS_SECRET_ACCESS_KEY", {"ingest_sdg", "snapshot_model"}),
    ],
)
def test_a_secret_reaches_only_the_steps_that_need_it(name, placed, variable, steps):
    given = {
        step: reference["optional"]
        for step, settings in placed.items()
        for reference in settings.get("secretAsEnv", [])
        for key in reference["keyToEnv"]
        if key["envVar"] == variable
    }

    assert set(given) == steps & STEPS[name]
    assert all(given.values()), "a secret that is not there must not stop the pod"


def test_no_step_installs_anything_when_it_starts(containers):
    for step, container in containers.items():
        started = " ".join([*container["command"], *container["args"]])
        assert not re.search(r"\bpip\b|install", started), step


def test_the_images_are_those_of_the_cluster_file(name, containers):
    images = load_settings().images
    assert {step: container["image"] for step, container in containers.items()} == {
        step: images.gpu if step in GPU_STEPS else images.cpu for step in STEPS[name]
    }


def test_nothing_is_cached(name, tasks):
    for step in STEPS[name]:
        assert not tasks[step]["cachingOptions"].get("enableCache", False), step


def test_retries_are_not_cut_off_by_the_time_of_earlier_attempts_nor_by_days_of_waiting(name, tasks, placed):
    """Argo counts a pod's wait for a GPU, and the last attempt needs its own time, too."""
    for step in STEPS[name]:
        policy = tasks[step]["retryPolicy"]
        timeout = int(placed[step]["activeDeadlineSeconds"])
        assert policy["maxRetryCount"] >= 1
        assert policy["backoffMaxDuration"].endswith("s")
        attempts = policy["maxRetryCount"] + 1
        assert int(policy["backoffMaxDuration"][:-1]) >= timeout * attempts + 5 * 24 * 3600, step


def _gates(documents: list[dict[str, Any]]) -> dict[str, tuple[str, set[str]]]:
    """Of each condition in the graph: what it compares, and the tasks under it."""
    components = documents[0]["components"]
    dags = [documents[0]["root"]["dag"], *(component["dag"] for component in components.values() if "dag" in component)]
    gates = [task for dag in dags for task in dag["tasks"].values() if "condition" in task.get("triggerPolicy", {})]
    return {
        gate["taskInfo"]["name"]: (
            gate["triggerPolicy"]["condition"],
            {name for name in components[gate["componentRef"]["name"]]["dag"]["tasks"] if "condition" not in name},
        )
        for gate in gates
    }


GATES = {
    compiling.RUN: {
        "anything-to-do": ("plan-training", {"train-osft", "evaluate"}),
        "good": ("evaluate", {"publish"}),
    },
    compiling.SWEEP: {"good": ("compare", {"publish"})},
}


def test_training_waits_for_the_plan_and_publishing_for_the_evaluation(name, documents):
    channel = re.compile(r".*\['pipelinechannel--(.*)-Output'\] == true")
    found = {gate: (channel.fullmatch(condition), inside) for gate, (condition, inside) in _gates(documents).items()}

    assert {gate: (match and match[1], inside) for gate, (match, inside) in found.items()} == GATES[name]


def test_notify_is_told_how_everything_else_ended_whatever_happened(documents):
    outside = documents[0]["root"]["dag"]["tasks"]
    (handler,) = set(outside) - {"notify"}

    assert outside["notify"]["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": handler}}
    assert outside["notify"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert outside["notify"]["dependentTasks"] == [handler]


def test_without_the_exit_handler_all_steps_are_on_one_level(tmp_path):
    pipeline = compiled(tmp_path, "notify.enabled = false\n")[0]

    assert {"ingest-sdg", "format-chat", "snapshot-model", "plan-training"} < set(pipeline["root"]["dag"]["tasks"])
    assert "exec-notify" not in pipeline["deploymentSpec"]["executors"]


def test_every_step_records_what_it_does_under_the_run(name, containers, placed):
    for step in STEPS[name]:
        assert {"name": "OSFT_STEP_RECORDS", "value": "/mnt/osft/pipeline-runs"} in containers[step]["env"], step
        assert placed[step]["fieldPathAsEnv"] == [
            {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"},
            {"name": "OSFT_NODE", "fieldPath": "spec.nodeName"},
        ]


def test_the_committed_pipeline_is_what_the_code_gives(name):
    compiling.check_compiled(load_settings(), compiling.COMMITTED[name], name)


def test_a_stale_pipeline_is_an_error_that_names_the_command(tmp_path):
    stale = tmp_path / "osft.yaml"
    stale.write_text("components: {}\n", encoding="utf-8")

    with pytest.raises(Problems, match="run: osft-pipeline compile"):
        compiling.check_compiled(load_settings(), stale)
