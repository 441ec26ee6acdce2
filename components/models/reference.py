"""A model that one step hands to the next: it lies on the workspace, and a note about it goes through KFP.

    {"path": "models/org--name/0123...", "marker": "snapshot.json", "digest": "9f86d0...", "commit": "0123...", ...}

KFP's launcher copies what an artifact's uri names through an object store, and ends a task whose input has any other
uri, a path for instance. So the uri stays KFP's own, what lies there is this note, and the metadata repeat it for the
dashboard.
"""

import dataclasses
import json
from pathlib import Path

from components.shared.problems import Problems, problem, quote
from components.shared.storage import from_dict, sha256_of_file, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelReference:
    """Which model, and where."""

    path: str
    """Below the workspace."""
    marker: str
    """The file in its folder that was written last: snapshot.json or training_report.json."""
    digest: str
    """SHA-256 of that file, which names the model's state."""
    commit: str
    """Of the base model."""
    run_key: str = ""
    """Of the training; empty for a base model."""
    judge: "ModelReference | None" = None
    """Of a base model's note: the model that judges on the GPU, where it is another one."""

    def write(self, output: Path) -> None:
        """Write the note where KFP expects the artifact."""
        note = dataclasses.asdict(self)
        write_json(output, {name: value for name, value in note.items() if value is not None})


def refer_to(folder: Path, marker: str, workspace: Path, *, commit: str, run_key: str = "") -> ModelReference:
    """The note about a complete model in the workspace. Raises Problems when it lies elsewhere."""
    try:
        path = folder.resolve().relative_to(workspace.resolve()).as_posix()
    except ValueError:
        raise problem(
            "the model lies outside of the workspace: a folder on the way to it is a link",
            where=f"{folder}, which is {folder.resolve()}",
            rule="what is below the workspace lies on its volume: pods have no other",
            remedy="move what the link leads to into the workspace, or name the folder above it as the workspace",
        ) from None
    return ModelReference(
        path=path, marker=marker, digest=sha256_of_file(folder / marker), commit=commit, run_key=run_key
    )


def find_model(note: Path, workspace: Path) -> Path:
    """The folder of the model that a step was handed. Raises Problems when the note cannot be read, or the model is
    not there, not in the workspace, or another one now."""
    return _find(_read(note), workspace)


def find_judge(note: Path, workspace: Path) -> Path | None:
    """The folder of the model that judges on the GPU; None when it is the base model itself. Raises Problems as
    `find_model`."""
    judge = _read(note).judge
    return _find(judge, workspace) if judge else None


def _read(note: Path) -> ModelReference:
    try:
        return from_dict(ModelReference, json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise _refused("the note about the model cannot be read", str(note), f"({type(error).__name__})") from None


def _find(reference: ModelReference, workspace: Path) -> Path:
    root = workspace.resolve()
    folder = (root / reference.path).resolve()
    marker = folder / reference.marker
    if not folder.is_relative_to(root) or folder == root or marker.parent != folder:
        raise _refused("the model lies outside of the workspace", quote(reference.path), f"below {workspace}")
    if not marker.is_file():
        raise _refused("the model is not there any more", str(folder), f"with its {reference.marker}", may_pass=True)
    if sha256_of_file(marker) != reference.digest:
        expected = f"as {reference.marker} was when it was handed on"
        raise _refused("the model is another one now", str(folder), expected, may_pass=True)
    return folder


def _refused(what: str, where: str, detail: str, may_pass: bool = False) -> Problems:
    return problem(
        what,
        where=where,
        rule=f"a step works with the model that an earlier step of the run made or found, {detail}",
        remedy="run the pipeline again; what is complete in the workspace is not made again",
        may_pass=may_pass,  # on a network volume another node sees a new file late
    )
