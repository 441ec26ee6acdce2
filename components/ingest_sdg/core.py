"""SDG output to canonical records: read, judge, clean, deduplicate; every row is accounted for.

In, a table as a synthetic-data run writes it (other columns are ignored), one file or many:

    question,response,faithfulness_judgment
    What colour is a master's sash?,A master's sash is crimson.,YES

Out, a folder with `records.jsonl` (what is learnt), `held_out.jsonl` (what is set aside), `dropped.jsonl` (what is not
learnt, and why), `gap_questions.jsonl`, `retention_questions.jsonl` and `report.json`. The questions are read here too,
because this is the step that may read from anywhere.

Rows pass through one by one; of those that may be learnt only hashes stay in memory, and their texts wait in a file.
"""

import dataclasses
import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.data.questions import read_gap_questions, read_retention_questions
from components.ingest_sdg import review as reviewing
from components.ingest_sdg.rows import Judgments, read_file
from components.ingest_sdg.sorting import Sorter
from components.run.data_options import DataOptions
from components.shared import progress, sources
from components.shared.problems import Checks, Problems, list_some, quote
from components.shared.storage import publish_folder, sha256_of_json, write_json, write_jsonl, write_text

MAX_NAMED = 100  # questions that the report repeats; all rows stand in the files
FIRST_ROWS = 10_000  # that a check before a run looks at

DROP_REASONS = {
    "judged unfaithful": "the judge of the synthetic-data run did not find the answer in the source",
    "empty question": "nothing to ask",
    "empty response": "nothing to learn",
    "gap question": "it is asked in the evaluation; an answer that was learnt by heart proves nothing",
    "duplicate": "the same question and answer stand in another row",
    "near duplicate": "nearly the same question and answer, with the same numbers, stand in another row",
    "conflict": "the same question has different answers; which one is right, the data does not say",
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


def ingest_sdg(
    *,
    data: str,
    questions: str,
    retention_questions: str,
    output: Path,
    review: Path,
    options: Mapping[str, Any],
) -> IngestReport:
    """Read everything that the run learns from and is asked about.

    Args:
        data: address of the SDG output: a file, a folder or a glob.
        questions: address of the gap questions.
        retention_questions: address of the general questions; empty for the set that comes with the project.
        output: folder to make.
        review: HTML page to make: what was dropped, and rows to look at.
        options: DataOptions by name: how the data is read and what of it is learnt.

    Raises:
        Problems: for anything unreadable or unusable, all of it at once.
    """
    started = time.monotonic()
    checks = Checks()
    parsed = DataOptions()
    gap: list[dict[str, Any]] = []
    retention: list[dict[str, Any]] = []
    with checks.collecting():
        parsed = DataOptions.from_mapping(options)
    with checks.collecting():
        gap = read_gap_questions(questions)
        progress.log(f"read {len(gap)} gap questions from {sources.without_credentials(questions)}")
    with checks.collecting():
        retention = read_retention_questions(retention_questions)
        progress.log(f"read {len(retention)} retention questions")
    with publish_folder(output) as folder:
        rows = Sorter(folder, parsed, [entry["question"] for entry in gap])
        try:
            rows.read(data)
        except Problems as error:
            checks.problems[:0] = error.problems
        checks.raise_if_any()
        decision = rows.sort()
        counts = rows.counts
        if not rows.kept:
            checks.add(
                f"none of the {rows.number} rows can be learnt",
                where=sources.without_credentials(data),
                rule="a row is kept when it is judged faithful, complete, no duplicate, without conflict and no gap "
                "question",
                remedy="; ".join(
                    f"{count} dropped: {reason} ({DROP_REASONS[reason]})" for reason, count in counts.items()
                )
                or "the data has no rows",
            )
        checks.raise_if_any()
        conflicts, gap_found = rows.conflicting_questions(decision), rows.candidates.gap_questions()
        report = IngestReport(
            data=sources.without_credentials(data),
            files=len(rows.files),
            rows_read=rows.number,
            kept=rows.kept,
            held_out=rows.held_out,
            held_out_asked=decision.held_out_asked,
            largest_group=decision.largest_group,
            dropped={reason: counts[reason] for reason in DROP_REASONS},
            conflicts=len(conflicts),
            conflicting_questions=sorted(rows.questions_of(conflicts[:MAX_NAMED])),
            gap_questions_in_data=gap_found,
            gap_questions=len(gap),
            retention_questions=len(retention),
            questions_digest=sha256_of_json([gap, retention]),
            options=dataclasses.asdict(parsed),
            seconds=time.monotonic() - started,
        )
        page = reviewing.page(report, DROP_REASONS, rows.sample(decision))
        rows.close()
        write_jsonl(folder / "gap_questions.jsonl", gap)
        write_jsonl(folder / "retention_questions.jsonl", retention)
        write_json(folder / "report.json", dataclasses.asdict(report))
    write_text(review, page)
    told = ", ".join(f"{count} {reason}" for reason, count in report.dropped.items() if count)
    held_out = f", {rows.held_out} held out" if rows.held_out else ""
    progress.log(f"kept {rows.kept} of {rows.number} rows{held_out}; {told or 'none dropped'}")
    if report.held_out < report.held_out_asked:
        progress.log(
            f"asked for {report.held_out_asked} rows to hold out, held out {report.held_out}: rows about the same stay "
            f"together, and the largest group has {report.largest_group} rows"
        )
    if conflicts.size:
        what = "none of them learnt" if parsed.conflicts == "drop" else "all of them learnt"
        progress.log(f"conflicting answers, {what}: {list_some(map(quote, report.conflicting_questions), 5)}")
    if gap_found:
        what = "left out" if parsed.gap_questions == "drop" else "learnt all the same"
        progress.log(f"{what}, they are gap questions: {list_some(map(quote, gap_found), 5)}")
    return report


def check_data(data: str, options: DataOptions) -> None:
    """Look at the files behind an address, and at the first rows of those on this machine.

    Raises:
        Problems: for what is unreadable or unusable there.
    """
    found = [file for file in sources.find_files(data) if file.local]
    checks = Checks()
    judgments = Judgments(sources.without_credentials(data), options)
    for file in found:
        with checks.collecting():
            assert file.local is not None
            for row in itertools.islice(read_file(file.local, file.address, options), FIRST_ROWS):
                judgments.accepts(row)
    judgments.check(checks)
    checks.raise_if_any()
