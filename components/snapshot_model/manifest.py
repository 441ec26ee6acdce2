"""`snapshot.json`, which says that a snapshot is complete, and `revisions.json`, which says what a branch was.

{"source": "ibm-granite/granite-3.2-8b-instruct", "revision": "main", "commit": "0123...", "bytes": 16340000000,
 "card": {"license": "apache-2.0", "base_model": ["ibm-granite/granite-3.2-8b-base"]},
 "files": [{"name": "config.json", "size": 787, "sha256": "..."}, ...]}
"""

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

from components.snapshot_model.source import Stated
from components.storage import read_json, write_json
from components.workspace import SNAPSHOT_MANIFEST

REVISIONS = "revisions.json"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a complete snapshot holds."""

    source: str
    revision: str
    commit: str
    bytes: int
    card: dict[str, Any]
    files: dict[str, Stated]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    files = [
        {"name": name, "size": stated.size, "sha256": stated.digest} for name, stated in sorted(manifest.files.items())
    ]
    values = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(manifest)}
    write_json(folder / SNAPSHOT_MANIFEST, {**values, "files": files})


def read_manifest(folder: Path) -> Manifest | None:
    """What `snapshot.json` says; None when it is not there, or damaged: then the folder is not a complete snapshot."""
    try:
        values = read_json(folder / SNAPSHOT_MANIFEST)
        files = {
            str(file["name"]): Stated(size=int(file["size"]), digest=str(file["sha256"])) for file in values["files"]
        }
        if not files or any("/" in name or not SHA256.fullmatch(stated.digest) for name, stated in files.items()):
            return None
        return Manifest(
            source=str(values["source"]),
            revision=str(values["revision"]),
            commit=str(values["commit"]),
            bytes=sum(stated.size for stated in files.values()),
            card=dict(values.get("card", {})),
            files=files,
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def wrong_sizes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Files that are missing or of another length, each with what is wrong; reads no content."""
    wrong = {}
    for name, stated in manifest.files.items():
        path = folder / name
        if not path.is_file():
            wrong[name] = "is missing"
        elif (size := path.stat().st_size) != stated.size:
            wrong[name] = f"has {size} bytes instead of {stated.size}"
    return wrong


def is_complete(folder: Path) -> bool:
    """A manifest is there, and each of its files with its size."""
    manifest = read_manifest(folder)
    return manifest is not None and not wrong_sizes(folder, manifest)


def remember_revision(folder: Path, revision: str, commit: str) -> None:
    """Keep what a branch or tag was, for when the hub cannot be asked.

    One file for all of a model's revisions: a name of a branch is not always one of a file. Of two pods that write at
    the same time one may lose its entry, and writes it again the next time.
    """
    known = _revisions(folder)
    if known.get(revision) != commit:
        write_json(folder / REVISIONS, {**known, revision: commit})


def remembered_commit(folder: Path, revision: str) -> str | None:
    """The commit that a branch or tag was when the hub was last asked."""
    return _revisions(folder).get(revision)


def _revisions(folder: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        known = read_json(folder / REVISIONS)
        if isinstance(known, dict):
            return {name: commit for name, commit in known.items() if isinstance(commit, str)}
    return {}
