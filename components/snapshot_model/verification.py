"""Whether a snapshot is still what it was: reads all of it, and on request fetches again what is broken."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from components.shared.problems import Checks, problem, quote
from components.shared.storage import remove, sha256_of_file
from components.shared.workspace import SNAPSHOT_MANIFEST
from components.snapshot_model.assembly import assemble_snapshot
from components.snapshot_model.core import open_source
from components.snapshot_model.fetching import writing
from components.snapshot_model.manifest import Manifest, foreign_entries, read_manifest, wrong_sizes
from components.snapshot_model.meter import hash_files

RULE = f"a snapshot's files are as its {SNAPSHOT_MANIFEST} says"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found in one snapshot."""

    path: Path
    source: str
    commit: str
    files: int
    bytes: int
    repaired: tuple[str, ...]
    """Files that were fetched again."""
    removed: tuple[str, ...]
    """What was not the snapshot's."""
    seconds: float


def verify(path: Path, repair: bool) -> list[Verification]:
    """Hash every file of a snapshot, or of all snapshots of a workspace. Raises Problems naming every file that is
    broken and was not repaired."""
    folders = snapshots(path)
    if not folders:
        raise problem(
            "there is no snapshot",
            where=str(path),
            rule=f"a snapshot is a folder with {SNAPSHOT_MANIFEST}; a workspace holds some below models/",
            remedy="name such a folder",
        )
    checks, verified = Checks(), []
    for folder in folders:
        with checks.collecting():
            verified.append(_verify_snapshot(folder, repair))
    checks.raise_if_any()
    return verified


def snapshots(path: Path) -> list[Path]:
    """The folder itself when it is a snapshot, or all of a workspace."""
    if (path / SNAPSHOT_MANIFEST).exists():
        return [path]
    found = (manifest.parent for manifest in path.glob(f"models/*/*/{SNAPSHOT_MANIFEST}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))


def broken_files(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Files that are missing, of another length or of another content, each with what is wrong."""
    broken = wrong_sizes(folder, manifest)
    names = [name for name in manifest.files if name not in broken]
    digests = hash_files((folder / name for name in names), "verifying", _digest_or_error)
    for name, digest in zip(names, digests, strict=True):
        if digest != manifest.files[name].digest:
            broken[name] = digest if " " in digest else "has another content"
    return broken


def _verify_snapshot(folder: Path, repair: bool) -> Verification:
    started = time.monotonic()
    manifest = read_manifest(folder)
    if manifest is None:
        raise problem(
            f"{SNAPSHOT_MANIFEST} is damaged",
            where=str(folder),
            rule=RULE,
            remedy="run the pipeline with this model: it makes the snapshot anew from what is there",
        )
    foreign = foreign_entries(folder, manifest)
    if repair:
        with writing(folder):
            for name in foreign:
                remove(folder / name)
    checks = Checks()
    for name in () if repair else foreign:
        what = f"{quote(name)} does not belong to the snapshot"
        checks.add(what, where=str(folder), rule=RULE, remedy=f"osft-pipeline verify --repair {folder}")
    broken = broken_files(folder, manifest)
    remedy = "make its source readable again" if repair else f"osft-pipeline verify --repair {folder}"
    for name, reason in broken.items():
        checks.add(f"{name} {reason}", where=str(folder), rule=RULE, remedy=remedy)
    if broken and repair:
        with checks.collecting():
            manifest = assemble_snapshot(folder.parents[2], folder, open_source(manifest), repair=True).manifest
            checks = Checks()
    checks.raise_if_any()
    return Verification(
        path=folder,
        source=manifest.source,
        commit=manifest.commit,
        files=len(manifest.files),
        bytes=manifest.bytes,
        repaired=tuple(broken),
        removed=tuple(foreign),
        seconds=time.monotonic() - started,
    )


def _digest_or_error(path: Path, seen: Callable[[int], None]) -> str:
    try:
        return sha256_of_file(path, seen)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
