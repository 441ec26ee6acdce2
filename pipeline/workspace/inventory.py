"""What lies in a workspace: read, never changed. Links are not followed.

    adapted/6fdfa8e78ea3eea2        16.1 GiB, changed 3 days ago, good, published as kite-guild 3
    runs/6fdfa8e78ea3eea2           0.4 MiB, changed 3 days ago, finished
    models/.tmp-0123-9f1c           7.9 GiB, changed 12 days ago, unfinished

Only what has the form of something that the steps make can be removed later. A model that somebody put there, a copy
under a name of its own, a link: these are foreign, and only counted.
"""

import contextlib
import dataclasses
import enum
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.run.publication import Published
from components.shared.problems import list_some, problem
from components.shared.storage import TEMPORARY, from_dict, read_json
from components.shared.workspace import PUBLISHED, SNAPSHOT_MANIFEST, STEP_RECORDS, SUMMARY, TRAINING_REPORT
from pipeline.workspace.sizes import Progress, Size, measure

FOLDERS = ("models", "runs", "adapted", STEP_RECORDS, "kfp")
# What a run's folder holds besides its reports, of this project's trainer and of mini-trainer.
WORKING_FOLDERS = ("checkpoints", "full_state_checkpoints", "hf_format")
REMOVED = ".tmp-removed-"  # what a removal renames to; nothing else is called so
# Made by file systems and storage, in any folder: snapshots of the volume, files that are removed and still open.
NOT_OURS = re.compile(r"\.nfs[0-9a-f]+|\.snapshots?|\.Trash-.*|lost\+found")
COMMIT, RUN_KEY = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{16}")
ADAPTED = re.compile(r"[0-9a-f]{16}(-0\.\d{1,3})?")  # a run's model, and the ones that were rewound from it
STAMP = re.compile(r"\d{8}-\d{6}(\.log)?")  # of a run on this machine


class Kind(enum.StrEnum):
    BASE = "base_model"
    ADAPTED = "adapted_model"
    RUN = "run"
    WORKING = "working_files"
    LEFTOVER = "leftover"
    RECORD = "record"
    LOG = "log"
    FOREIGN = "foreign"


class State(enum.StrEnum):
    COMPLETE = "complete"
    UNFINISHED = "unfinished"
    GOOD = "good"
    NOT_GOOD = "not good"
    NOT_EVALUATED = "not evaluated"
    FINISHED = "finished"
    REPORT_ONLY = "report only"
    LINK = "link"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One thing in the workspace."""

    kind: Kind
    path: str
    """Below the workspace."""
    bytes: int
    changed: float
    """Newest modification of any file in it, in seconds since 1970; for what belongs to a run, in all of the run."""
    state: State
    key: str = ""
    """Run key; of a base model its commit."""
    base: str = ""
    """Commit of the base model that an adapted model was trained from."""
    start: str = ""
    """Of an adapted model the folder below adapted/ of the one that it started from; empty for the base model."""
    evaluated: float = 0.0
    """When, in seconds since 1970."""
    publication: Published | None = None
    trouble: str = ""
    """Why it cannot be judged and is left alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """All that was found."""

    items: tuple[Item, ...]
    unreadable: tuple[str, ...]
    """Folders that could not be looked into; what they hold is unknown."""


def take_inventory(workspace: Path, progress: Progress) -> Inventory:
    """Everything in a workspace, a resolved path, foreign things too. Raises Problems when the folder is no
    workspace."""
    check_is_workspace(workspace)
    reader = _Reader(workspace, progress)
    items = (
        *reader.base_models(),
        *reader.runs_and_adapted_models(),
        *reader.records(STEP_RECORDS, Kind.RECORD),
        *reader.records("kfp", Kind.LOG),
        *reader.others(),
    )
    return Inventory(items=items, unreadable=tuple(reader.unreadable))


