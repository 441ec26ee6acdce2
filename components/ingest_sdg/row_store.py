"""Reads rows from the data and writes each to the file where it belongs: kept, held out or dropped."""

import json
from array import array
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np

from components.data.saved_datasets import find_tables
from components.data.tables import local_files
from components.ingest_sdg import review, selection
from components.ingest_sdg.judgments import Judgments
from components.ingest_sdg.rows import Row, read_file
from components.ingest_sdg.selection import RowIndex
from components.run.data_options import DataOptions
from components.shared import progress, sources
from components.shared.problems import Checks

REASONS = {
    selection.GAP_QUESTION: "gap question",
    selection.DUPLICATE: "duplicate",
    selection.NEAR_DUPLICATE: "near duplicate",
    selection.CONFLICT: "conflict",
}

_encode = json.JSONEncoder(ensure_ascii=False).encode


class RowStore:
    """The rows of a run; those that may be trained on wait in a file until all are read."""

    def __init__(self, folder: Path, options: DataOptions, gap: list[str]) -> None:
        self.count = 0
        self.kept = 0
        self.held_out = 0
        self.counts: Counter[str] = Counter()
        self.files: list[str] = []
        self.judgments = Judgments("", options)
        self.systems: Counter[str] = Counter()
        """Rows with a system message of their own, by the first of these messages and the others together."""
        self._options = options
        self._folder = folder
        self._waiting = folder / "waiting.jsonl"
        self._dropped = (folder / "dropped.jsonl").open("wb")
        self.index = RowIndex(options, gap)
        self._offsets, self._file_numbers, self._lines = array("Q"), array("L"), array("Q")
        self._reading: IO[bytes] | None = None

    def read(self, data: str) -> None:
        """Read all rows; those that cannot be trained on are dropped, the others wait. Raises Problems when a file
        cannot be read, or a judgment is unknown."""
        checks = Checks()
        self.judgments = Judgments(sources.without_credentials(data), self._options)
        with local_files(find_tables(data)) as files, self._waiting.open("wb") as waiting:
            end = 0
            for number, (file, path) in enumerate(files):
                before = self.count
                self.files.append(file.name)
                with checks.collecting():
                    for row in read_file(path, file.address, self._options, checks):
                        self.count += 1
                        line = self._add(row, file.name)
                        if line:
                            waiting.write(line)
                            self._offsets.append(end)
                            self._file_numbers.append(number)
                            self._lines.append(row.line)
                            end += len(line)
                progress.log(f"read {self.count - before} rows from {file.address}")
        self.judgments.check(checks)
        checks.raise_if_any()

    def _add(self, row: Row, file: str) -> bytes:
        """Drop a row, or give it as the line that waits."""
        reason = ""
        if row.system:
            self.systems[row.system if row.system in self.systems or not self.systems else ""] += 1
        if not self.judgments.accepts(row):
            reason = "judged unfaithful"
        elif not row.question:
            reason = "empty question"
        elif not row.response:
            reason = "empty response"
        entry = {"question": row.question, "response": row.response, "file": file, "line": row.line}
        if not reason:
            self.index.add(row.question, row.response)
            return _encode(entry).encode() + b"\n"
        self.counts[reason] += 1
        self._dropped.write(_encode(entry | {"judgment": row.judgment, "reason": reason}).encode() + b"\n")
        return b""

    def decide(self) -> selection.Decision:
        """Decide what becomes of the waiting rows, and write each where it belongs."""
        decision = self.index.decide(self.texts_of)
        decided = zip(decision.rows["outcome"].tolist(), decision.rows["duplicate_of"].tolist(), strict=True)
        records = (self._folder / "records.jsonl").open("wb")
        held_out = (self._folder / "held_out.jsonl").open("wb")
        with records, held_out, self._waiting.open("rb") as waiting:
            for number, ((outcome, other), line) in enumerate(zip(decided, waiting, strict=True)):
                if outcome == selection.KEPT:
                    self.kept += 1
                    records.write(line)
                elif outcome == selection.HELD_OUT:
                    self.held_out += 1
                    held_out.write(line)
                else:
                    self.counts[REASONS[outcome]] += 1
                    end = f', "reason": "{REASONS[outcome]}"'
                    if other != number:
                        place = {"file": self.files[self._file_numbers[other]], "line": self._lines[other]}
                        end += f', "duplicate_of": {_encode(place)}'
                    self._dropped.write(line[:-2] + end.encode() + b"}\n")
        return decision

    def close(self) -> None:
        """Only what is published stays."""
        self._dropped.close()
        if self._reading is not None:
            self._reading.close()
        self._waiting.unlink()

    def row(self, number: int) -> dict[str, Any]:
        """A waiting row by its number."""
        if self._reading is None:
            self._reading = self._waiting.open("rb")
        self._reading.seek(self._offsets[number])
        return dict(json.loads(self._reading.readline()))

    def texts_of(self, number: int) -> tuple[str, str]:
        row = self.row(number)
        return row["question"], row["response"]

    def sample(self, decision: selection.Decision) -> list[review.SampleRow]:
        """Rows for a person to look at."""
        counts = decision.rows["count"].to_numpy()
        kept = np.flatnonzero(decision.rows["outcome"] == selection.KEPT)
        chosen = review.choose(kept, self.index.lengths(), counts)
        return [review.SampleRow(why=why, count=int(counts[n]), **self.row(n)) for n, why in chosen.items()]
