"""A verified, immutable copy of the base model in the workspace; made once, used by every later run.

    models/ibm-granite--granite-3.2-8b-instruct/<commit>/    the model's files and snapshot.json, written last
    models/ibm-granite--granite-3.2-8b-instruct/revisions.json    {"main": "<commit>"}

`manifest` shows what stands in them, `assembly` how a snapshot is made, `hub`, `local_source` and `s3` where from.
"""

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.data import chat
from components.models import trial
from components.models.reference import refer_to
from components.shared import progress, reach
from components.shared.problems import Problems, problem, quote_address
from components.shared.workspace import COMMIT, SNAPSHOT_MANIFEST, model_folder, snapshot_folder
from components.snapshot_model import hub, local_source, s3
from components.snapshot_model.assembly import Snapshot, assemble_snapshot, clear_abandoned
from components.snapshot_model.fetching import writing
from components.snapshot_model.manifest import (
    Manifest,
    is_complete,
    read_manifest,
    remember_revision,
    remembered_commit,
    wrong_sizes,
)
from components.snapshot_model.model_source import Source, Unreachable

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
S3_SCHEME = "s3://"
LOCAL_ORG, S3_ORG = "local", "s3"  # a folder's snapshot is kept as local/<folder name>
JUDGE_REVISION = "main"
MAX_NAME = 60  # characters of that name, of up to four bytes each: a name of a file has 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """Where the snapshot is and what it took."""

    path: Path
    source: str
    commit: str
    """The hub's commit; for a folder the first 40 digits of a hash over its files."""
    is_current: bool
    """False when the hub could not be reached, and the last known commit of the revision is used."""
    files: int
    bytes: int
    reused_bytes: int
    """Those of them that were there already, from an earlier run or an interrupted attempt."""
    card: dict[str, Any]
    """What the model card says of licence and base model."""
    seconds: float

    @property
    def reused(self) -> bool:
        """Whether nothing had to be fetched."""
        return self.reused_bytes == self.bytes


def local_folder(model: str) -> Path | None:
    """The folder that `model` means; None when it is a name on the hub or an s3:// address.

    Raises:
        Problems: when it is none of them.
    """
    reach.check_address(model)
    if model.startswith(S3_SCHEME):
        return None
    if model.startswith(("/", "./", "../", "~")) or (model and os.path.isdir(model)):
        folder = Path(os.path.expanduser(model)).resolve()  # which leaves a user that there is not as it is
        reach.check_path(folder)
        return folder
    if not HUB_NAME.fullmatch(model):
        raise problem(
            f"{quote_address(model)} is neither a folder nor org/name",
            where="parameter model",
            rule="a model is a local folder, s3://bucket/folder, or organisation and name on a hub, one slash between",
            remedy="for instance ibm-granite/granite-3.2-8b-instruct, or /mnt/osft/uploads/my-model",
        )
    return None


def snapshot_model(
    *,
    model: str,
    revision: str,
    workspace: Path,
    note: Path,
    system_prompt: str = "",
    judge_url: str = "",
    judge_model: str = "",
) -> SnapshotReport:
    """The step: `take_snapshot`, and a note for the next steps.

    Args:
        note: file to make: which model, and where (components/models/reference.py).
        system_prompt: the run's, with which a model is tried before its weights are fetched.
        judge_url, judge_model: the evaluation's: a judge that works on the GPU is fetched, too.

    Raises:
        Problems: as `take_snapshot`, and when the snapshot lies outside of the workspace.
    """
    tried_with = trial.conversation(system_prompt)
    report = take_snapshot(model=model, revision=revision, workspace=workspace, tried_with=tried_with)
    reference = refer_to(report.path, SNAPSHOT_MANIFEST, workspace, commit=report.commit)
    if judge_model and not judge_url and judge_model != model:
        progress.log(f"the judge's model: {judge_model}")
        asked = chat.prompt("", trial.QUESTION)
        judge = take_snapshot(model=judge_model, revision=JUDGE_REVISION, workspace=workspace, tried_with=asked)
        found = refer_to(judge.path, SNAPSHOT_MANIFEST, workspace, commit=judge.commit)
        reference = dataclasses.replace(reference, judge=found)
    reference.write(note)
    return report


