"""Records to chat rows: the same system prompt for training and for every question asked later.

Out, a folder: `train.jsonl` (see components/data/chat.py), `held_out.jsonl` of the same form, the questions, the
dropped rows, `system_prompt.txt` and `report.json`. Rows stand in the order of their digests: the same rows in another
order are trained on in the same order, and give the same model.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from components.data import chat
from components.shared import progress
from components.shared.problems import problem, quote
from components.shared.storage import publish_folder, read_json, write_json
from components.shared.workspace import DROPPED, REVIEW

PARTS = 64  # files that the rows wait in
DIGITS = 64  # of a SHA-256 in hexadecimal
HANDED_ON = ("gap_questions.jsonl", "retention_questions.jsonl", REVIEW, DROPPED)

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatReport:
    """What there is to train on."""

    samples: int
    held_out: int
    """Samples set aside."""
    system_prompt: str
    data_digest: str
    """SHA-256 of the chat rows to train on, whatever their order and the files that they come from."""
    held_out_digest: str
    """The same of the rows that are set aside."""
    ingest: dict[str, Any]
    """The report of ingest_sdg."""
    seconds: float


def format_chat(*, records: Path, system_prompt: str, output: Path) -> FormatReport:
    """Make the folder of chat rows out of what ingest_sdg made. Without a system prompt conversations begin with the
    question. Raises Problems when it is no valid Unicode."""
    started = time.monotonic()
    check_system_prompt(system_prompt)
    system_prompt = system_prompt.strip()
    with publish_folder(output) as folder:
        samples, data_digest = _write_rows(records / "records.jsonl", folder / "train.jsonl", system_prompt)
        held_out, held_out_digest = _write_rows(records / "held_out.jsonl", folder / "held_out.jsonl", system_prompt)
        report = FormatReport(
            samples=samples,
            held_out=held_out,
            system_prompt=system_prompt,
            data_digest=data_digest,
            held_out_digest=held_out_digest,
            ingest=read_json(records / "report.json"),
            seconds=time.monotonic() - started,
        )
        (folder / "system_prompt.txt").write_text(system_prompt, encoding="utf-8")
        for name in HANDED_ON:
            shutil.copyfile(records / name, folder / name)
        write_json(folder / "report.json", dataclasses.asdict(report))
    progress.log(f"{report.samples} chat rows, digest {report.data_digest[:12]}")
    return report


def check_system_prompt(system_prompt: str) -> None:
    """Raises Problems when it holds what rows may not hold either: NUL, or half a surrogate pair."""
    if chat.NO_TEXT.search(system_prompt):
        raise problem(
            f"system_prompt is {quote(progress.printable(system_prompt))}",
            where="parameter system_prompt",
            rule="text in Unicode, without NUL",
            remedy="correct it; the shell may have passed on bytes that are not UTF-8",
        )


def _write_rows(records: Path, output: Path, system_prompt: str) -> tuple[int, str]:
    """Write the chat rows in the order of their digests; gives how many there are, and the digest of all.

    Parts of the rows wait in files, so that no more than one of PARTS has to be sorted in memory.
    """
    count, total = 0, hashlib.sha256()
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(tempfile.TemporaryFile(dir=output.parent)) for _ in range(PARTS)]
        with records.open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                row = _encode(chat.training_row(system_prompt, record["question"], record["response"])).encode()
                digest = hashlib.sha256(row)
                part = digest.digest()[0] * PARTS // 256
                parts[part].write(digest.hexdigest().encode() + row + b"\n")
        with output.open("wb") as ordered:
            for waiting in parts:
                waiting.seek(0)
                for entry in sorted(waiting):
                    total.update(bytes.fromhex(entry[:DIGITS].decode()))
                    ordered.write(entry[DIGITS:])
                    count += 1
    return count, total.hexdigest()
