"""How a step runs, whichever it is: named in its lines, timed, recorded, and ended with code 1 by an error.

    run_step("evaluate", workspace=Path(workspace))    # calls components.evaluate.core.evaluate(workspace=...)
    python -m components.shared.step evaluate workspace=/mnt/osft dataset=...    # the same, where all inputs are paths

KFP tries a step that failed again, whatever its exit code. Where the attempt before ended in a user's mistake, the same
mistake is reported again at once, before anything is imported or read, unless what the step was given has changed.
"""

import contextlib
import errno
import glob
import importlib
import itertools
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.shared import progress, records
from components.shared.problems import Problems, problem
from components.shared.records import StepRecord
from components.shared.storage import sha256_of_json

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Argo's next attempt follows within seconds. Somebody who tries the run again later may have mended what is not an
# input: a node, a secret, a server.
REPEAT_SECONDS = 300.0
REMOTE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
KFP_FOLDERS = ("/minio/", "/s3/", "/gcs/")
MAX_FILES = 10_000  # whose state is looked at


def run_step(name: str, **inputs: Any) -> Any:
    """Run a step's core, the function of its name in components/<name>/core.py, and give what it returns. Of its
    arguments, paths of files that are there count with their size and time of change. Raises SystemExit with code 1
    when it fails; a user's mistake is printed without a traceback."""
    return run_as_step(name, lambda: getattr(importlib.import_module(f"components.{name}.core"), name), inputs)


def run_as_step(name: str, load: Callable[[], Callable[..., Any]], inputs: Mapping[str, Any]) -> Any:
    """The same, for a function that `load` gives."""
    progress.name_step(name)
    started = time.monotonic()
    progress.log("started")
    digest = _digest(inputs)
    before = records.last_attempt(name)
    _record(records.begin, name, digest)
    if before and _would_repeat(before, digest):
        progress.log(f"error: {before.error}")
        progress.log("the attempt before ended with this error and its inputs are the same: not tried again")
        _record(records.fail, before.error, True, before.ended_at)  # the time of the mistake, not of its repetition
        raise SystemExit(1)
    try:
        with _disk_full_is_a_problem():
            report = load()(**inputs)
    except Problems as error:
        progress.log(f"error: {error}")
        _record(records.fail, str(error), not error.may_pass)
        raise SystemExit(1) from None
    except Exception as error:
        progress.log(f"error: this is a fault of the program, not of your input\n{traceback.format_exc()}")
        _record(records.fail, f"a fault of the program: {type(error).__name__}, see its log", False)
        raise SystemExit(1) from None
    _record(records.finish)
    progress.log(f"finished in {progress.duration(time.monotonic() - started)}")
    sys.stdout.flush()
    return report


def _would_repeat(before: StepRecord, digest: str) -> bool:
    """Whether the attempt before ended by a mistake a moment ago, and nothing that the step is given has changed."""
    if not (before.mistake and digest and before.inputs == digest):
        return False
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(before.ended_at)).total_seconds() <= REPEAT_SECONDS
    except (TypeError, ValueError):  # without a zone, or no time: none of ours
        return False


def _digest(inputs: Mapping[str, Any]) -> str:
    """Names a step's inputs: values, and of files and folders what a change of them would change; the node as well.

    Empty when one of them is an address elsewhere: nobody here knows whether what lies there is still the same.
    """
    if any(isinstance(value, str) and REMOTE.match(value) for value in inputs.values()):
        return ""
    return sha256_of_json([records.node(), {name: [str(value), *_state_of(value)] for name, value in inputs.items()}])


def _state_of(value: Any) -> list[int]:
    """Size and time of change of the files that a path, file:// address or glob means; nothing for another value."""
    path = str(value).removeprefix("file://")
    if not isinstance(value, Path | str) or not path.startswith("/") or path.startswith(KFP_FOLDERS):
        return []  # KFP's folders are filled anew for each attempt, with the same files
    with contextlib.suppress(OSError, ValueError):
        named = [Path(path), *map(Path, sorted(glob.glob(path)))]
        inside = itertools.chain.from_iterable(folder.rglob("*") for folder in named if folder.is_dir())
        found = itertools.islice(itertools.chain(named, inside), MAX_FILES)
        return [number for file in found if file.exists() for number in (file.stat().st_size, file.stat().st_mtime_ns)]
    return []


@contextlib.contextmanager
def _disk_full_is_a_problem() -> Iterator[None]:
    """No room to write is nothing that the program could mend, whichever step finds it and wherever it writes."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise problem(
            f"nothing more can be written: {error.strerror}",
            where=str(error.filename or "the volume or the pod's own disk"),
            rule="a step needs room for what it makes; what was there stays, nothing is half published",
            remedy="enlarge the volume, or see what can go: osft-pipeline workspace prune; then run again",
            may_pass=True,
        ) from None


def _record(write: Callable[..., None], *arguments: Any) -> None:
    """Record what happens; a workspace that cannot be written stops the step where it needs it, and not here."""
    try:
        write(*arguments)
    except OSError as error:
        progress.log(f"this is not recorded for the message at the run's end: {error.strerror}")


if __name__ == "__main__":
    run_step(sys.argv[1], **{name: Path(path) for name, path in (one.split("=", 1) for one in sys.argv[2:])})
