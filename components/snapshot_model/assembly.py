"""How a snapshot comes to stand under its name: gathered in a folder beside it, verified, renamed.

    models/<org>--<name>/.partial-<commit>/   what has arrived so far; the next attempt goes on with it
    models/<org>--<name>/.lock-<commit>       says who is at work (components/shared/lease.py)

All attempts at one commit share that folder, and nothing depends on whose turn it is. What a commit holds never
changes, so every attempt writes the same bytes to the same places: who begins at the end of what is there and writes on
cannot harm another who does the same. A file counts when its digest is right, a snapshot when the folder was renamed,
and of two renames one comes first. Taking turns saves the second download.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.models.folder import check_model_files, likely_weights, small_files, weight_names
from components.models.headers import check_weights
from components.shared import progress
from components.shared.lease import turn
from components.shared.problems import Problems, problem
from components.shared.storage import FOLDER_MODE, TEMPORARY, flush, make_folders, publish_whole, remove
from components.shared.workspace import SNAPSHOT_MANIFEST, check_workspace, folder_bytes
from components.snapshot_model.fetching import fetch_files, size_of, total_bytes, writing
from components.snapshot_model.manifest import (
    Manifest,
    is_complete,
    read_manifest,
    write_manifest,
    wrong_sizes,
)
from components.snapshot_model.model_source import FileInfo, Source

PARTIAL, LOCK = ".partial-", ".lock-"
OTHERS_PATIENCE_SECONDS = 120.0  # without a new byte from whose turn it is, until it counts as stuck
ATTEMPTS = 5  # at a folder that others publish or clear away; each loss means that somebody else came further
ABANDONED_SECONDS = 7 * 24 * 3600.0  # since the last byte of a download that nobody goes on with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembled:
    """What making, mending or finding a snapshot took."""

    manifest: Manifest
    fetched_bytes: int

    @property
    def reused_bytes(self) -> int:
        """What was there already."""
        return max(0, self.manifest.bytes - self.fetched_bytes)


class ManifestMismatch(Exception):
    """A snapshot.json that says something else than the source in the same state."""


def assemble(workspace: Path, final: Path, source: Source) -> Assembled:
    """Have a complete snapshot under its name, whoever makes it.

    Raises:
        Problems: when it cannot be had, cannot be trained, or there is no room for it; what has arrived stays for the
            next attempt.
    """
    partial = final.parent / f"{PARTIAL}{final.name}"
    fetched_bytes = 0
    if not is_complete(final):
        check_workspace(workspace, 0)
    for attempt in range(ATTEMPTS):
        with _turn(final, partial):
            if is_complete(final):
                if attempt:  # what this process wrote after another had published: who comes last leaves nothing
                    shutil.rmtree(partial, ignore_errors=True)
                manifest = read_manifest(final)
                assert manifest
                return Assembled(manifest=manifest, fetched_bytes=fetched_bytes)
            with contextlib.suppress(FileNotFoundError):  # published or cleared away by another: look again
                found = read_manifest(final)
                if found:
                    try:
                        fetched_bytes += mend(final, found, wrong_sizes(final, found), source)
                    except ManifestMismatch:
                        with writing(final):
                            (final / SNAPSHOT_MANIFEST).unlink()
                else:
                    fetched_bytes += _make(workspace, final, partial, source)
    raise problem(
        "others take the download away again and again",
        where=str(partial),
        rule="a snapshot's folder is left alone while it is made",
        remedy="look who clears the workspace, then run again",
    )


def mend(folder: Path, manifest: Manifest, broken: dict[str, str], source: Source) -> int:
    """Fetch a snapshot's broken files again, and nothing else; gives the bytes received.

    Readers of a file that is replaced keep the one that they opened.

    Raises:
        Problems: when they cannot be had.
        ManifestMismatch: when the source has no such files, or other ones; the folder is as it was.
    """
    if broken.keys() - source.files.keys():
        raise ManifestMismatch
    for name, reason in broken.items():
        progress.log(f"{folder / name} {reason}: fetched again")
    partial = folder.parent / f"{PARTIAL}{folder.name}"
    with writing(partial):
        make_folders(partial)
        _keep_files(partial.iterdir())
    # What the source says goes first: the manifest may be what is damaged.
    wanted = {name: source.files[name] if source.files[name].digest else manifest.files[name] for name in broken}
    fetched = fetch_files(partial, wanted, source)
    if any(fetched.files[name] != manifest.files[name] for name in broken):
        shutil.rmtree(partial, ignore_errors=True)
        raise ManifestMismatch
    with writing(folder):
        _keep_files(folder / name for name in broken)
        for name in broken:
            (partial / name).replace(folder / name)
        flush(folder)
    shutil.rmtree(partial, ignore_errors=True)
    return fetched.fetched_bytes


def clear_abandoned(models: Path) -> None:
    """Remove downloads that nobody has gone on with for a week, of any model."""
    for left in [path for prefix in (PARTIAL, LOCK, TEMPORARY) for path in models.glob(f"*/{prefix}*")]:
        with contextlib.suppress(OSError):
            inside = left.iterdir() if left.is_dir() and not left.is_symlink() else ()
            newest = max(path.lstat().st_mtime for path in (left, *inside))
            if time.time() - newest > ABANDONED_SECONDS:
                progress.log(f"removing what nobody has gone on with for a week: {left}")
                remove(left)


def _make(workspace: Path, final: Path, partial: Path, source: Source) -> int:
    def read(name: str) -> bytes:
        return (partial / name).read_bytes()

    # The small files first: they say which weights there are, and whether the model can be trained at all.
    small = {name: source.files[name] for name in small_files(source.files)}
    likely = {name: source.files[name] for name in likely_weights(source.files)}
    _check_room(workspace, partial, {**small, **likely})
    with writing(final):
        make_folders(final.parent)
        _adopt(final, partial)
        make_folders(partial)
        _keep_files(partial.iterdir())
    first = fetch_files(partial, small, source)
    try:
        check_model_files(source.files, read, source.where)
    except Problems:
        shutil.rmtree(partial, ignore_errors=True)  # nothing that another attempt could use
        raise
    weights = {name: source.files[name] for name in weight_names(source.files, read)}
    _check_room(workspace, partial, {**small, **weights})
    second = fetch_files(partial, weights, source)
    try:
        check_weights(partial, list(weights), source.where)
    except Problems:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    files = {**first.files, **second.files}
    manifest = Manifest(
        source=source.name,
        revision=source.revision,
        commit=source.commit,
        bytes=total_bytes(files),
        card=source.card,
        files=files,
    )
    with writing(partial):
        for path in partial.iterdir():
            if path.name not in (*files, SNAPSHOT_MANIFEST):  # of an attempt before, or of the folder that was adopted
                remove(path)
        write_manifest(partial, manifest)
        with contextlib.suppress(PermissionError):  # another pod made it, and with this mode
            partial.chmod(FOLDER_MODE)
        flush(partial)
        publish_whole(partial, final)
        for path in final.glob(f"{TEMPORARY}*"):  # another pod's manifest, which it was writing
            path.unlink()
    return first.fetched_bytes + second.fetched_bytes


def _check_room(workspace: Path, partial: Path, files: dict[str, FileInfo]) -> None:
    """Room for the model and for the adapted one, which is as large; what has arrived has its room already."""
    arrived = sum(min(size_of(partial / name), stated.size) for name, stated in files.items())
    check_workspace(workspace, 2 * total_bytes(files) - arrived)


def _adopt(final: Path, partial: Path) -> None:
    """Take a folder without a manifest for what it is: a snapshot that was not finished here."""
    if not final.is_dir() or read_manifest(final) or not any(final.iterdir()):
        return
    if partial.exists():
        raise problem(
            f"a folder with files and without a readable {SNAPSHOT_MANIFEST} is in the way",
            where=str(final),
            rule="nobody else writes below models/",
            remedy="remove it, then run again",
        )
    final.rename(partial)


def _keep_files(paths: Iterable[Path]) -> None:
    """Remove links, through which something else would be written, and folders, which stand in a file's place."""
    for path in paths:
        if path.is_symlink() or not path.is_file():
            with contextlib.suppress(FileNotFoundError):  # it is not there, or another does the same
                remove(path)


@contextlib.contextmanager
def _turn(final: Path, partial: Path) -> Iterator[None]:
    """Wait until nobody else makes this snapshot, or it is there, or who makes it seems stuck."""
    mine = turn(
        final.parent / f"{LOCK}{final.name}",
        taken=f"{final} is being made by another process",
        is_done=lambda: is_complete(final),
        sign=lambda: _arrived(partial),
        patience_seconds=OTHERS_PATIENCE_SECONDS,
    )
    with contextlib.ExitStack() as stack:
        with writing(final):
            stack.enter_context(mine)
        yield


def _arrived(partial: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # it may be published while it is looked at
        return folder_bytes(partial)
    return 0
