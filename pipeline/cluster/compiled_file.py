"""A compiled pipeline, read back from its file: what runs, with which images and parameters."""

import dataclasses
from pathlib import Path
from typing import Any

from components.shared.documents import load_yaml, read_text
from components.shared.problems import list_some, problem
from components.shared.reach import WORKSPACE
from components.shared.storage import sha256_of_json
from pipeline.settings_rules import registry_host

PIPELINE = Path(__file__).parents[1] / "compiled" / "osft.yaml"
MAX_BYTES = 1 << 18  # a pipeline has a fifth of it; 64 KiB of YAML take seconds to read
DIGEST_DIGITS = 12  # of the content's digest, in a version's name
NOWHERE = ".invalid"  # no host below it exists (RFC 2606); the default cluster's images are there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    kind: str
    """KFP's parameterType."""
    required: bool
    default: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledPipeline:
    path: Path
    name: str
    digest: str
    """SHA-256 of the content; comments and layout do not count."""
    steps: tuple[str, ...]
    """Names of the tasks."""
    images: frozenset[str]
    """Names of all images."""
    parameters: dict[str, Parameter]
    mount_path: str
    """Where its steps have the workspace volume."""
    runs_page: str
    """The dashboard's page of the project's runs, from the cluster file; empty when that names none."""

    @property
    def version(self) -> str:
        """A name that stands for this content and no other."""
        return f"{self.name}-{self.digest[:DIGEST_DIGITS]}"


def read_pipeline(path: Path) -> CompiledPipeline:
    """Read a compiled pipeline. Raises Problems when the file is none."""
    if path.suffix not in (".yaml", ".yml"):
        raise problem(
            "this is no compiled pipeline",
            where=str(path),
            rule="a file whose name ends in .yaml or .yml: the API goes by it",
            remedy="rename the file, if it is a pipeline that osft-pipeline compile wrote",
        )
    documents = read_yaml(path, "compiled pipeline", "osft-pipeline compile -o FILE.yaml writes one")
    try:
        content = [document for document in documents if document is not None]
        pipeline, _ = content
        dags = [pipeline["root"]["dag"], *(c["dag"] for c in pipeline["components"].values() if "dag" in c)]
        tasks = {name: task for dag in dags for name, task in dag["tasks"].items()}
        inputs = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
        notify = tasks.get("notify", {}).get("inputs", {}).get("parameters", {})
        return CompiledPipeline(
            path=path,
            name=str(pipeline["pipelineInfo"]["name"]),
            digest=sha256_of_json(content),
            steps=tuple(tasks),
            images=frozenset(
                str(executor["container"]["image"]) for executor in pipeline["deploymentSpec"]["executors"].values()
            ),
            parameters={
                name: Parameter(
                    kind=definition["parameterType"],
                    required=not definition.get("isOptional", False) and "defaultValue" not in definition,
                    default=definition.get("defaultValue"),
                )
                for name, definition in inputs.items()
            },
            mount_path=_mount_path(pipeline["deploymentSpec"]["executors"]),
            runs_page=str(notify.get("runs_page", {}).get("runtimeValue", {}).get("constant", "")),
        )
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        raise problem(
            "this is no compiled pipeline",
            where=str(path),
            rule="the YAML that osft-pipeline compile writes: the pipeline, and its Kubernetes settings behind it",
            remedy="give the file that osft-pipeline compile -o FILE.yaml wrote",
        ) from None


def _mount_path(executors: dict[str, Any]) -> str:
    variables = [variable for executor in executors.values() for variable in executor["container"].get("env", [])]
    return next((str(variable["value"]) for variable in variables if variable["name"] == WORKSPACE), "")


def check_images(pipeline: CompiledPipeline) -> None:
    """Refuse placeholders: a name without a host is pulled from whatever registry the node is set to search, and
    whoever owns the name there would be given the secrets. Raises Problems when the pipeline's images are not the
    user's own."""
    hosts = {image: registry_host(image).partition(":")[0] for image in pipeline.images}
    placeholders = sorted(image for image, host in hosts.items() if not host or host.endswith(NOWHERE))
    if placeholders:
        raise problem(
            f"images of the pipeline are placeholders: {list_some(placeholders)}",
            where=str(pipeline.path),
            rule="an image's name begins with the host of the registry that the cluster pulls it from",
            remedy="name your images in a cluster file, run osft-pipeline compile --cluster my-cluster.toml "
            "-o pipeline.yaml, and give that file (submit and schedule: --pipeline pipeline.yaml)",
        )


def read_yaml(path: Path, kind: str, remedy: str, max_bytes: int = MAX_BYTES) -> list[Any]:
    """The documents of a YAML file. Raises Problems when it cannot be read."""
    try:
        return load_yaml(read_text(path, max_bytes))
    except FileNotFoundError:
        what = "no such file"
    except IsADirectoryError:
        what = "this is a folder"
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
    except ValueError as error:
        what = f"the file is no YAML: {error}"
    raise problem(what, where=f"{kind} {path}", rule="a YAML file in UTF-8, without aliases", remedy=remedy)