def check_is_workspace(workspace: Path) -> None:
    """Raises Problems when there is nothing in it that the steps make."""
    expected = ("models", "runs", "adapted")
    if any((workspace / name).is_dir() for name in expected):
        return
    if workspace.is_dir():
        names = sorted(os.listdir(workspace))
        what = f"this folder holds {list_some(names, 5) if names else 'nothing'}"
    else:
        what = "this is a file" if workspace.exists() else "there is no such folder"
    raise problem(
        what,
        where=str(workspace),
        rule=f"a workspace holds {', '.join(expected[:-1])} or {expected[-1]}; the first run makes them",
        remedy="name the folder that runs have as their workspace; in a pod, mount the claim there",
    )


class _Reader:
    """Looks through one workspace."""

    def __init__(self, workspace: Path, progress: Progress) -> None:
        self.workspace, self.progress = workspace, progress
        self.unreadable: list[str] = []

    def base_models(self) -> Iterator[Item]:
        for model in self.entries("models"):
            if not _is_folder(model) or "--" not in model.name or model.name.startswith("."):
                yield from self.unknown(model)
                continue
            for entry in self.entries(model.path):
                if _is_folder(entry) and COMMIT.fullmatch(entry.name):
                    state = State.COMPLETE if self.holds(entry, SNAPSHOT_MANIFEST) else State.UNFINISHED
                    yield from self.item(entry, kind=Kind.BASE, state=state, key=entry.name)
                elif _is_folder(entry) or entry.name.startswith("."):
                    yield from self.unknown(entry)

    def runs_and_adapted_models(self) -> Iterator[Item]:
        """Together: a run's files say what its model is worth, and whatever is done to one of the two is recent use; a
        model that was rewound from it is none of its own."""
        found: dict[str, dict[str, list[os.DirEntry[str]]]] = {}
        for folder, name in (("runs", RUN_KEY), ("adapted", ADAPTED)):
            for entry in self.entries(folder):
                if _is_folder(entry) and name.fullmatch(entry.name):
                    found.setdefault(entry.name.partition("-")[0], {}).setdefault(folder, []).append(entry)
                else:
                    yield from self.unknown(entry)
        for key, folders in sorted(found.items()):
            adapted = folders.get("adapted", [])
            models = [item for entry in adapted for item in self.adapted_model(entry, key)]
            run = [item for entry in folders.get("runs", ()) for item in self.run(entry, adapted)]
            own = max((item.changed for item in (*models, *run) if not _is_rewound(item)), default=0.0)
            for item in (*models, *run):
                newest = max(own, item.changed)
                yield item if item.kind == Kind.LEFTOVER else dataclasses.replace(item, changed=newest)

    def adapted_model(self, entry: os.DirEntry[str], key: str) -> Iterator[Item]:
        known: dict[str, Any] = {"state": State.UNFINISHED}
        if self.holds(entry, TRAINING_REPORT):
            known = _read_state(self.workspace / "runs" / key, Path(entry.path))
        yield from self.item(entry, kind=Kind.ADAPTED, key=key, **known)

    def run(self, entry: os.DirEntry[str], adapted: list[os.DirEntry[str]]) -> Iterator[Item]:
        entries = self.entries(entry.path)
        working = [one for one in entries if _is_folder(one) and one.name in WORKING_FOLDERS]
        temporary = [one for one in entries if one.name.startswith(TEMPORARY)]
        reports = [size for one in entries if one not in (*working, *temporary) for size in self.size(one.path)]
        evaluated = any(one.name == SUMMARY for one in entries)
        trained = any(self.holds(one, TRAINING_REPORT) for one in adapted)
        state = State.FINISHED if trained else State.REPORT_ONLY if evaluated and not working else State.UNFINISHED
        yield Item(
            kind=Kind.RUN,
            path=self.below(entry),
            bytes=sum(size.bytes for size in reports),
            changed=max((size.changed for size in reports), default=0.0 if entries else _changed(entry)),
            state=state,
            key=entry.name,
        )
        for one in working:
            yield from self.item(one, kind=Kind.WORKING, state=state, key=entry.name)
        for one in temporary:
            yield from self.item(one, kind=Kind.LEFTOVER, state=State.UNFINISHED)

    def records(self, folder: str, kind: Kind) -> Iterator[Item]:
        for entry in self.entries(folder):
            if (
                entry.is_symlink()
                or entry.name.startswith(".")
                or (kind == Kind.LOG and not STAMP.fullmatch(entry.name))
            ):
                yield from self.unknown(entry)
            else:
                yield from self.item(entry, kind=kind, state=State.COMPLETE)

    def others(self) -> Iterator[Item]:
        """What lies beside the steps' folders: data and models that somebody put there."""
        for entry in self.entries(self.workspace):
            if entry.name.startswith(TEMPORARY):
                yield from self.item(entry, kind=Kind.LEFTOVER, state=State.UNFINISHED)
            elif not (entry.name in FOLDERS and _is_folder(entry)) and not NOT_OURS.fullmatch(entry.name):
                yield self.foreign(entry)

    def unknown(self, entry: os.DirEntry[str]) -> Iterator[Item]:
        """Among the steps' own: a leftover, hidden under its temporary name, or something foreign."""
        if NOT_OURS.fullmatch(entry.name):
            return
        if entry.name.startswith(".") and not entry.is_symlink():
            yield from self.item(entry, kind=Kind.LEFTOVER, state=State.UNFINISHED)
        else:
            yield self.foreign(entry)

    def foreign(self, entry: os.DirEntry[str]) -> Item:
        """Counted as far as it can be read: what cannot is nobody's business here."""
        try:
            size = measure(Path(entry.path), self.progress)
        except OSError:
            size = Size(0, 0.0, ())
        state = State.LINK if entry.is_symlink() else State.COMPLETE
        return Item(kind=Kind.FOREIGN, path=self.below(entry), bytes=size.bytes, changed=size.changed, state=state)

    def item(self, entry: os.DirEntry[str], **known: Any) -> Iterator[Item]:
        for size in self.size(entry.path):
            if size.unreadable:
                known["trouble"] = "cannot be read"
            yield Item(path=self.below(entry), bytes=size.bytes, changed=size.changed, **known)

    def size(self, path: str) -> Iterator[Size]:
        """One, or none when it is gone meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            size = measure(Path(path), self.progress)
            self.unreadable.extend(size.unreadable)
            yield size

    def holds(self, entry: os.DirEntry[str], marker: str) -> bool:
        try:
            return (Path(entry.path) / marker).is_file()
        except OSError:
            return False  # reported when the folder is sized

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """What lies in a real folder, by name; nothing when there is none, or only a link to one."""
        path = self.workspace / folder
        if path.is_symlink():
            return []
        try:
            with os.scandir(path) as scan:
                return sorted(scan, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            self.unreadable.append(str(path))
            return []

    def below(self, entry: os.DirEntry[str]) -> str:
        return os.path.relpath(entry.path, self.workspace)


def _read_state(run: Path, model: Path) -> dict[str, Any]:
    """What the files of an adapted model's run say of it; a file that cannot be read is its trouble."""
    found: dict[str, Any] = {"state": State.NOT_EVALUATED}
    reading = model / TRAINING_REPORT
    try:
        plan = read_json(reading)["plan"]
        found["base"] = str(plan["model"]["commit"])
        found["start"] = str(plan["lineage"][-1]["model"]) if plan.get("lineage") else ""
        reading = run / SUMMARY
        if reading.exists():
            found["evaluated"] = reading.stat().st_mtime
            summary = read_json(reading)
            good = summary["good"]
            if not isinstance(good, bool):
                raise TypeError(good)
            evaluated = Path(summary.get("adapted", run.name)).name
            if evaluated == model.name:
                found["state"] = State.GOOD if good else State.NOT_GOOD
            elif model.name == run.name:  # all of the change was tried before a share of it
                found["state"] = State.NOT_GOOD
        reading = run / PUBLISHED
        if reading.exists():
            published = from_dict(Published, read_json(reading))
            _ = published.time
            is_rewound = bool(ADAPTED.fullmatch(published.version)) and published.version != run.name
            if model.name == (published.version if is_rewound else run.name):
                found["publication"] = published
    except (OSError, ValueError, KeyError, TypeError):
        found["trouble"] = f"{reading.name} cannot be read"
    return found


def _is_rewound(item: Item) -> bool:
    return item.kind == Kind.ADAPTED and Path(item.path).name != item.key


def _changed(entry: os.DirEntry[str]) -> float:
    return entry.stat(follow_symlinks=False).st_mtime


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)
