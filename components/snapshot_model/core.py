"""A verified, immutable copy of the base model in the workspace; made once, used by every later run.

`snapshot.json`, written last, says that a snapshot is complete:

    {"source": "ibm-granite/granite-3.2-8b-instruct", "revision": "main", "commit": "0123...", "bytes": 16340000000,
     "files": [{"name": "config.json", "size": 787, "sha256": "..."}, ...]}
"""

import dataclasses
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.problems import problem, quote
from components.snapshot_model.model_folder import check_model_files, check_model_folder, wanted
from components.storage import READ_BYTES, publish_folder, read_json, sha256_of_file, sha256_of_json, write_json
from components.workspace import SNAPSHOT_MANIFEST, check_workspace, folder_bytes, snapshot_folder

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
WEIGHTS = ".safetensors"
SECONDS_BETWEEN_LINES = 5.0
LOCAL_ORG = "local"  # a folder's snapshot is kept as local/<folder name>


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """Where the snapshot is and what it took."""

    path: Path
    source: str
    commit: str
    """The hub's commit; for a local folder the first 40 digits of a hash over its files."""
    bytes: int
    reused: bool
    seconds: float


def local_folder(model: str) -> Path | None:
    """The folder that `model` means; None when it is a name on the hub.

    Raises:
        Problems: when it is neither.
    """
    if model.startswith(("/", "./", "../", "~")) or (model and Path(model).is_dir()):
        return Path(model).expanduser().resolve()
    if not HUB_NAME.fullmatch(model):
        raise problem(
            f"{quote(model)} is neither a folder nor org/name",
            where="parameter model",
            rule="a model is a local folder, or organisation and name on a hub with one slash between",
            remedy="for instance ibm-granite/granite-3.2-8b-instruct, or /mnt/osft/uploads/my-model",
        )
    return None


def snapshot_model(*, model: str, revision: str, workspace: Path) -> SnapshotReport:
    """Bring a model into the workspace, unless it is there.

    Args:
        model: `org/name` on a hub (HF_ENDPOINT, HF_TOKEN), or a local folder.
        revision: branch, tag or commit on the hub.
        workspace: the run's workspace.

    Raises:
        Problems: when the model cannot be had, is incomplete or cannot be trained, or there is no room for it.
    """
    started = time.monotonic()
    folder = local_folder(model)
    path, reused = _from_folder(folder, workspace) if folder else _from_hub(model, revision, workspace)
    manifest = read_json(path / SNAPSHOT_MANIFEST)
    size = f"{manifest['bytes'] / 1e6:.0f} MB in {len(manifest['files'])} files"
    progress.say(f"{'already there' if reused else 'complete'}: {path}, {size}")
    return SnapshotReport(
        path=path,
        source=manifest["source"],
        commit=manifest["commit"],
        bytes=manifest["bytes"],
        reused=reused,
        seconds=time.monotonic() - started,
    )


def _from_folder(source: Path, workspace: Path) -> tuple[Path, bool]:
    names = check_model_folder(source)
    files: list[dict[str, Any]] = []
    for name in progress.track(names, len(names), "hashing files"):
        size = (source / name).stat().st_size
        files.append({"name": name, "size": size, "sha256": sha256_of_file(source / name)})
    commit = sha256_of_json(files)[:40]
    final = snapshot_folder(workspace, f"{LOCAL_ORG}/{source.name}", commit)
    if (final / SNAPSHOT_MANIFEST).exists():
        return final, True
    _check_room(workspace, sum(file["size"] for file in files))
    with publish_folder(final) as folder:
        for file in progress.track(files, len(files), "copying files"):
            copied = _copy(source / file["name"], folder / file["name"])
            if copied != file["sha256"]:
                raise problem(
                    f"{file['name']} changed while it was copied",
                    where=str(source),
                    rule="a snapshot is of one state of the model",
                    remedy="run again when nobody writes to the folder",
                )
        _write_manifest(folder, str(source), "", commit, files)
    return final, False


