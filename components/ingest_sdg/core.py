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
import json
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from components import progress, sources
from components.ingest_sdg import review as reviewing
from components.ingest_sdg import selection
from components.ingest_sdg.options import REJECTED_JUDGMENTS, DataOptions
from components.ingest_sdg.questions import read_gap_questions, read_retention_questions
from components.ingest_sdg.selection import Candidates
from components.ingest_sdg.tables import Table, clean, local_files, open_table
from components.problems import Checks, Problems, list_some, quote, suggest
from components.storage import publish_folder, sha256_of_json, write_json, write_jsonl, write_text

OTHER_NAMES = {
    "question": ("prompt", "instruction", "query", "input", "user"),
    "response": ("answer", "output", "completion", "assistant"),
    "judgment": ("faithfulness", "judgment", "judgement", "verdict", "faithful"),
}
"""Under which names the same column goes elsewhere: what an error proposes when one is missing."""

MOST_UNKNOWN_JUDGMENTS = 5  # more of them, and the column holds something else
MOST_NAMED = 100  # questions that the report repeats; all rows stand in the files
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
REASONS = {
    selection.GAP_QUESTION: "gap question",
    selection.DUPLICATE: "duplicate",
    selection.NEAR_DUPLICATE: "near duplicate",
    selection.CONFLICT: "conflict",
}

_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What was read and what became of it: rows_read = kept + held_out + the sum of dropped."""

    data: str
    files: int
    rows_read: int
    kept: int
    held_out: int
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
    try:
        parsed = DataOptions.from_mapping(options)
    except Problems as error:
        checks.collect(error)
    try:
        gap = read_gap_questions(questions)
        progress.say(f"read {len(gap)} gap questions from {sources.without_credentials(questions)}")
    except Problems as error:
        checks.collect(error)
    try:
        retention = read_retention_questions(retention_questions)
        progress.say(f"read {len(retention)} retention questions")
    except Problems as error:
        checks.collect(error)
    with publish_folder(output) as folder:
        rows = _Rows(folder, parsed, [entry["question"] for entry in gap])
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
            dropped={reason: counts[reason] for reason in DROP_REASONS},
            conflicts=len(conflicts),
            conflicting_questions=sorted(rows.questions_of(conflicts[:MOST_NAMED])),
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
    told = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    held_out = f", {rows.held_out} held out" if rows.held_out else ""
    progress.say(f"kept {rows.kept} of {rows.number} rows{held_out}; {told or 'none dropped'}")
    if conflicts.size:
        what = "none of them learnt" if parsed.conflicts == "drop" else "all of them learnt"
        progress.say(f"conflicting answers, {what}: {list_some(map(quote, report.conflicting_questions), 5)}")
    if gap_found:
        what = "left out" if parsed.gap_questions == "drop" else "learnt all the same"
        progress.say(f"{what}, they are gap questions: {list_some(map(quote, gap_found), 5)}")
    return report


def check_data(data: str, options: DataOptions) -> None:
    """Look at the files behind an address, and at the first rows of those on this machine.

    Raises:
        Problems: for what is unreadable or unusable there.
    """
    found = [file for file in sources.find_files(data) if file.local]
    checks = Checks()
    judgments = _Judgments(sources.without_credentials(data), options)
    for file in found:
        try:
            assert file.local is not None
            for row in itertools.islice(_read_file(file.local, file.address, options), FIRST_ROWS):
                judgments.accepts(row)
        except Problems as error:
            checks.collect(error)
    judgments.check(checks)
    checks.raise_if_any()


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a table after cleaning."""

    line: int
    """That it begins in."""
    question: str
    response: str
    judgment: str | None
    """None in data without judgments."""


