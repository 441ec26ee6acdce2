"""SDG output to canonical records: read, filter by judgment, clean, deduplicate; every row is accounted for.

In, a table as a synthetic-data run writes it (other columns are ignored), one file or many:

    question,response,faithfulness_judgment
    What colour is a master's sash?,A master's sash is crimson.,YES

Out, a folder with `records.jsonl` (the rows to train on), `held_out.jsonl` (those set aside), `dropped.jsonl` (the
others, and why), `gap_questions.jsonl`, `retention_questions.jsonl`, `report.json` and `review.html`, which is
copied to the run's folder. The questions are read here too, because this is the step that may read from anywhere.

Rows are read one at a time. Of those that may be trained on only hashes stay in memory; their texts wait in a file.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.data.questions import read_gap_questions, read_retention_questions
from components.data.saved_datasets import find_tables
from components.ingest_sdg import review as review_page
from components.ingest_sdg.judgments import Judgments
from components.ingest_sdg.report import DROP_REASONS, IngestReport, remarks
from components.ingest_sdg.row_store import RowStore
from components.ingest_sdg.rows import read_file
from components.run.data_options import DataOptions
from components.shared import progress, sources
from components.shared.problems import Checks, Problems, list_some, quote
from components.shared.storage import publish_folder, sha256_of_json, write_json, write_jsonl, write_text
from components.shared.workspace import REVIEW

MAX_NAMED = 100  # questions that the report repeats; the files have all rows
FIRST_ROWS = 10_000  # that a check before a run looks at


def ingest_sdg(
    *, data: str, questions: str, retention_questions: str, output: Path, review: Path, options: Mapping[str, Any]
) -> IngestReport:
    """Read everything that the run trains on and is asked, from addresses of files, folders or globs; without
    general questions the project's own are taken. Makes the folder `output`, and the page `review` of what was
    dropped, with rows to look at. Raises Problems for anything unreadable or unusable, all of it at once."""
    started = time.monotonic()
    checks = Checks()
    parsed = DataOptions()
    gap: list[dict[str, Any]] = []
    retention: list[dict[str, Any]] = []
    with checks.collecting():
        parsed = DataOptions.from_mapping(options)
    with checks.collecting():
        gap = read_gap_questions(questions, parsed.question_names)
        progress.log(f"read {len(gap)} gap questions from {sources.without_credentials(questions)}")
    with checks.collecting():
        retention = read_retention_questions(retention_questions, parsed.question_names)
        progress.log(f"read {len(retention)} retention questions")
    with publish_folder(output) as folder:
        rows = RowStore(folder, parsed, [entry["question"] for entry in gap])
        try:
            rows.read(data)
        except Problems as error:  # those of the data go first
            checks.problems[:0] = error.problems
        checks.raise_if_any()
        decision = rows.decide()
        counts = rows.counts
        if not rows.kept:
            checks.add(
                f"none of the {rows.count} rows can be trained on",
                where=sources.without_credentials(data),
                rule="a row is kept when it is judged faithful, complete, no duplicate, without conflict and no gap "
                "question",
                remedy="; ".join(
                    f"{count} dropped: {reason} ({DROP_REASONS[reason]})" for reason, count in counts.items()
                )
                or "the data has no rows",
            )
        checks.raise_if_any()
        report = IngestReport(
            data=sources.without_credentials(data),
            files=len(rows.files),
            rows_read=rows.count,
            kept=rows.kept,
            held_out=rows.held_out,
            held_out_asked=decision.held_out_asked,
            largest_group=decision.largest_group,
            dropped={reason: counts[reason] for reason in DROP_REASONS},
            judgments=dict(rows.judgments.counts),
            explained_judgments=rows.judgments.explained,
            unjudged=rows.judgments.unjudged,
            own_system_messages=sum(rows.systems.values()),
            system_message=next(iter(rows.systems), ""),
            conflicts=len(decision.conflicts),
            conflicting_questions=sorted(rows.texts_of(row)[0] for row in decision.conflicts[:MAX_NAMED]),
            gap_questions_in_data=rows.index.gap_questions(),
            gap_questions=len(gap),
            retention_questions=len(retention),
            questions_digest=sha256_of_json([gap, retention]),
            options=dataclasses.asdict(parsed),
            seconds=time.monotonic() - started,
        )
        page = review_page.render(report, rows.sample(decision))
        rows.close()
        write_jsonl(folder / "gap_questions.jsonl", gap)
        write_jsonl(folder / "retention_questions.jsonl", retention)
        write_json(folder / "report.json", dataclasses.asdict(report))
        write_text(folder / REVIEW, page)
    write_text(review, page)
    _log(report)
    return report


def check_data(data: str, options: DataOptions) -> None:
    """Look at the files behind an address, and at the first rows of those on this machine. Raises Problems for what is
    unreadable or unusable there."""
    checks = Checks()
    judgments = Judgments(sources.without_credentials(data), options)
    for file in find_tables(data):
        if file.local:
            with checks.collecting():
                for row in read_file(file.local, file.address, options, checks, FIRST_ROWS):
                    judgments.accepts(row)
    judgments.check(checks)
    checks.raise_if_any()


def _log(report: IngestReport) -> None:
    dropped = ", ".join(f"{count} {reason}" for reason, count in report.dropped.items() if count)
    held_out = f", {report.held_out} held out" if report.held_out else ""
    for line in remarks(report):
        progress.log(line)
    progress.log(f"kept {report.kept} of {report.rows_read} rows{held_out}; {dropped or 'none dropped'}")
    if report.held_out < report.held_out_asked:
        progress.log(
            f"asked to hold out {report.held_out_asked} rows, held out {report.held_out}: similar rows stay together, "
            f"and the largest group has {report.largest_group} rows"
        )
    if report.conflicts:
        what = "dropped" if report.options["conflicts"] == "drop" else "kept"
        progress.log(f"conflicting answers, all {what}: {list_some(map(quote, report.conflicting_questions), 5)}")
    if report.gap_questions_in_data:
        what = "dropped" if report.options["gap_questions"] == "drop" else "kept"
        progress.log(f"gap questions in the data, {what}: {list_some(map(quote, report.gap_questions_in_data), 5)}")
