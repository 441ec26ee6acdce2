"""SDG output to canonical records: read, judge, clean, deduplicate; every row is accounted for.

In, a CSV as a synthetic-data run writes it (other columns are ignored):

    question,response,faithfulness_judgment
    What colour is a master's sash?,A master's sash is crimson.,YES

Out, a folder with `records.jsonl` (what is learnt), `dropped.jsonl` (what is not, and why), `gap_questions.jsonl`,
`retention_questions.jsonl` and `report.json`. The questions are read here too, because this is the step that may read
from anywhere.
"""

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import pages, progress
from components.ingest_sdg.questions import read_gap_questions, read_retention_questions
from components.ingest_sdg.tables import clean, read_table
from components.problems import Checks, Problems, list_some, quote, suggest
from components.storage import publish_folder, sha256_of_json, write_json, write_jsonl, write_text

COLUMNS = {"question": "question", "response": "response", "judgment": "faithfulness_judgment"}
"""What is needed, and the column that sdg_hub's flows write it to."""

OTHER_NAMES = {
    "question": ("prompt", "instruction", "query", "input", "user"),
    "response": ("answer", "output", "completion", "assistant"),
    "judgment": ("faithfulness", "judgment", "judgement", "verdict", "faithful"),
}
"""Under which names the same column goes elsewhere: what an error proposes when one is missing."""

REVIEW_ROWS = 20
MOST_UNKNOWN_JUDGMENTS = 5  # more of them, and the column holds something else

ACCEPTED_JUDGMENTS = "YES"
REJECTED_JUDGMENTS = ("NO",)

