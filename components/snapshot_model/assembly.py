"""How a snapshot comes to stand under its name: gathered in a folder beside it, verified, renamed.

    models/<org>--<name>/.partial-<commit>/   what has arrived so far; the next attempt resumes from it
    models/<org>--<name>/.lock-<commit>       names the process at work (components/shared/lease.py)

All attempts at one commit share that folder, and nothing depends on who holds the lease. What a commit holds never
changes, so every attempt writes the same bytes to the same places: two that append to the same file cannot harm each
other. A file counts when its digest is right, a snapshot when the folder was renamed, and of two renames one comes
first. The lease saves the second download.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from components.data import chat
from components.models.folder import check_model_files, likely_weights, small_files, weight_names
from components.models.headers import check_copies
from components.models.trial import try_model
from components.shared import progress
from components.shared.lease import hold_lease
from components.shared.problems import Problems, problem
from components.shared.storage import FOLDER_MODE, TEMPORARY, flush, make_folders, publish_whole, remove
from components.shared.workspace import SNAPSHOT_MANIFEST, check_workspace, folder_bytes
from components.snapshot_model.beginnings import check_beginnings
from components.snapshot_model.fetching import Fetched, fetch_files, size_of, total_bytes, writing
from components.snapshot_model.manifest import Manifest, is_complete, read_manifest, write_manifest, wrong_sizes
from components.snapshot_model.model_source import FileInfo, Source

PARTIAL, LOCK = ".partial-", ".lock-"
LEASE_TIMEOUT_SECONDS = 120.0  # without a new byte from the process at work, until it counts as stuck
ATTEMPTS = 5  # at a folder that others publish or clear away; each loss means that another made progress
ABANDONED_SECONDS = 7 * 24 * 3600.0  # since the last byte of a download that nobody resumes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A complete snapshot, and what it took to make, repair or find it."""

    manifest: Manifest
    fetched_bytes: int

    @property
    def reused_bytes(self) -> int:
        """What was there already."""
        return max(0, self.manifest.bytes - self.fetched_bytes)


def assemble_snapshot(
    workspace: Path, final: Path, source: Source, tried_with: Sequence[chat.Message] = (), *, repair: bool = False
) -> Snapshot:
    """Have a complete snapshot under its name, whoever makes it; what has arrived stays for the next attempt.

    Args:
        tried_with: a conversation that the model is tried with before its weights are fetched; empty for none.
        repair: verify every file of a snapshot that looks complete, too, and fetch those that are broken.

    Raises:
        Problems: when it cannot be had, cannot be trained, or there is no room for it.
    """
    partial = final.parent / f"{PARTIAL}{final.name}"
    fetched_bytes = 0
    if repair or not is_complete(final):
        check_workspace(workspace, 0)
    for attempt in range(ATTEMPTS):
        with _lease(final, partial, repair):
            if is_complete(final) and not repair:
                if attempt:  # what this process wrote after another had published: the last one leaves nothing
                    shutil.rmtree(partial, ignore_errors=True)
                manifest = read_manifest(final)
                assert manifest
                return Snapshot(manifest=manifest, fetched_bytes=fetched_bytes)
            with contextlib.suppress(FileNotFoundError):  # published or cleared away by another: look again
                fetched_bytes += _make(workspace, final, partial, source, tried_with, repair)
                repair = False
    raise problem(
        "others take the download away again and again",
        where=str(partial),
        rule="a snapshot's folder is left alone while it is made",
        remedy="find out who clears the workspace, then run again",
        may_pass=True,
    )


def clear_abandoned(models: Path) -> None:
    """Remove downloads, of any model, that nobody has resumed for a week."""
    for left in [path for prefix in (PARTIAL, LOCK, TEMPORARY) for path in models.glob(f"*/{prefix}*")]:
        with contextlib.suppress(OSError):
            inside = left.iterdir() if left.is_dir() and not left.is_symlink() else ()
            newest = max(path.lstat().st_mtime for path in (left, *inside))
            if time.time() - newest > ABANDONED_SECONDS:
                progress.log(f"removing a download that nobody has resumed for a week: {left}")
                remove(left)