def _from_hub(name: str, revision: str, workspace: Path) -> tuple[Path, bool]:
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        final = snapshot_folder(workspace, name, revision)
        if (final / SNAPSHOT_MANIFEST).exists():
            return final, True
    from huggingface_hub import HfApi, snapshot_download

    with _hub_errors(name, revision):
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
    commit = str(info.sha)
    final = snapshot_folder(workspace, name, commit)
    if (final / SNAPSHOT_MANIFEST).exists():
        return final, True
    expected = _expected(info)
    total = sum(size for size, _ in expected.values())
    _check_room(workspace, total)
    progress.say(f"downloading {name} at {commit[:12]}: {total / 1e6:.0f} MB in {len(expected)} files")
    # The small files first: a model that cannot be trained is refused before its weights are fetched.
    small = [file for file in expected if not file.endswith(WEIGHTS)]
    weights = [file for file in expected if file.endswith(WEIGHTS)]
    files: list[dict[str, Any]] = []
    with publish_folder(final) as folder:
        for names in (small, weights):
            with _hub_errors(name, revision), _told_size(folder, total):
                snapshot_download(name, revision=commit, local_dir=folder, allow_patterns=names)
            for file_name in progress.track(names, len(names), "verifying files"):
                size, digest = expected[file_name]
                path = folder / file_name
                found = sha256_of_file(path)
                if path.stat().st_size != size or (digest and _digest(path, digest, found) != digest):
                    raise problem(
                        f"{file_name} arrived damaged: {path.stat().st_size} bytes, sha256 {found[:12]}…",
                        where=f"{name} at {commit[:12]}",
                        rule=f"the hub says {size} bytes and digest {digest}",
                        remedy="run again; if it stays, a proxy or mirror in between changes files",
                    )
                files.append({"name": file_name, "size": size, "sha256": found})
            check_model_files(list(expected), lambda file: (folder / file).read_bytes(), f"{name} at {commit[:12]}")
        _remove_download_cache(folder)
        _write_manifest(folder, name, revision, commit, files)
    return final, False


def _expected(info: "ModelInfo") -> dict[str, tuple[int, str]]:
    """Wanted files of a repository: size, and the digest that the hub states (LFS: sha256, else git's blob id)."""
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    expected = {}
    for name in wanted(list(siblings)):
        sibling = siblings[name]
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        expected[name] = (int(sibling.size or 0), str(digest or ""))
    return expected


def _digest(path: Path, stated: str, sha256: str) -> str:
    if len(stated) == 64:
        return sha256
    content = path.read_bytes()  # small: a file outside LFS; git hashes a header before the content
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _check_room(workspace: Path, model_bytes: int) -> None:
    check_workspace(workspace, 2 * model_bytes)


def _write_manifest(folder: Path, source: str, revision: str, commit: str, files: list[dict[str, Any]]) -> None:
    total = sum(file["size"] for file in files)
    document = {"source": source, "revision": revision, "commit": commit, "bytes": total, "files": files}
    write_json(folder / SNAPSHOT_MANIFEST, document)


def _copy(source: Path, target: Path) -> str:
    """Copy a file and give the hex sha256 of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(READ_BYTES):
            digest.update(piece)
            write.write(piece)
    return digest.hexdigest()


def _remove_download_cache(folder: Path) -> None:
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _told_size(folder: Path, total: int) -> Iterator[None]:
    """Say every few seconds how much has arrived in `folder`."""
    stop = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not stop.wait(SECONDS_BETWEEN_LINES):
            arrived = min(folder_bytes(folder), total)
            rate = arrived / (time.monotonic() - started)
            left = progress.duration((total - arrived) / rate) if rate else "unknown time"
            progress.say(f"{arrived / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, {left} left")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _hub_errors(name: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into one error that says what to do."""
    from huggingface_hub import constants, errors

    where = f"{name} at revision {revision}, hub {constants.ENDPOINT}"
    rule = "the model must be readable on the hub with the token in HF_TOKEN, if it needs one"
    try:
        yield
    except errors.GatedRepoError:
        what, remedy = (
            "access to the model is restricted",
            f"accept its terms on the hub's page of {name}, set HF_TOKEN",
        )
    except errors.RevisionNotFoundError:
        what, remedy = f"there is no revision {quote(revision)}", "use a branch, a tag or a commit of the model"
    except errors.RepositoryNotFoundError:
        what, remedy = "there is no such model, or it is private", "correct org/name, or set HF_TOKEN for a private one"
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        what, remedy = f"the hub answered {status}", "run again later; what is complete in the workspace stays"
    except errors.HFValidationError as error:
        what, remedy = f"{quote(name)} is no name on a hub: {error}", "correct org/name"
    except (OSError, errors.HTTPError) as error:
        what = f"the hub cannot be reached: {str(error).splitlines()[0]}"
        remedy = "check the network or HF_ENDPOINT, or name a local folder as the model"
    else:
        return
    raise problem(what, where=where, rule=rule, remedy=remedy)