DROP_REASONS = {
    "judged unfaithful": "the judge of the synthetic-data run did not find the answer in the source",
    "empty question": "nothing to ask",
    "empty response": "nothing to learn",
    "duplicate": "the same question and answer stand in an earlier row",
    "conflict": "the same question has different answers; which one is right, the data does not say",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What was read and what became of it: rows_read = kept + the sum of dropped."""

    data: str
    rows_read: int
    kept: int
    dropped: dict[str, int]
    """Rows per reason, every reason of DROP_REASONS."""
    conflicting_questions: list[str]
    gap_questions: int
    retention_questions: int
    questions_digest: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table after cleaning; `number` counts from 1 with the header, as a spreadsheet shows it."""

    number: int
    question: str
    response: str
    judgment: str


def ingest_sdg(
    *,
    data: str,
    questions: str,
    retention_questions: str,
    output: Path,
    review: Path,
    columns: str = "",
    accepted_judgments: str = ACCEPTED_JUDGMENTS,
) -> IngestReport:
    """Read everything that the run learns from and is asked about.

    Args:
        data: URI of the SDG output.
        questions: URI of the gap questions.
        retention_questions: URI of the general questions; empty for the set that comes with the project.
        output: folder to make.
        review: HTML page to make: what was dropped, and rows to look at.
        columns: the data's own column names, as in "response=answer, judgment=verdict"; see COLUMNS.
        accepted_judgments: judgments of rows to keep, with commas between; upper and lower case are the same.

    Raises:
        Problems: for anything unreadable or unusable, all of it at once.
    """
    started = time.monotonic()
    checks = Checks()
    accepted = tuple(judgment.strip() for judgment in accepted_judgments.split(","))
    rows: list[Row] = []
    gap: list[dict[str, Any]] = []
    retention: list[dict[str, Any]] = []
    try:
        rows = read_rows(data, parse_columns(columns), accepted)
        progress.say(f"read {len(rows)} rows from {data}")
    except Problems as error:
        checks.collect(error)
    try:
        gap = read_gap_questions(questions)
        progress.say(f"read {len(gap)} gap questions from {questions}")
    except Problems as error:
        checks.collect(error)
    try:
        retention = read_retention_questions(retention_questions)
        progress.say(f"read {len(retention)} retention questions")
    except Problems as error:
        checks.collect(error)
    checks.raise_if_any()

    kept, dropped = sort_rows(rows, accepted)
    counts = Counter(reason for _, reason in dropped)
    if not kept:
        checks.add(
            f"none of the {len(rows)} rows can be learnt",
            where=data,
            rule="a row is kept when it is judged faithful, complete, no duplicate and without conflict",
            remedy="; ".join(f"{count} dropped: {reason} ({DROP_REASONS[reason]})" for reason, count in counts.items())
            or "the file has a header and no rows",
        )
    checks.raise_if_any()

    conflicts = sorted({row.question for row, reason in dropped if reason == "conflict"})
    report = IngestReport(
        data=data,
        rows_read=len(rows),
        kept=len(kept),
        dropped={reason: counts[reason] for reason in DROP_REASONS},
        conflicting_questions=conflicts,
        gap_questions=len(gap),
        retention_questions=len(retention),
        questions_digest=sha256_of_json([gap, retention]),
        seconds=time.monotonic() - started,
    )
    with publish_folder(output) as folder:
        write_jsonl(folder / "records.jsonl", ({"question": r.question, "response": r.response} for r in kept))
        write_jsonl(folder / "dropped.jsonl", ({**dataclasses.asdict(row), "reason": why} for row, why in dropped))
        write_jsonl(folder / "gap_questions.jsonl", gap)
        write_jsonl(folder / "retention_questions.jsonl", retention)
        write_json(folder / "report.json", dataclasses.asdict(report))
    write_text(
        review,
        pages.render(
            "components.ingest_sdg",
            "review.html.j2",
            title="Training data to review",
            report=report,
            reasons=DROP_REASONS,
            sample=review_sample(kept),
        ),
    )
    progress.say(f"kept {len(kept)} of {len(rows)} rows; " + (_told(counts) or "none dropped"))
    if conflicts:
        progress.say(f"conflicting answers, none of them learnt: {list_some(map(quote, conflicts), 5)}")
    return report


def parse_columns(text: str) -> dict[str, str]:
    """COLUMNS with the user's own names, from "response=answer, judgment=verdict".

    Raises:
        Problems: for anything that is not known=name.
    """
    checks = Checks()
    columns = dict(COLUMNS)
    for part in filter(None, map(str.strip, text.split(","))):
        known, equals, name = (piece.strip() for piece in part.partition("="))
        if known not in COLUMNS or not equals or not name:
            checks.add(
                f"{quote(part)} names no column{suggest(known, COLUMNS)}",
                where="parameter columns",
                rule=f"known=name with commas between, known being {', '.join(COLUMNS)}",
                remedy="for instance columns='response=answer, judgment=verdict'",
            )
        columns[known] = name
    checks.raise_if_any()
    return columns


def read_rows(data: str, columns: Mapping[str, str], accepted_judgments: tuple[str, ...]) -> list[Row]:
    """The table's rows, cleaned.

    Raises:
        Problems: naming missing columns and unknown judgments.
    """
    table = read_table(data)
    checks = Checks()
    for kind, column in columns.items():
        if column in table.columns:
            continue
        likely = next((name for name in table.columns if name.casefold() in OTHER_NAMES[kind]), "")
        hint = f" (is it {likely}?)" if likely else suggest(column, map(str, table.columns))
        checks.add(
            f"column {quote(column)} is missing{hint}",
            where=f"{data}, header",
            rule=f"columns needed: {', '.join(columns.values())}; columns found: {list_some(table.columns, 20)}",
            remedy=f"rename the column, or name the right one, as in columns='{kind}={likely or OTHER_NAMES[kind][0]}'",
        )
    checks.raise_if_any()
    rows = [
        Row(number, clean(question), clean(response), clean(judgment))
        for number, question, response, judgment in zip(
            table.index,
            table[columns["question"]],
            table[columns["response"]],
            table[columns["judgment"]],
            strict=True,
        )
    ]
    known = {judgment.casefold() for judgment in (*accepted_judgments, *REJECTED_JUDGMENTS)}
    unknown: dict[str, list[int]] = {}
    for row in rows:
        if row.judgment.casefold() not in known:
            unknown.setdefault(row.judgment, []).append(row.number)
    if len(unknown) > MOST_UNKNOWN_JUDGMENTS:
        checks.add(
            f"{len(unknown)} different judgments in {len(rows)} rows, for instance {list_some(map(quote, unknown), 3)}",
            where=f"{data}, column {columns['judgment']}",
            rule=f"kept: {', '.join(accepted_judgments)}; dropped: {', '.join(REJECTED_JUDGMENTS)}",
            remedy="name the column that holds the judgment, as in columns='judgment=verdict'",
        )
        checks.raise_if_any()
    for judgment, numbers in unknown.items():
        checks.add(
            f"unknown judgment {quote(judgment)} in {len(numbers)} of {len(rows)} rows",
            where=f"{data}, column {columns['judgment']}, rows {list_some(numbers, 5)}",
            rule=f"kept: {', '.join(accepted_judgments)}; dropped: {', '.join(REJECTED_JUDGMENTS)}",
            remedy=f"correct the rows, or accept it: accepted_judgments='{','.join([*accepted_judgments, judgment])}'",
        )
    checks.raise_if_any()
    return rows


def sort_rows(rows: list[Row], accepted_judgments: tuple[str, ...]) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Rows to learn, and rows not to learn with the reason out of DROP_REASONS. Both in the table's order."""
    accepted = {judgment.casefold() for judgment in accepted_judgments}
    reasons: dict[int, str] = {}
    seen: set[tuple[str, str]] = set()
    answers: dict[str, set[str]] = {}
    for row in rows:
        key = (same(row.question), same(row.response))
        if row.judgment.casefold() not in accepted:
            reasons[row.number] = "judged unfaithful"
        elif not row.question:
            reasons[row.number] = "empty question"
        elif not row.response:
            reasons[row.number] = "empty response"
        elif key in seen:
            reasons[row.number] = "duplicate"
        else:
            seen.add(key)
            answers.setdefault(key[0], set()).add(key[1])
    for row in rows:
        if row.number not in reasons and len(answers[same(row.question)]) > 1:
            reasons[row.number] = "conflict"
    kept = [row for row in rows if row.number not in reasons]
    return kept, [(row, reasons[row.number]) for row in rows if row.number in reasons]


def review_sample(rows: list[Row]) -> list[Row]:
    """A fixed random draw of REVIEW_ROWS rows, and the rows with the shortest and the longest answers."""
    drawn = random.Random(0).sample(rows, min(REVIEW_ROWS, len(rows)))  # noqa: S311 - a sample, not a secret
    by_length = sorted(rows, key=lambda row: len(row.response))
    chosen = {row.number: row for row in (*drawn, *by_length[:3], *by_length[-3:])}
    return [chosen[number] for number in sorted(chosen)]


def same(text: str) -> str:
    """The form in which two texts count as the same: white space and upper and lower case make no difference."""
    return " ".join(text.casefold().split())


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
