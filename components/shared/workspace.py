"""The workspace, one volume on the cluster and one folder on a laptop: what lies where.

<workspace>/models/<org>--<name>/            revisions.json, downloads that are not finished
<workspace>/models/<org>--<name>/<commit>/   the base model and snapshot.json
<workspace>/runs/<run key>/                  metrics.jsonl, summary.json, published.json, report.html,
                                             and beside it review.html, dropped.jsonl, plan.html
<workspace>/adapted/<run key>/               the adapted model and training_report.json
<workspace>/adapted/<run key>-<share>/       the same with a share of the training's change, where that was better
<workspace>/pipeline-runs/<KFP's run id>/    what each step of a run on the cluster did
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from components.shared.problems import Checks

SNAPSHOT_MANIFEST = "snapshot.json"
TRAINING_REPORT = "training_report.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
REVIEW = "review.html"  # of the data: what was dropped, and rows to look at
DROPPED = "dropped.jsonl"  # the rows of the data that were dropped, and why
PLAN_PAGE = "plan.html"
ANSWERS = "answers.jsonl"  # and verdicts on them, as they come
PUBLISHED = "published.json"
STEP_RECORDS = "pipeline-runs"
GIB = 2**30
COMMIT = re.compile(r"[0-9a-f]{40}")


def model_folder(workspace: Path, name: str) -> Path:
    """Where all states of a base model lie; `name` is org/name."""
    return workspace / "models" / name.replace("/", "--")


def snapshot_folder(workspace: Path, name: str, commit: str) -> Path:
    """Where a base model lies."""
    assert COMMIT.fullmatch(commit), commit  # it comes from elsewhere, and nothing else may become a part of a path
    return model_folder(workspace, name) / commit


def run_folder(workspace: Path, run_key: str) -> Path:
    """Where a run's plan, metrics and summary lie."""
    return workspace / "runs" / run_key


def adapted_folder(workspace: Path, model: str) -> Path:
    """Where an adapted model lies; its name is the run key, with the share behind it for a rewound one."""
    return workspace / "adapted" / model


def rewound_folder(adapted: Path, share: float) -> Path:
    """Where the model with a share of an adapted model's change lies."""
    return adapted.with_name(f"{adapted.name}-{share:g}")


def mark_used(marker: Path) -> None:
    """Let a model whose marker this is count as just changed: what a run finds and uses must not be pruned as old."""
    with contextlib.suppress(OSError):  # gone meanwhile, or not ours to write: it then only looks as old as it is
        os.utime(marker)  # never makes the file, as touch would


def check_workspace(workspace: Path, needed_bytes: int) -> None:
    """Make sure that the workspace can be written to and has room; makes nothing. Raises Problems when it cannot, or
    has not."""
    checks = Checks()
    where = f"workspace {workspace}"
    writable = "the steps write models and results there, as any user of group 0"
    existing = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        checks.add(
            f"the workspace is not writable: {existing} is {'read-only' if existing.is_dir() else 'a file'}",
            where=where,
            rule=writable,
            remedy="name another folder, or make this one writable (chmod g+w, fsGroup on a cluster)",
        )
    checks.raise_if_any()
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        checks.add(
            f"the workspace is too small: {free / GIB:.1f} GiB free, {needed_bytes / GIB:.1f} GiB needed",
            where=where,
            rule="it holds the base model, the checkpoints of a training, and the adapted model, as large as the base",
            remedy="enlarge the volume, or see what osft-pipeline workspace prune would remove from it",
            may_pass=True,
        )
    checks.raise_if_any()


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not os.path.islink(path))
