"""What every source of models has: files with their sizes, a commit, and a way to read each from any byte on."""

import dataclasses
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any

from components.shared import progress
from components.shared.calls import Deadline

DOWNLOAD_TIMEOUT_SECONDS = 300.0  # without progress, until a download is given up; the step's retry resumes it
MAX_FILE_BYTES = 1 << 50  # no disk holds more
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 30.0  # between two attempts, doubled each time

# What a model card says about where the model comes from and what it may be used for.
CARD_FIELDS = (
    "base_model", "base_model_relation", "language", "library_name", "license", "license_link", "license_name",
    "pipeline_tag", "tags",
)  # fmt: skip
CARD_TEXT, CARD_LIST = 200, 30  # characters of a string and entries of a list that are kept: the author's own words


class Unreachable(Exception):
    """A source that does not answer, or stopped in the middle: another attempt may succeed."""

    def __init__(self, what: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds or 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInfo:
    """What a source says about a file."""

    size: int
    digest: str
    """sha256 (64 digits), git's blob id (40), MD5 (32), or empty where the source states none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One state of a model, somewhere."""

    name: str
    """org/name, the folder, or the s3:// address."""
    revision: str
    """The branch, tag or commit that the user named; empty where there are no revisions."""
    commit: str
    """40 digits that stand for this state."""
    where: str
    """For errors."""
    if_damaged: str
    """The remedy when a file's content is not what the source says."""
    files: Mapping[str, FileInfo]
    """Everything at the top of the source that may belong to the model; looked up only for what is wanted, which may
    ask the source. Raises Problems when that fails."""
    card: dict[str, Any]
    """`CARD_FIELDS` of the model card."""
    read: Callable[[str, int, int], Generator[bytes, None, None]]
    """A file's content from a byte on, at least up to another one. Raises Unreachable, or Problems where another
    attempt is useless."""


class RetryPolicy:
    """Waits between attempts, longer each time, until there was no progress for too long: one deadline for all."""

    def __init__(self, timeout_seconds: float, stopped: threading.Event) -> None:
        self.deadline = Deadline(timeout_seconds)
        self._stopped = stopped
        self._wait = FIRST_WAIT_SECONDS

    def renew(self) -> None:
        """There was progress."""
        self.deadline.renew()
        self._wait = FIRST_WAIT_SECONDS

    def wait(self, error: Unreachable, what: str) -> None:
        """Wait before the next attempt. Raises Unreachable the given one, when there was no progress for too long, or
        the source asks for a longer wait."""
        seconds = max(self._wait, error.retry_after_seconds)
        if seconds > self.deadline.seconds_left:
            raise error
        progress.log(f"{what}: {error}; trying again in {progress.duration(seconds)}")
        self._wait = min(2 * self._wait, MAX_WAIT_SECONDS)
        self._stopped.wait(seconds)


def card_fields(card: object) -> dict[str, Any]:
    """The fields of a model card that are kept, each of a bounded length; a card of another form has none."""
    found: dict[str, Any] = {}
    for name in CARD_FIELDS:
        value = card.get(name) if isinstance(card, dict) else None
        if isinstance(value, list):
            found[name] = [entry[:CARD_TEXT] for entry in value[:CARD_LIST] if isinstance(entry, str)]
        elif isinstance(value, str):
            found[name] = value[:CARD_TEXT]
    return found
