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

from components.models.folder import is_plain_name
from components.shared.problems import problem
from components.shared.source_errors import VOLUME_AWAY
from components.shared.storage import read_json, write_json
from components.shared.workspace import COMMIT, SNAPSHOT_MANIFEST
from components.snapshot_model.model_source import MAX_FILE_BYTES, FileInfo

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
    files: dict[str, FileInfo]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    files = [{"name": name, "size": info.size, "sha256": info.digest} for name, info in sorted(manifest.files.items())]
    values = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(manifest)}
    write_json(folder / SNAPSHOT_MANIFEST, {**values, "files": files})


def read_manifest(folder: Path) -> Manifest | None:
    """What `snapshot.json` says; None when it is not there, or damaged: then the folder is not a complete snapshot.
    Raises Problems when it is there and may not be read."""
    path = folder / SNAPSHOT_MANIFEST
    try:
        values: Any = None if path.is_symlink() else read_json(path)
        described = [(file["name"], file["size"], file["sha256"]) for file in values["files"]]
        source, revision, commit, card = values["source"], values["revision"], values["commit"], values.get("card", {})
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, TypeError, KeyError):
        return None
    except OSError as error:
        raise problem(
            f"{SNAPSHOT_MANIFEST} cannot be read: {error.strerror}",
            where=str(folder),
            rule="the workspace is read as any user of group 0",
            remedy="make it readable (chmod -R g+rX), then run again",
            may_pass=error.errno in VOLUME_AWAY,
        ) from None
    strings = [source, revision, commit, *(value for name, _, digest in described for value in (name, digest))]
    if (
        not all(isinstance(value, str) for value in strings)
        or not isinstance(card, dict)
        or not all(
            is_plain_name(name) and name != SNAPSHOT_MANIFEST and SHA256.fullmatch(digest)
            for name, _, digest in described
        )
        or not all(type(size) is int and 0 <= size <= MAX_FILE_BYTES for _, size, _ in described)
        or not described
        or commit != folder.name
    ):
        return None
    files = {name: FileInfo(size=size, digest=digest) for name, size, digest in described}
    return Manifest(
        source=source,
        revision=revision,
        commit=commit,
        bytes=sum(info.size for info in files.values()),
        card=card,
        files=files,
    )


def wrong_sizes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Files that are missing, of another length or elsewhere, each with what is wrong; reads no content."""
    wrong = {}
    for name, info in manifest.files.items():
        path = folder / name
        if path.is_symlink():
            wrong[name] = "is a link"
        elif not path.is_file():
            wrong[name] = "is missing"
        elif (size := path.stat().st_size) != info.size:
            wrong[name] = f"has {size} bytes instead of {info.size}"
    return wrong


def foreign_entries(folder: Path, manifest: Manifest) -> list[str]:
    """What stands in a snapshot's folder and does not belong to it; a tokenizer may read it all the same."""
    return sorted({path.name for path in folder.iterdir()} - {*manifest.files, SNAPSHOT_MANIFEST})


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
    with contextlib.suppress(OSError, ValueError):
        known = read_json(folder / REVISIONS)
        if isinstance(known, dict):
            return {name: commit for name, commit in known.items() if COMMIT.fullmatch(str(commit))}
    return {}
