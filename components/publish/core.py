"""A good model becomes available: an entry in the model registry with its lineage, and a note in the workspace.

`<workspace>/runs/<run key>/published.json`, written last, says that it is done:

    {"name": "granite-3.2-8b-instruct-osft", "version": "6fdfa8e78ea3eea2", "registry": "https://...", "entry": "12",
     "uri": "pvc://osft-workspace/adapted/6fdfa8e78ea3eea2", "published_at": "2026-11-22T04:10:00+00:00"}

The model's version is the run key: the same training is never registered twice, and another one never hides behind the
same name. Without a registry the note is all there is; `uri` is what KServe serves the model from.
"""

import asyncio
import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.shared import progress, records
from components.shared.problems import problem, quote
from components.shared.storage import from_dict, read_json, write_json
from components.shared.workspace import PUBLISHED, SUMMARY, TRAINING_REPORT, run_folder

if TYPE_CHECKING:
    from model_registry.core import ModelRegistryAPIClient

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]+")  # a name or an address; the latter stands in brackets
REGISTRY_RULE = "https:// or http://, a host, a port if it is not the usual one; no path, user, password or query"
SUFFIX = "-osft"
AUTHOR = "osft-pipeline"
FORMAT = ("safetensors", "1")
TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")  # where Kubernetes has a pod's own token
TIMEOUT_SECONDS = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """`published.json`."""

    name: str
    version: str
    registry: str
    """Address of the model registry; empty when there is none."""
    entry: str
    """Id of the version in the registry; empty without one."""
    uri: str
    published_at: str
    """ISO 8601, UTC."""


def registered_name(publish_as: str, source: str) -> str:
    """The name to register a model under: the user's, or the base model's with a suffix.

    Args:
        source: `org/name` or a folder, as the snapshot has it.

    Raises:
        Problems: when the name cannot be one.
    """
    name = publish_as.strip() or re.sub(r"[^A-Za-z0-9._-]+", "-", source.rstrip("/").rsplit("/", 1)[-1]) + SUFFIX
    if not NAME.fullmatch(name):
        raise problem(
            f"{quote(name)} cannot be a registered model's name",
            where="parameter publish_as",
            rule="up to 127 letters, digits, dots, dashes and underscores, a letter or digit first",
            remedy="for instance granite-3.2-8b-handbook",
        )
    return name


