"""What ingestion reports."""

import dataclasses
from typing import Any

from components.ingest_sdg.judgments import EXPLAINED
from components.shared.problems import quote

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
    judgments: dict[str, int]
    """Rows by the word that was read as their judgment."""
    explained_judgments: int
    """Rows of these whose cell holds more than the word."""
    unjudged: int
    """Rows without a judgment, which are kept."""
    own_system_messages: int
    """Rows that bring a system message with them, which is not trained on."""
    system_message: str
    """The first of these."""
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


def remarks(report: IngestReport) -> list[str]:
    """How the rows were read, as far as it does not go without saying: for the log and the review page."""
    lines = []
    if report.judgments:
        lines.append("judgments: " + ", ".join(f"{count} {word}" for word, count in report.judgments.items()))
    if report.explained_judgments:
        lines.append(f"of these, in cells that hold more: {report.explained_judgments}; read is {EXPLAINED}")
    if report.unjudged:
        lines.append(f"rows without a judgment, which count as faithful: {report.unjudged}")
    if report.own_system_messages:
        lines.append(
            f"rows with a system message of their own, as {quote(report.system_message)}: "
            f"{report.own_system_messages}; the run's system_prompt takes its place, in training as for the questions"
        )
    return lines
