"""Where and under which name a run's model is published.

`<workspace>/runs/<run key>/published.json`:

    {"name": "granite-3.2-8b-instruct-osft", "version": "6fdfa8e78ea3eea2", "registry": "https://...", "entry": "12",
     "uri": "pvc://osft-workspace/adapted/6fdfa8e78ea3eea2", "published_at": "2026-11-22T04:10:00+00:00"}
"""

import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from components.shared.problems import problem, quote
from components.shared.storage import from_dict, read_json
from components.shared.workspace import PUBLISHED, run_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]+")  # a name, or an IPv6 address, which a URL has in brackets
REGISTRY_RULE = "https:// or http://, a host, optionally a port; no path, user, password or query"
SUFFIX = "-osft"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """`published.json`."""

    name: str
    version: str
    """The model's folder below adapted/: the run key, with the share behind it for a rewound model."""
    registry: str
    """Address of the model registry; empty when there is none."""
    entry: str
    """Id of the version in the registry; empty without one."""
    uri: str
    published_at: str
    """ISO 8601, UTC."""

    @property
    def time(self) -> datetime:
        """With a time zone, also where an older release wrote none. Raises ValueError when it is no time."""
        at = datetime.fromisoformat(self.published_at)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


def registered_name(publish_as: str, source: str) -> str:
    """The name to register a model under: the user's, or the base model's, as the snapshot has it, with a suffix.
    Raises Problems when it is not a valid name."""
    name = publish_as.strip() or re.sub(r"[^A-Za-z0-9._-]+", "-", source.rstrip("/").rsplit("/", 1)[-1]) + SUFFIX
    if not NAME.fullmatch(name):
        raise problem(
            f"{quote(name)} is not a valid name for a registered model",
            where="parameter publish_as",
            rule="up to 127 letters, digits, dots, dashes and underscores, a letter or digit first",
            remedy="for instance --publish-as granite-handbook (on a cluster: publish_as=granite-handbook)",
        )
    return name


def registry_address(url: str) -> str:
    """A model registry's address as its client needs it: scheme, host, and a port if it has one.

    The client appends a port to an address without one, even after a path. Raises Problems when it has more or fewer
    parts. It is not shown, as it might hold a password."""
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


def read_publication(workspace: Path, run_key: str) -> Published | None:
    """A run's publication; None when it is not published."""
    note = run_folder(workspace, run_key) / PUBLISHED
    return from_dict(Published, read_json(note)) if note.exists() else None


def is_published(workspace: Path, run_key: str, model: str, name: str, registry: str) -> bool:
    """Whether a run's model, its folder below adapted/, is published under this name, in this registry."""
    found = read_publication(workspace, run_key)
    return found is not None and (found.version, found.name, found.registry) == (model, name, registry)
