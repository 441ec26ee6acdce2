"""What each step of a run on the cluster did, kept in the workspace: what `notify` reports when the run has ended.

<workspace>/pipeline-runs/<KFP's run id>/<step>.json

    {"step": "train_osft", "state": "finished", "attempt": 1, "started_at": "2026-11-22T02:00:00+00:00",
     "error": "", "facts": {"loss_last": 0.04}}

KFP tells an exit handler neither which step failed nor why, and with conditions inside not even reliably that one did
(kubeflow/pipelines issues 11979 and 13321). A step that was killed says nothing itself: its record stays "started".
Records are written where placement.py says so by two variables, and nowhere else.
"""

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.shared import progress
from components.shared.storage import from_dict, read_json, write_json

FOLDER_VARIABLE = "OSFT_STEP_RECORDS"  # <workspace>/pipeline-runs
RUN_VARIABLE = "KFP_RUN_ID"
NODE_VARIABLE = "OSFT_NODE"

STARTED, FINISHED, FAILED = "started", "finished", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord:
    """The last attempt of a step."""

    step: str
    state: str
    attempt: int
    """From 1; KFP tries a step that failed again."""
    started_at: str
    """ISO 8601, UTC."""
    error: str
    """What the step said when it failed."""
    facts: dict[str, Any]
    """What it noted: numbers and short texts."""
    ended_at: str = ""
    """ISO 8601, UTC; empty while it runs, and of a step that was killed."""
    mistake: bool = False
    """It failed by a user's mistake, which another attempt with the same inputs would only repeat."""
    inputs: str = ""
    """Digest of what it was given."""


_current: StepRecord | None = None


def records_folder() -> Path | None:
    """Where this run's records are; None where none are kept."""
    folder, run = os.environ.get(FOLDER_VARIABLE), os.environ.get(RUN_VARIABLE)
    return Path(folder) / run if folder and run else None


def node() -> str:
    """The node that this pod runs on; empty where nobody says it."""
    return os.environ.get(NODE_VARIABLE, "")


def last_attempt(step: str) -> StepRecord | None:
    """What the attempt before has recorded; None where there was none, or what it wrote cannot be read."""
    folder = records_folder()
    try:
        return from_dict(StepRecord, read_json(folder / f"{step}.json")) if folder else None
    except (OSError, ValueError):
        return None


def begin(step: str, inputs: str = "") -> None:
    """Record that a step starts."""
    global _current
    if records_folder() is None:
        return
    before = last_attempt(step)
    attempt = before.attempt + 1 if before else 1
    _current = StepRecord(
        step=step, state=STARTED, attempt=attempt, started_at=_now(), error="", facts={}, inputs=inputs
    )
    _write(_current)


def note(**facts: Any) -> None:
    """Add facts to the running step's record: numbers and short texts that a message may quote."""
    global _current
    if _current is not None:
        _current = dataclasses.replace(_current, facts=_current.facts | facts)


def finish() -> None:
    """Record that the step ended well."""
    _end(state=FINISHED, ended_at=_now())


def fail(error: str, mistake: bool, at: str = "") -> None:
    """Record that the step failed; `mistake`: the user has to change something before another attempt can succeed."""
    _end(state=FAILED, error=error, mistake=mistake, ended_at=at or _now())


def read_records(folder: Path) -> dict[str, StepRecord]:
    """The records of a run, by step; one that cannot be read is logged and left out."""
    records = {}
    for path in sorted(folder.glob("*.json")):
        try:
            records[path.stem] = from_dict(StepRecord, read_json(path))
        except (OSError, ValueError) as error:
            progress.log(f"the record {path.name} cannot be read: {error}")
    return records


def _end(**found: Any) -> None:
    global _current
    if _current is not None:
        _write(dataclasses.replace(_current, **found))
        _current = None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(record: StepRecord) -> None:
    folder = records_folder()
    assert folder is not None
    write_json(folder / f"{record.step}.json", dataclasses.asdict(record))
