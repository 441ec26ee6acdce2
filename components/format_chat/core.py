"""Records to chat rows: the same system prompt for training and for every question asked later.

Out, a folder: `train.jsonl` (see components/chat.py), `held_out.jsonl` of the same form, the questions,
`system_prompt.txt` and `report.json`.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components import chat, progress
from components.storage import publish_folder, read_json, write_json

QUESTION_FILES = ("gap_questions.jsonl", "retention_questions.jsonl")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatReport:
    """What there is to learn."""

    samples: int
    held_out: int
    """Samples set aside."""
    system_prompt: str
    data_digest: str
    """SHA-256 of the chat rows to learn, whatever their order and the files that they come from."""
    held_out_digest: str
    """The same of the rows that are set aside."""
    ingest: dict[str, Any]
    """The report of ingest_sdg."""
    seconds: float


def format_chat(*, records: Path, system_prompt: str, output: Path) -> FormatReport:
    """Write the chat rows.

    Args:
        records: what ingest_sdg made.
        system_prompt: said first in every conversation; empty for none.
        output: folder to make.
    """
    started = time.monotonic()
    said = system_prompt.strip()
    with publish_folder(output) as folder:
        digests = _write_rows(records / "records.jsonl", folder / "train.jsonl", said)
        held_out = _write_rows(records / "held_out.jsonl", folder / "held_out.jsonl", said)
        report = FormatReport(
            samples=len(digests),
            held_out=len(held_out),
            system_prompt=said,
            data_digest=_digest(digests),
            held_out_digest=_digest(held_out),
            ingest=read_json(records / "report.json"),
            seconds=time.monotonic() - started,
        )
        (folder / "system_prompt.txt").write_text(said, encoding="utf-8")
        for name in QUESTION_FILES:
            shutil.copyfile(records / name, folder / name)
        write_json(folder / "report.json", dataclasses.asdict(report))
    progress.say(f"{report.samples} chat rows, digest {report.data_digest[:12]}")
    return report


def _write_rows(records: Path, output: Path, system_prompt: str) -> np.ndarray:
    """Write the chat rows; gives the SHA-256 of each."""
    digests = bytearray()

    def lines() -> Iterator[bytes]:
        with records.open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                row = _encode(chat.training_row(system_prompt, record["question"], record["response"])).encode()
                digests.extend(hashlib.sha256(row).digest())
                yield row + b"\n"

    with output.open("wb") as file:
        file.writelines(lines())
    return np.frombuffer(bytes(digests), "S32")


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.sort(rows).tobytes()).hexdigest()
