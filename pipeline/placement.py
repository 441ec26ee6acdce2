"""Where each step runs, and what it is given: image, resources, volume, secrets, time, labels. One row a step."""

import dataclasses

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.shared.reach import DATA_HOSTS, HOSTS_OF_SECRET, JUDGE_HOSTS, WORKSPACE
from components.shared.records import FOLDER_VARIABLE, NODE_VARIABLE, RUN_VARIABLE
from components.shared.workspace import STEP_RECORDS
from pipeline.settings import ClusterSettings

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
STEP_LABEL = "app.kubernetes.io/component"
RUN_ID = "metadata.labels['pipeline/runid']"  # KFP's label of all pods of a run
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux has it

SECRET_VARIABLES = {
    "hub": ("HF_TOKEN", "HF_ENDPOINT"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_S3_ENDPOINT", "AWS_S3_BUCKET", "AWS_DEFAULT_REGION"),
    "judge": ("JUDGE_API_KEY", HOSTS_OF_SECRET),
    "webhook": ("WEBHOOK_URL", "WEBHOOK_FORMAT"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What a step needs; the names are those of the cluster file's tables."""

    title: str
    """What the dashboard calls it."""
    resources: str = "small"
    time: str = "small"
    gpu: bool = False
    secrets: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    """Variables of these secrets that it does not get."""


PLACES = {
    "ingest_sdg": Place(title="Ingest SDG output", secrets=("s3",)),
    "format_chat": Place(title="Format chat"),
    "snapshot_model": Place(title="Snapshot base model", resources="download", time="download", secrets=("hub", "s3")),
    "plan_training": Place(title="Plan training", secrets=("judge",), withheld=("JUDGE_API_KEY",)),
    "plan_sweep": Place(title="Plan all settings", secrets=("judge",), withheld=("JUDGE_API_KEY",)),
    "train_osft": Place(title="Train with OSFT", resources="gpu", time="train", gpu=True),
    "evaluate": Place(title="Evaluate", resources="gpu", time="evaluate", gpu=True, secrets=("judge",)),
    "run_sweep": Place(
        title="Train and evaluate each setting", resources="gpu", time="sweep", gpu=True, secrets=("judge",)
    ),
    "compare": Place(title="Compare"),
    "publish": Place(title="Publish"),
    "notify": Place(title="Notify", secrets=("webhook",)),
}


def place(task: PipelineTask, step: str, settings: ClusterSettings) -> PipelineTask:
    """Put a task where its step belongs."""
    where = PLACES[step]
    resources = settings.resources[where.resources]
    task.set_display_name(where.title)
    task.set_container_image(settings.images.gpu if where.gpu else settings.images.cpu)
    # KFP's cache looks at parameters and not at what lies behind a path: a cached step would train last month's data.
    task.set_caching_options(False)
    task.set_cpu_request(resources["cpu"]).set_memory_request(resources["memory"])
    task.set_memory_limit(resources["memory"])
    if settings.retries[where.time]:
        task.set_retry(settings.retries[where.time])
    kubernetes.set_timeout(task, settings.timeout_seconds[where.time])
    if settings.images.pull_secret:
        kubernetes.set_image_pull_secrets(task, [settings.images.pull_secret])
    kubernetes.mount_pvc(task, pvc_name=settings.workspace.claim, mount_path=settings.workspace.mount_path)
    task.set_env_variable(FOLDER_VARIABLE, f"{settings.workspace.mount_path}/{STEP_RECORDS}")
    for name, value in _reach(settings).items():
        task.set_env_variable(name, value)
    kubernetes.use_field_path_as_env(task, env_name=RUN_VARIABLE, field_path=RUN_ID)
    kubernetes.use_field_path_as_env(task, env_name=NODE_VARIABLE, field_path="spec.nodeName")
    if settings.security.run_as_non_root:
        kubernetes.set_security_context(task, run_as_non_root=True)
    for label, value in (settings.labels | {STEP_LABEL: step}).items():
        kubernetes.add_pod_label(task, label, value)
    for annotation, value in settings.annotations.items():
        kubernetes.add_pod_annotation(task, annotation, value)
    for purpose in where.secrets:
        variables = {name: name for name in SECRET_VARIABLES[purpose] if name not in where.withheld}
        kubernetes.use_secret_as_env(
            task, secret_name=settings.secrets[purpose], secret_key_to_env=variables, optional=True
        )
    if where.gpu and int(settings.gpu.count):
        gpu = settings.gpu
        task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
        if settings.kueue.queue:
            kubernetes.add_pod_label(task, QUEUE_LABEL, settings.kueue.queue)
        for key, value in gpu.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for toleration in gpu.tolerations:
            kubernetes.add_toleration(task, **toleration)
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path=SHARED_MEMORY, medium="Memory", size_limit=gpu.shared_memory
        )
    return task


def _reach(settings: ClusterSettings) -> dict[str, str]:
    """The variables by which a step knows what it may reach; none for a laptop, which has no claim."""
    if not settings.workspace.claim:
        return {}
    variables = {
        WORKSPACE: settings.workspace.mount_path,
        JUDGE_HOSTS: ",".join(settings.reach.judge_hosts),
        DATA_HOSTS: ",".join(settings.reach.private_data_hosts),
        # Without keys boto3 would ask the cloud for the node's own.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return {name: value for name, value in variables.items() if value}
