"""Where each step runs, and what it is given: image, resources, volume, secrets, time. One row a step."""

import dataclasses

from kfp import kubernetes
from kfp.dsl import PipelineTask

from pipeline.settings import ClusterSettings

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux has it

SECRET_VARIABLES = {
    "hub": ("HF_TOKEN",),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_S3_ENDPOINT", "AWS_S3_BUCKET", "AWS_DEFAULT_REGION"),
    "judge": ("JUDGE_API_KEY",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What a step needs; the names are those of the cluster file's tables."""

    resources: str = "small"
    time: str = "small"
    gpu: bool = False
    workspace: bool = True
    secrets: tuple[str, ...] = ()


PLACES = {
    "ingest_sdg": Place(secrets=("s3",)),
    "format_chat": Place(workspace=False),
    "snapshot_model": Place(resources="download", time="download", secrets=("hub", "s3")),
    "plan_training": Place(),
    "train_osft": Place(resources="gpu", time="train", gpu=True),
    "evaluate": Place(resources="gpu", time="evaluate", gpu=True, secrets=("judge",)),
}


def place(task: PipelineTask, step: str, settings: ClusterSettings) -> PipelineTask:
    """Put a task where its step belongs."""
    where = PLACES[step]
    resources = settings.resources[where.resources]
    task.set_container_image(settings.images.gpu if where.gpu else settings.images.cpu)
    # KFP's cache looks at parameters and not at what lies behind a path: a cached step would train last month's data.
    task.set_caching_options(False)
    task.set_cpu_request(resources["cpu"]).set_memory_request(resources["memory"])
    task.set_memory_limit(resources["memory"])
    task.set_retry(settings.retries[where.time])
    kubernetes.set_timeout(task, settings.timeout_seconds[where.time])
    if settings.images.pull_secret:
        kubernetes.set_image_pull_secrets(task, [settings.images.pull_secret])
    if where.workspace:
        kubernetes.mount_pvc(task, pvc_name=settings.workspace.claim, mount_path=settings.workspace.mount_path)
    for purpose in where.secrets:
        variables = {name: name for name in SECRET_VARIABLES[purpose]}
        kubernetes.use_secret_as_env(
            task, secret_name=settings.secrets[purpose], secret_key_to_env=variables, optional=True
        )
    if where.gpu:
        gpu = settings.gpu
        task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
        for key, value in gpu.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        kubernetes.add_toleration(task, **gpu.toleration)
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path=SHARED_MEMORY, medium="Memory", size_limit=gpu.shared_memory
        )
    return task