def registry_address(url: str) -> str:
    """A model registry's address as its client needs it: scheme, host, and a port where one is given.

    The client puts a port behind an address that has none, whatever stands at its end.

    Raises:
        Problems: when there is more in it, or less. What is in it is not shown: it might be a password.
    """
    if not url.strip():
        return ""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    rest = (parts.path.removeprefix("/"), parts.query, parts.fragment, "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(host) or any(rest):
        raise problem(
            "this is not the address of a model registry",
            where="model_registry.url in the cluster file",
            rule=REGISTRY_RULE,
            remedy="for instance https://registry.example.com",
        )
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


def is_published(workspace: Path, run_key: str, name: str, registry: str) -> bool:
    """Whether a run's model is published under this name, in this registry."""
    note = run_folder(workspace, run_key) / PUBLISHED
    if not note.exists():
        return False
    found = read_json(note)
    return bool(found["name"] == name and found["registry"] == registry)


def publish(*, adapted: Path, plan: Path, workspace: Path, claim: str, mount_path: str) -> Published:
    """Register an adapted model, unless it is.

    Args:
        adapted: the adapted model.
        plan: what plan_training made; names the model and the registry.
        workspace: the run's workspace.
        claim: the PersistentVolumeClaim that holds it; empty where there is none.
        mount_path: where the claim is mounted.

    Raises:
        Problems: when the registry cannot be used, or holds another model under the same name and version.
    """
    planned = read_json(plan)
    key, name, registry = planned["run_key"], planned["publish"]["name"], planned["publish"]["registry"]
    note = run_folder(workspace, key) / PUBLISHED
    if is_published(workspace, key, name, registry):
        done = from_dict(Published, read_json(note))
        progress.log(f"already published as {done.name}, version {done.version}: {done.uri}")
    else:
        uri = servable_uri(adapted, claim, mount_path)
        summary = read_json(run_folder(workspace, key) / SUMMARY)
        lineage = _lineage(read_json(adapted / TRAINING_REPORT), summary)
        entry = _register(registry, name, key, uri, lineage, summary["verdict"]) if registry else ""
        done = Published(
            name=name,
            version=key,
            registry=registry,
            entry=entry,
            uri=uri,
            published_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_json(note, dataclasses.asdict(done))
        progress.log(f"published as {name}, version {key}: {uri}" + ("" if registry else "; no model registry is set"))
    records.note(model=f"{done.name} {done.version}", uri=done.uri)
    return done


def servable_uri(adapted: Path, claim: str, mount_path: str) -> str:
    """Where a server finds a model: `pvc://<claim>/<path>` on the claim, `file://` elsewhere."""
    if claim and adapted.is_relative_to(mount_path):
        return f"pvc://{claim}/{adapted.relative_to(mount_path).as_posix()}"
    return adapted.resolve().as_uri()


def _lineage(training: dict[str, Any], summary: dict[str, Any]) -> dict[str, str | int | float]:
    """What the model came from and what it achieved, as the registry's properties."""
    plan = training["plan"]
    options = {f"option_{name}": value for name, value in plan["options"].items() if value is not None}
    measured = {f"evaluation_{name}": value for name, value in summary["metrics"].items()}
    found = {
        "base_model": plan["model"]["source"],
        "base_model_commit": plan["model"]["commit"],
        "data": plan["data"]["ingest"]["data"],
        "data_digest": plan["data"]["data_digest"],
        "samples": plan["samples"],
        "system_prompt": plan["data"]["system_prompt"],
        "trainer": training["trainer"],
        "loss_last": training["loss_last"],
        **{f"version_{name}": version for name, version in training["versions"].items()},
        **options,
        **measured,
    }
    return {name: value if isinstance(value, int | float) else str(value) for name, value in found.items()}


def _register(
    registry: str, name: str, version: str, uri: str, lineage: dict[str, str | int | float], verdict: str
) -> str:
    """Make the version's entry, or find it; its id.

    Raises:
        Problems: when the registry cannot be used, or the entry is another model's.
    """
    import aiohttp
    from model_registry.exceptions import StoreError
    from mr_openapi.exceptions import ApiException

    registry = registry_address(registry)
    where = f"model registry {registry}, model {name}, version {version}"
    rule = "a good model is registered in the registry that the cluster file names, with the pod's own token"
    try:
        entry, registered = asyncio.run(_entry(registry, name, version, uri, lineage, verdict))
    except (ApiException, StoreError) as error:
        status = getattr(error, "status", None)
        what = f"the model registry answered {status or type(error).__name__}"
        remedy = (
            "give the pipeline's service account the registry's user role"
            if status in (401, 403)
            else "look at the registry's pods; a new run publishes the model without training it again"
        )
        raise problem(what, where=where, rule=rule, remedy=remedy) from None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        what = f"the model registry cannot be reached: {type(error).__name__}"
        remedy = "check the address, and the certificates that pods trust; a new run publishes without training again"
        raise problem(what, where=where, rule=rule, remedy=remedy) from None
    if registered != uri:
        raise problem(
            f"this version is registered with another address: {registered}",
            where=where,
            rule=f"a version stands for one model; this one is {uri}",
            remedy="archive that version in the registry, or publish under another name (publish_as)",
        )
    return entry


async def _entry(
    registry: str, name: str, version: str, uri: str, lineage: dict[str, str | int | float], verdict: str
) -> tuple[str, str]:
    """A version's id and the model's address in the registry; what a killed attempt has made is gone on with."""
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
            progress.log(f"the registry has {name}, version {version} already")
            return str(found.id), str(artifacts[0].uri)
        artifact = ModelArtifact(name=name, uri=uri, model_format_name=FORMAT[0], model_format_version=FORMAT[1])
        await api.upsert_model_version_artifact(artifact, str(found.id))
        return str(found.id), uri


def _client(registry: str) -> "ModelRegistryAPIClient":
    """A token goes over TLS only."""
    from model_registry.core import ModelRegistryAPIClient

    if registry.startswith("https://"):
        token = TOKEN_FILE.read_text(encoding="utf-8").strip()
        return ModelRegistryAPIClient.secure_connection(registry, user_token=token)
    return ModelRegistryAPIClient.insecure_connection(registry, 8080)
