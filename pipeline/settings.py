"""What is particular to a cluster, known when the pipeline is compiled; cluster_files/default.toml documents it."""

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from components.run.publication import registry_address
from components.shared.documents import load_toml, read_text
from components.shared.problems import MAX_QUOTE, Checks, problem, suggest
from pipeline.settings_rules import check_values

# Their keys are Kubernetes'. Labels and annotations are added to the default's; another pool has another selector.
ADDED_TABLES = ("labels", "annotations")
REPLACED_TABLES = ("gpu.node_selector",)
MAX_BYTES = 1 << 16  # of a cluster file; the default one has a twentieth of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    cpu: str
    gpu: str
    pull_secret: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workspace:
    claim: str
    mount_path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    count: str
    """"0": the steps of a GPU run on the CPU."""
    resource: str
    memory_gib: float
    shared_memory: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRegistry:
    url: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reach:
    judge_hosts: list[str]
    private_data_hosts: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notify:
    enabled: bool
    runs_page: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kueue:
    queue: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Security:
    run_as_non_root: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """A cluster file on top of the default one."""

    images: Images
    workspace: Workspace
    gpu: Gpu
    model_registry: ModelRegistry
    reach: Reach
    notify: Notify
    kueue: Kueue
    security: Security
    labels: dict[str, str]
    annotations: dict[str, str]
    secrets: dict[str, str]
    """Secret's name per purpose."""
    resources: dict[str, dict[str, str]]
    """cpu and memory requests per kind of step."""
    timeout_seconds: dict[str, int]
    retries: dict[str, int]


def load_settings(cluster_file: Path | None = None) -> ClusterSettings:
    """The default cluster's settings with those of a file over them. Raises Problems when the file cannot be read, or
    naming every key that is unknown, and every value that is of another type than the default's or cannot be."""
    values = tomllib.loads(
        resources.files("pipeline.cluster_files").joinpath("default.toml").read_text(encoding="utf-8")
    )
    if cluster_file is not None:
        checks = Checks()
        values = _merged(values, _read(cluster_file), str(cluster_file), "", checks)
        check_values(values, str(cluster_file), checks)
        checks.raise_if_any()
        values["model_registry"]["url"] = registry_address(values["model_registry"]["url"])
    return ClusterSettings(
        images=Images(**values.pop("images")),
        workspace=Workspace(**values.pop("workspace")),
        gpu=Gpu(**values.pop("gpu")),
        model_registry=ModelRegistry(**values.pop("model_registry")),
        reach=Reach(**values.pop("reach")),
        notify=Notify(**values.pop("notify")),
        kueue=Kueue(**values.pop("kueue")),
        security=Security(**values.pop("security")),
        **values,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return load_toml(read_text(path, MAX_BYTES))
    except FileNotFoundError:
        what = "no such file"
    except IsADirectoryError:
        what = "this is a folder"
    except ValueError as error:
        what = f"the file is no TOML: {error}"
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
    raise problem(
        what,
        where=f"cluster file {path}",
        rule="a cluster file is TOML with the keys of pipeline/cluster_files/default.toml",
        remedy="start from a copy of pipeline/cluster_files/default.toml and keep what differs",
    )


def _merged(default: dict[str, Any], own: dict[str, Any], where: str, prefix: str, checks: Checks) -> dict[str, Any]:
    merged = dict(default)
    for key, value in own.items():
        name = f"{prefix}{key}"
        if key not in default:
            checks.add(
                f"unknown key {name}{suggest(key, default)}",
                where=where,
                rule=f"keys known here: {', '.join(default)}",
                remedy="correct the key or remove it",
            )
        elif type(value) is int and type(default[key]) is float:
            merged[key] = float(value)
        elif type(value) is not type(default[key]):
            checks.add(
                f"{name} is {repr(value)[:MAX_QUOTE]}",
                where=where,
                rule=f"a value like the default's, {default[key]!r}",
                remedy=f"write a {type(default[key]).__name__}",
            )
        elif name in ADDED_TABLES:
            merged[key] = default[key] | value
        elif isinstance(value, dict) and name not in REPLACED_TABLES:
            merged[key] = _merged(default[key], value, where, f"{name}.", checks)
        else:
            merged[key] = value
    return merged
