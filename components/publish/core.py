"""Publish a good model: an entry in the model registry with its lineage, and published.json in the workspace
(components/run/publication.py), written last.

The model's version is the run key, of a rewound model with its share: a training is never registered twice, and two
models never share a version.
Without a registry, published.json is all there is; KServe serves the model from its `uri`.
"""

import asyncio
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.models.reference import find_model, refer_to
from components.run.evaluation import Summary
from components.run.plan import TrainingPlan
from components.run.publication import Published, is_published, read_publication, registry_address
from components.run.training_report import TrainingReport
from components.shared import progress, records
from components.shared.problems import problem
from components.shared.storage import write_json
from components.shared.workspace import PUBLISHED, TRAINING_REPORT, run_folder

if TYPE_CHECKING:
    from model_registry.core import ModelRegistryAPIClient

AUTHOR = "osft-pipeline"
FORMAT = ("safetensors", "1")
TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")  # where Kubernetes has a pod's own token
TIMEOUT_SECONDS = 120.0


def publish(*, adapted: Path, plan: Path, workspace: Path, claim: str, registry: str, note: Path) -> Published:
    """Publish the model that the evaluation found good, unless it is published already.

    Args:
        adapted: the output of train_osft, which names the adapted model; a rewound one lies beside it.
        plan: the output of plan_training, which names the model.
        claim: the workspace's PersistentVolumeClaim, if there is one.
        registry: the address of the model registry, if there is one; it gets the pod's token, so no file names it.
        note: file to make: which model, and where (components/models/reference.py).

    Raises:
        Problems: when the registry cannot be used, or has another model under the same name and version.
    """
    planned = TrainingPlan.read(plan)
    key, name = planned.run_key, planned.publish["name"]
    summary = Summary.read(run_folder(workspace, key))
    model = find_model(adapted, workspace)
    if model.name != summary.model:
        model = _rewound(model.with_name(summary.model))
    refer_to(model, TRAINING_REPORT, workspace, commit=planned.model_commit, run_key=key).write(note)
    done = read_publication(workspace, key)
    if done and is_published(workspace, key, model.name, name, registry):
        progress.log(f"already published as {done.name}, version {done.version}: {done.uri}")
    else:
        uri = servable_uri(model, claim, workspace)
        lineage = _lineage(TrainingReport.read(model), summary)
        entry = _register(registry, name, model.name, uri, lineage, summary.verdict) if registry else ""
        done = Published(
            name=name,
            version=model.name,
            registry=registry,
            entry=entry,
            uri=uri,
            published_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_json(run_folder(workspace, key) / PUBLISHED, dataclasses.asdict(done))
        progress.log(
            f"published as {name}, version {done.version}: {uri}" + ("" if registry else "; no model registry is set")
        )
    records.note(model=f"{done.name} {done.version}", uri=done.uri)
    return done


def _rewound(model: Path) -> Path:
    """The model that the evaluation made, which no note names. Raises Problems when it is gone."""
    if not (model / TRAINING_REPORT).is_file():
        raise problem(
            "the model that was found good is not there any more",
            where=str(model),
            rule="the evaluation wrote it, with a share of the training's change",
            remedy="run the pipeline again: it is evaluated and written again, and not trained",
            may_pass=True,
        )
    return model


def servable_uri(adapted: Path, claim: str, workspace: Path) -> str:
    """The address for a server of a model in the workspace: `pvc://<claim>/<path>`, `file://` without a claim."""
    if claim:
        return f"pvc://{claim}/{adapted.resolve().relative_to(workspace.resolve()).as_posix()}"
    return adapted.resolve().as_uri()


def _lineage(training: TrainingReport, summary: Summary) -> dict[str, str | int | float]:
    """The model's origin and its results, as properties for the registry."""
    plan = training.plan
    found = {
        "base_model": plan.model_source,
        "base_model_commit": plan.model_commit,
        "data": plan.data_source,
        "data_digest": plan.data_digest,
        "samples": plan.samples,
        "system_prompt": plan.system_prompt,
        "trainer": training.trainer,
        "loss_last": training.loss_last,
        "share_of_change": training.rewound,
        "starts_from": plan.starts_from or "base model",
        **{f"generation_{number}": one.words for number, one in enumerate(plan.lineage, 1)},
        **{f"version_{name}": version for name, version in training.versions.items()},
        **{f"option_{name}": value for name, value in plan.options.items() if value is not None},
        **{f"evaluation_{name}": value for name, value in summary.metrics.items()},
    }
    return {name: value if isinstance(value, int | float) else str(value) for name, value in found.items()}


def _register(
    registry: str, name: str, version: str, uri: str, lineage: dict[str, str | int | float], verdict: str
) -> str:
    """Create or find the version's entry and return its id. Raises Problems when the registry cannot be used, or the
    entry is another model's."""
    import aiohttp
    from model_registry.exceptions import StoreError
    from mr_openapi.exceptions import ApiException

    registry = registry_address(registry)
    where = f"model registry {registry}, model {name}, version {version}"
    rule = "a good model is registered in the registry of the cluster file, with the pod's own token"
    try:
        entry, registered = asyncio.run(_entry(registry, name, version, uri, lineage, verdict))
    except (ApiException, StoreError) as error:
        status = getattr(error, "status", None)
        what = f"the model registry answered {status or type(error).__name__}"
        remedy = (
            "give the pipeline's service account the registry's user role (docs/install-openshift-ai.md)"
            if status in (401, 403)
            else "check the registry's pods, then run again: the model is published without training again"
        )
        may_pass = status is not None and (status in (408, 429) or status >= 500)
        raise problem(what, where=where, rule=rule, remedy=remedy, may_pass=may_pass) from None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        what = f"the model registry cannot be reached: {type(error).__name__}"
        remedy = (
            "check model_registry.url and the certificates that pods trust, then run again: nothing is trained twice"
        )
        may_pass = not isinstance(error, ValueError | FileNotFoundError)  # untrusted certificates, a missing token
        raise problem(what, where=where, rule=rule, remedy=remedy, may_pass=may_pass) from None
    if registered != uri:
        raise problem(
            f"this version is registered with another URI: {registered}",
            where=where,
            rule=f"a version is one model; this one is {uri}",
            remedy="archive that version in the registry, or run again with another name: publish_as=NAME",
        )
    return entry


async def _entry(
    registry: str, name: str, version: str, uri: str, lineage: dict[str, str | int | float], verdict: str
) -> tuple[str, str]:
    """A version's id and the model's URI in the registry; resumes what a killed attempt began."""
    from model_registry.types import ModelArtifact, ModelVersion, RegisteredModel

    async with asyncio.timeout(TIMEOUT_SECONDS):
        api = _client(registry)
        model = await api.get_registered_model_by_params(name=name) or await api.upsert_registered_model(
            RegisteredModel(name=name, owner=AUTHOR, description="Adapted with OSFT")
        )
        found = await api.get_model_version_by_params(
            registered_model_id=str(model.id), name=version
        ) or await api.upsert_model_version(
            ModelVersion(name=version, author=AUTHOR, description=verdict, custom_properties=lineage), str(model.id)
        )
        artifacts = await api.get_model_artifacts(str(found.id))
        if artifacts:
            progress.log(f"the registry already has {name}, version {version}")
            return str(found.id), str(artifacts[0].uri)
        artifact = ModelArtifact(name=name, uri=uri, model_format_name=FORMAT[0], model_format_version=FORMAT[1])
        await api.upsert_model_version_artifact(artifact, str(found.id))
        return str(found.id), uri


def _client(registry: str) -> "ModelRegistryAPIClient":
    """The token is sent over TLS only."""
    from model_registry.core import ModelRegistryAPIClient

    if registry.startswith("https://"):
        token = TOKEN_FILE.read_text(encoding="utf-8").strip()
        return ModelRegistryAPIClient.secure_connection(registry, user_token=token)
    return ModelRegistryAPIClient.insecure_connection(registry, 8080)
