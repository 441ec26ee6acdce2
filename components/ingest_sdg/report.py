"""What ingestion reports."""

import dataclasses
from typing import Any

DROP_REASONS = {
    "judged unfaithful": "the judge of the synthetic-data run did not find the answer in the source",
    "empty question": "nothing to ask",
    "empty response": "there is no answer to train on",
    "gap question": "the evaluation asks it; an answer that was trained on may only be remembered",
    "duplicate": "another row has the same question and answer",
    "near duplicate": "another row has nearly the same question and answer, with the same numbers",
    "conflict": "the same question has different answers, and the data does not say which one is right",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What was read and what became of it: rows_read = kept + held_out + the sum of dropped."""

    data: str
    files: int
    rows_read: int
    kept: int
    held_out: int
    held_out_asked: int
    """Rows that held_out_share asks for; groups that are too large are not held out."""
    largest_group: int
    """Rows of the largest group about the same; 0 when nothing is asked for."""
    dropped: dict[str, int]
    """Rows per reason, every reason of DROP_REASONS."""
    conflicts: int
    """Questions with several answers, dropped or not."""
    conflicting_questions: list[str]
    """The first of them."""
    gap_questions_in_data: list[str]
    """Gap questions that rows ask, dropped or not."""
    gap_questions: int
    retention_questions: int
    questions_digest: str
    options: dict[str, Any]
    seconds: float
