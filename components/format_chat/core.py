"""Records to chat rows: the same system prompt for training and for every question asked later.

Out, a folder: `train.jsonl` (see components/chat.py), the questions, `system_prompt.txt` and `report.json`.
Training questions that are gap questions word by word are left out: a test that was learnt by heart proves nothing.
"""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

from components import chat, progress
from components.ingest_sdg.core import same
from components.problems import list_some, problem, quote
from components.storage import publish_folder, read_json, read_jsonl, sha256_of_json, write_json, write_jsonl

QUESTION_FILES = ("gap_questions.jsonl", "retention_questions.jsonl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatReport:
    """What there is to learn."""

    samples: int
    left_out_as_gap_questions: list[str]
    """Gap questions that stood in the data word by word."""
    system_prompt: str
    data_digest: str
    """SHA-256 of the chat rows, whatever their order."""
    ingest: dict[str, Any]
    """The report of ingest_sdg."""
    seconds: float


def format_chat(*, records: Path, system_prompt: str, output: Path) -> FormatReport:
    """Write the chat rows.

    Args:
        records: what ingest_sdg made.
        system_prompt: said first in every conversation; empty for none.
        output: folder to make.

    Raises:
        Problems: when nothing is left to learn.
    """
    started = time.monotonic()
    asked = {same(entry["question"]): entry["question"] for entry in read_jsonl(records / "gap_questions.jsonl")}
    rows = []
    left_out = []
    for record in read_jsonl(records / "records.jsonl"):
        if same(record["question"]) in asked:
            left_out.append(asked[same(record["question"])])
        else:
            rows.append(chat.training_row(system_prompt.strip(), record["question"], record["response"]))
    if not rows:
        raise problem(
            f"all {len(left_out)} records are gap questions",
            where="the data and the gap questions",
            rule="gap questions are asked, never learnt",
            remedy="ask other questions than the data answers word by word",
        )
    report = FormatReport(
        samples=len(rows),
        left_out_as_gap_questions=left_out,
        system_prompt=system_prompt.strip(),
        data_digest=sha256_of_json(sorted(sha256_of_json(row) for row in rows)),
        ingest=read_json(records / "report.json"),
        seconds=time.monotonic() - started,
    )
    with publish_folder(output) as folder:
        write_jsonl(folder / "train.jsonl", rows)
        (folder / "system_prompt.txt").write_text(system_prompt.strip(), encoding="utf-8")
        for name in QUESTION_FILES:
            shutil.copyfile(records / name, folder / name)
        write_json(folder / "report.json", dataclasses.asdict(report))
    progress.say(f"{len(rows)} chat rows, digest {report.data_digest[:12]}")
    if left_out:
        progress.say(f"left out, they are gap questions: {list_some(map(quote, left_out), 5)}")
    return report