def _make(
    workspace: Path, final: Path, partial: Path, source: Source, tried_with: Sequence[chat.Message], repair: bool
) -> int:
    def read(name: str) -> bytes:
        return (partial / name).read_bytes()

    former = read_manifest(final)
    broken = wrong_sizes(final, former) if former else {}
    with writing(final):
        make_folders(final.parent)
        _keep_folder(partial)
        is_reopened = _reopen(final, partial, repair)
        make_folders(partial)
        _keep_files(partial.iterdir())
        for name, reason in broken.items():
            progress.log(f"{final / name} {reason}: it is fetched again")
            (partial / name).unlink(missing_ok=True)

    def expected(names: list[str]) -> dict[str, FileInfo]:
        return {name: _known(source.files[name], former.files.get(name) if former else None) for name in names}

    # The small files first: they say which weights there are, and whether the model can be trained at all.
    small = expected(small_files(source.files))
    _check_room(workspace, partial, small | expected(likely_weights(source.files)), is_reopened)
    first = fetch_files(partial, small, source)
    with _nothing_stays(partial):
        check_model_files(source.files, read, source.where)
        for remark in try_model(partial, source.where, tried_with) if tried_with else ():
            progress.log(remark)
    weights = expected(weight_names(source.files, read))
    _check_room(workspace, partial, small | weights, is_reopened)
    with _nothing_stays(partial):
        headers, received = check_beginnings(partial, weights, source)
    second = fetch_files(partial, weights, source)
    with _nothing_stays(partial):
        check_copies(partial, headers, source.where)
    _publish(final, partial, source, first, second)
    return first.fetched_bytes + received + second.fetched_bytes


def _known(info: FileInfo, former: FileInfo | None) -> FileInfo:
    """What is known of a file: a former snapshot knows the digest that the source does not state."""
    return former if former and not info.digest and info.size == former.size else info


def _publish(final: Path, partial: Path, source: Source, first: Fetched, second: Fetched) -> None:
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
            if path.name not in (*files, SNAPSHOT_MANIFEST):  # of an earlier attempt or a former snapshot
                remove(path)
        write_manifest(partial, manifest)
        with contextlib.suppress(PermissionError):  # another pod made it, and with this mode
            partial.chmod(FOLDER_MODE)
        flush(partial)
        publish_whole(partial, final)
        for path in final.glob(f"{TEMPORARY}*"):  # another pod's manifest, which it was writing
            path.unlink()


def _check_room(workspace: Path, partial: Path, files: dict[str, FileInfo], is_repair: bool) -> None:
    """Room for what is missing, and before a first training for the adapted model, which is as large."""
    arrived = sum(min(size_of(partial / name), info.size) for name, info in files.items())
    check_workspace(workspace, total_bytes(files) * (1 if is_repair else 2) - arrived)


def _reopen(final: Path, partial: Path, repair: bool) -> bool:
    """Make a folder that is no good snapshot a partial download again: what is right in it is not fetched again.

    Readers of its files keep those that they have opened.
    """
    if not final.is_dir() or not any(final.iterdir()):
        return False
    if is_complete(final) and not repair:  # another has published it meanwhile
        raise FileNotFoundError(partial)
    if partial.is_dir():  # of an attempt that came after the snapshot
        remove(partial)
    final.rename(partial)
    return True


def _keep_files(paths: Iterable[Path]) -> None:
    """Remove links, through which something else would be written, and folders, which stand in a file's place."""
    for path in paths:
        if path.is_symlink() or not path.is_file():
            with contextlib.suppress(FileNotFoundError):  # it is not there, or another does the same
                remove(path)


def _keep_folder(path: Path) -> None:
    """Remove what is in a folder's place: through a link, it would be another folder that is written and published."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        progress.log(f"{path} is no folder: removed")
        remove(path)


@contextlib.contextmanager
def _nothing_stays(partial: Path) -> Iterator[None]:
    """A model that is refused leaves nothing that another attempt could use."""
    try:
        yield
    except Problems as error:
        if not error.may_pass:
            shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def _lease(final: Path, partial: Path, repair: bool) -> Iterator[None]:
    """Wait until nobody else makes this snapshot, or it is there, or the process that makes it seems stuck."""
    mine = hold_lease(
        final.parent / f"{LOCK}{final.name}",
        busy_message=f"{final} is being made by another process",
        is_done=lambda: is_complete(final) and not repair,
        heartbeat=lambda: _count_arrived(partial),
        timeout_seconds=LEASE_TIMEOUT_SECONDS,
    )
    with contextlib.ExitStack() as stack:
        with writing(final):
            stack.enter_context(mine)
        yield


def _count_arrived(partial: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # it may be published while it is looked at
        return folder_bytes(partial)
    return 0