class _Rows:
    """The rows on their way from the data to the files of what is kept and what is dropped."""

    def __init__(self, folder: Path, options: DataOptions, gap: list[str]) -> None:
        self.number = 0
        self.kept = 0
        self.held_out = 0
        self.counts: Counter[str] = Counter()
        self.files: list[str] = []
        self._options = options
        self._folder = folder
        self._waiting = folder / "waiting.jsonl"
        self._dropped = (folder / "dropped.jsonl").open("wb")
        self.candidates = Candidates(options, gap)
        self._offsets, self._file_numbers, self._lines = array("Q"), array("L"), array("Q")
        self._reading: IO[bytes] | None = None

    def read(self, data: str) -> None:
        """Read all rows; those that cannot be learnt are dropped, the others wait.

        Raises:
            Problems: when a file cannot be read, or a judgment is unknown.
        """
        checks = Checks()
        judgments = _Judgments(sources.without_credentials(data), self._options)
        with local_files(data) as files, self._waiting.open("wb") as waiting:
            end = 0
            for number, (file, path) in enumerate(files):
                before = self.number
                self.files.append(file.name)
                try:
                    for row in _read_file(path, file.address, self._options):
                        self.number += 1
                        line = self._place(row, file.name, judgments)
                        if line:
                            waiting.write(line)
                            self._offsets.append(end)
                            self._file_numbers.append(number)
                            self._lines.append(row.line)
                            end += len(line)
                except Problems as error:
                    checks.collect(error)
                progress.say(f"read {self.number - before} rows from {file.address}")
        judgments.check(checks)
        checks.raise_if_any()

    def _place(self, row: Row, file: str, judgments: "_Judgments") -> bytes:
        """Drop a row, or give it as the line that waits."""
        reason = ""
        if not judgments.accepts(row):
            reason = "judged unfaithful"
        elif not row.question:
            reason = "empty question"
        elif not row.response:
            reason = "empty response"
        entry = {"question": row.question, "response": row.response, "file": file, "line": row.line}
        if not reason:
            self.candidates.add(row.question, row.response)
            return _encode(entry).encode() + b"\n"
        self.counts[reason] += 1
        self._dropped.write(_encode(entry | {"judgment": row.judgment, "reason": reason}).encode() + b"\n")
        return b""

    def sort(self) -> selection.Decision:
        """Decide about the waiting rows and write each where it belongs."""
        decision = self.candidates.decide(self.texts_of)
        fates, instead = decision.fates.tolist(), decision.instead
        records = (self._folder / "records.jsonl").open("wb")
        held_out = (self._folder / "held_out.jsonl").open("wb")
        with records, held_out, self._waiting.open("rb") as waiting:
            for number, (fate, line) in enumerate(zip(fates, waiting, strict=True)):
                if fate == selection.KEPT:
                    self.kept += 1
                    records.write(line)
                elif fate == selection.HELD_OUT:
                    self.held_out += 1
                    held_out.write(line)
                else:
                    self.counts[REASONS[fate]] += 1
                    end = f', "reason": "{REASONS[fate]}"'
                    if instead[number] != number:
                        other = int(instead[number])
                        place = {"file": self.files[self._file_numbers[other]], "line": self._lines[other]}
                        end += f', "instead": {_encode(place)}'
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

    def conflicting_questions(self, decision: selection.Decision) -> np.ndarray:
        """The first row of each question with several answers."""
        rows = self.candidates.conflicts(decision)
        _, first = np.unique(self.candidates.question_keys()[rows], return_index=True)
        return np.sort(rows[first])

    def questions_of(self, rows: np.ndarray) -> list[str]:
        return [self.texts_of(int(number))[0] for number in rows]

    def sample(self, decision: selection.Decision) -> list[reviewing.Sampled]:
        """Rows for a person to look at."""
        kept = np.flatnonzero(decision.fates == selection.KEPT)
        chosen = reviewing.choose(kept, self.candidates.lengths, decision.times)
        return [reviewing.Sampled(why=why, times=int(decision.times[n]), **self.row(n)) for n, why in chosen.items()]


class _Judgments:
    """Which rows are accepted; counts the judgments that nobody explained."""

    def __init__(self, shown: str, options: DataOptions) -> None:
        self._shown = shown
        self._options = options
        self._accepted = {judgment.casefold() for judgment in options.accepted}
        self._rejected = {judgment.casefold() for judgment in REJECTED_JUDGMENTS}
        self._unknown: dict[str, list[int]] = {}
        self._counts: Counter[str] = Counter()
        self._rows = 0

    def accepts(self, row: Row) -> bool:
        self._rows += 1
        if row.judgment is None:
            return True
        judgment = row.judgment.casefold()
        if judgment in self._accepted:
            return True
        if judgment not in self._rejected and (row.judgment in self._unknown or len(self._unknown) < 1000):
            self._counts[row.judgment] += 1
            if len(lines := self._unknown.setdefault(row.judgment, [])) < 5:
                lines.append(row.line)
        return False

    def check(self, checks: Checks) -> None:
        """Add a problem for each unknown judgment."""
        where = f"{self._shown}, column {self._options.column_names['judgment']}"
        rule = f"kept: {', '.join(self._options.accepted)}; dropped: {', '.join(REJECTED_JUDGMENTS)}"
        if len(self._unknown) > MOST_UNKNOWN_JUDGMENTS:
            checks.add(
                f"{len(self._unknown)} different judgments in {self._rows} rows, for instance "
                f"{list_some(map(quote, itertools.islice(self._unknown, 3)))}",
                where=where,
                rule=rule,
                remedy="name the column that holds the judgment, as in columns='judgment=verdict'",
            )
            return
        for judgment, lines in self._unknown.items():
            count = self._counts[judgment]
            checks.add(
                f"unknown judgment {quote(judgment)} in {count} of {self._rows} rows",
                where=f"{where}, lines {list_some(lines, 5)}" + (f" and {count - 5} more" if count > 5 else ""),
                rule=rule,
                remedy="correct the rows, or accept it: "
                f"accepted_judgments='{','.join([*self._options.accepted, judgment[:80]])}'",
            )


def _read_file(path: Path, shown: str, options: DataOptions) -> Iterator[Row]:
    """The rows of one file, cleaned.

    Raises:
        Problems: naming missing columns, and what cannot be read.
    """
    columns = options.column_names
    table = open_table(path, shown, columns.values())
    judged = columns["judgment"] in table.columns or options.unjudged == "refuse"
    names = [columns["question"], columns["response"], *([columns["judgment"]] if judged else [])]
    _check_columns(table, {kind: name for kind, name in columns.items() if name in names})
    for line, cells in table.rows(names):
        yield Row(line, clean(cells[0]), clean(cells[1]), clean(cells[2]) if judged else None)


def _check_columns(table: Table, columns: Mapping[str, str]) -> None:
    checks = Checks()
    for kind, column in columns.items():
        if column in table.columns:
            continue
        likely = next((name for name in table.columns if name.casefold() in OTHER_NAMES[kind]), "")
        hint = f" (is it {likely}?)" if likely else suggest(column, table.columns[:100])
        unjudged = "; data without judgments is learnt with unjudged='keep'" if kind == "judgment" else ""
        checks.add(
            f"column {quote(column)} is missing{hint}",
            where=f"{table.shown}, header",
            rule=f"columns needed: {', '.join(columns.values())}; columns found: {list_some(table.columns, 20)}",
            remedy=f"rename the column, or name the right one, as in columns='{kind}={likely or OTHER_NAMES[kind][0]}'"
            + unjudged,
        )
    checks.raise_if_any()