def take_snapshot(
    *, model: str, revision: str, workspace: Path, tried_with: Sequence[chat.Message] = ()
) -> SnapshotReport:
    """Fetch a model into the workspace, unless it is there.

    Args:
        model: `org/name` on a hub (HF_ENDPOINT, HF_TOKEN), a local folder, or `s3://bucket/folder`.
        revision: branch, tag or commit on the hub.
        workspace: the run's workspace.
        tried_with: a conversation that the model is tried with before its weights are fetched; empty for none.

    Raises:
        Problems: when the model cannot be had, is incomplete or cannot be trained, or there is no room for it.
    """
    started = time.monotonic()
    clear_abandoned(workspace / "models")
    is_current = True
    if model.startswith(S3_SCHEME):
        name = f"{S3_ORG}/{s3.folder_name(model)[:MAX_NAME]}"
        final, snapshot = _assemble(workspace, name, s3.open_s3(model), tried_with)
    elif folder := local_folder(model):
        name = f"{LOCAL_ORG}/{folder.name[:MAX_NAME]}"
        final, snapshot = _assemble(workspace, name, local_source.open_folder(folder), tried_with)
    else:
        final, snapshot, is_current = _fetch_from_hub(workspace, model, revision, tried_with)
    report = SnapshotReport(
        path=final,
        source=snapshot.manifest.source,
        commit=snapshot.manifest.commit,
        is_current=is_current,
        files=len(snapshot.manifest.files),
        bytes=snapshot.manifest.bytes,
        reused_bytes=snapshot.reused_bytes,
        card=snapshot.manifest.card,
        seconds=time.monotonic() - started,
    )
    progress.log(_summary(report))
    return report


def open_source(manifest: Manifest) -> Source:
    """The source that a snapshot came from, in the state it was in.

    Raises:
        Problems: when it cannot be had, or is in another state now.
    """
    if manifest.source.startswith(S3_SCHEME):
        source = s3.open_s3(manifest.source)
    elif manifest.source.startswith("/"):
        source = local_source.open_folder(Path(manifest.source))
    else:
        try:
            source = hub.open_model(manifest.source, manifest.commit)
        except Unreachable as error:
            raise unreachable(manifest.source, manifest.commit, str(error)) from None
    if source.commit != manifest.commit:
        raise problem(
            f"the source now holds another state of the model: {source.commit[:12]}",
            where=source.where,
            rule=f"the snapshot is of {manifest.commit[:12]}",
            remedy="restore the former state there, or remove the snapshot and run again",
        )
    return source


def _assemble(workspace: Path, name: str, source: Source, tried_with: Sequence[chat.Message]) -> tuple[Path, Snapshot]:
    final = snapshot_folder(workspace, name, source.commit)
    return final, assemble_snapshot(workspace, final, source, tried_with)


def _fetch_from_hub(
    workspace: Path, name: str, revision: str, tried_with: Sequence[chat.Message]
) -> tuple[Path, Snapshot, bool]:
    folder = model_folder(workspace, name)
    if COMMIT.fullmatch(revision) and (found := _complete(folder / revision)):
        return folder / revision, found, True
    try:
        source = hub.open_model(name, revision)
    except Unreachable as error:
        commit = revision if COMMIT.fullmatch(revision) else remembered_commit(folder, revision)
        found = _complete(folder / commit) if commit else None
        if not commit or not found:
            raise unreachable(name, revision, f"{_describe_broken(folder, commit)}{error}") from None
        progress.log(
            f"WARNING: {error}\nWARNING: using what {revision} was when the hub was last asked: commit {commit}"
        )
        return folder / commit, found, False
    final, snapshot = _assemble(workspace, name, source, tried_with)
    if revision != source.commit:
        with writing(folder):
            remember_revision(folder, revision, source.commit)
    return final, snapshot, True


def _complete(folder: Path) -> Snapshot | None:
    manifest = read_manifest(folder)
    return Snapshot(manifest=manifest, fetched_bytes=0) if manifest and is_complete(folder) else None


def _describe_broken(folder: Path, commit: str | None) -> str:
    """What is wrong with a snapshot that is there and cannot be used."""
    manifest = read_manifest(folder / commit) if commit else None
    wrong = wrong_sizes(folder / manifest.commit, manifest) if manifest else {}
    return "".join(f"{name} of the snapshot {reason}; " for name, reason in wrong.items())


def find_snapshot(workspace: Path, name: str, revision: str) -> Path | None:
    """The complete snapshot of a hub's model that was the revision when the hub was last asked."""
    folder = model_folder(workspace, name)
    commit = revision if COMMIT.fullmatch(revision) else remembered_commit(folder, revision)
    return folder / commit if commit and _complete(folder / commit) else None


def unreachable(name: str, revision: str, what: str) -> Problems:
    return problem(
        what,
        where=f"{name} at revision {revision}, hub {hub.hub_name()}",
        rule="what is not in the workspace yet comes from the hub",
        remedy="check the network or HF_ENDPOINT, name a local folder as the model, or run again later",
        may_pass=not hub.is_offline(),
    )


def _summary(report: SnapshotReport) -> str:
    size = f"{report.bytes / 1e6:.0f} MB in {report.files} files"
    if report.reused:
        return f"already there: {report.path}, {size}"
    return f"complete: {report.path}, {size}, {report.reused_bytes / 1e6:.0f} MB of it reused"
