"""The rows of SDG output, and what judgments they carry."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.data.tables import Table, clean, open_table
from components.run.data_options import MAX_JUDGMENT, DataOptions, set_data_option
from components.shared.problems import Checks, list_some, quote, suggest

OTHER_NAMES = {
    "question": ("prompt", "instruction", "query", "input", "user"),
    "response": ("answer", "output", "completion", "assistant"),
    "judgment": ("faithfulness", "judgment", "judgement", "verdict", "faithful"),
}
"""Other usual names of the same columns: what an error proposes when one is missing."""

MAX_NAME = 80  # characters of a column's name that an error repeats
MAX_UNKNOWN_JUDGMENTS = 5  # more of them, and the column holds something else


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a table after cleaning."""

    line: int
    """In which it begins."""
    question: str
    response: str
    judgment: str | None
    """None where there is none: in data without that column, and in an object without that name."""


def read_file(path: Path, shown: str, options: DataOptions) -> Iterator[Row]:
    """The rows of one file, cleaned. Raises Problems naming missing columns, and what cannot be read."""
    columns = options.column_names
    table = open_table(path, shown, columns.values())
    refuse = options.unjudged == "refuse"
    judged = refuse or table.kind == "jsonl" or columns["judgment"] in table.columns
    names = [columns["question"], columns["response"], *([columns["judgment"]] if judged else [])]
    optional = [] if refuse else [columns["judgment"]]
    _check_columns(table, {kind: name for kind, name in columns.items() if name in names and name not in optional})
    for line, (question, response, *judgment) in table.rows(names):
        # An object of JSONL has a judgment or not, whatever the others have.
        verdict = judgment[0] if judgment else None
        verdict = "" if verdict is None and refuse else verdict
        yield Row(line, clean(question or ""), clean(response or ""), verdict if verdict is None else clean(verdict))


class Judgments:
    """Which rows are accepted; counts the judgments that are neither accepted nor rejected."""

    def __init__(self, shown: str, options: DataOptions) -> None:
        self._shown = shown
        self._options = options
        self._accepted = {judgment.casefold() for judgment in options.accepted}
        self._rejected = {judgment.casefold() for judgment in options.rejected}
        self._unknown: dict[str, list[int]] = {}
        self._counts: Counter[str] = Counter()
        self._rows = 0

    def accepts(self, row: Row) -> bool:
        self._rows += 1
        if row.judgment is None:
            return True
        verdict = row.judgment if len(row.judgment) <= MAX_JUDGMENT else row.judgment[:MAX_JUDGMENT] + "…"
        if verdict.casefold() in self._accepted:
            return True
        is_listed = verdict in self._unknown or len(self._unknown) <= MAX_UNKNOWN_JUDGMENTS
        if verdict.casefold() not in self._rejected and is_listed:
            self._counts[verdict] += 1
            if len(lines := self._unknown.setdefault(verdict, [])) < 5:
                lines.append(row.line)
        return False

    def check(self, checks: Checks) -> None:
        """Add a problem for each unknown judgment."""
        where = f"{self._shown}, column {self._options.column_names['judgment']}"
        rule = f"kept: {', '.join(self._options.accepted)}; dropped: {', '.join(self._options.rejected)}"
        if len(self._unknown) > MAX_UNKNOWN_JUDGMENTS:
            checks.add(
                f"more than {MAX_UNKNOWN_JUDGMENTS} unknown judgments in {self._rows} rows, for instance "
                f"{', '.join(map(quote, list(self._unknown)[:3]))}",
                where=where,
                rule=rule,
                remedy=f"name the judgment's column, as in {set_data_option('columns', 'judgment=verdict')}",
            )
            return
        for judgment, lines in self._unknown.items():
            count = self._counts[judgment]
            remedy = "fill the cells, or take the rows out"
            if judgment:
                remedy = "correct the rows"
                if "," not in judgment and len(judgment) <= MAX_JUDGMENT:
                    for verb, known in (("accept", self._options.accepted), ("reject", self._options.rejected)):
                        longer = set_data_option(f"{verb}ed_judgments", ",".join([*known, judgment]))
                        remedy += f"; to {verb} it, add {longer}"
            checks.add(
                f"unknown judgment {quote(judgment)} in {count} of {self._rows} rows",
                where=f"{where}, lines {list_some(lines, 5)}" + (f" and {count - 5} more" if count > 5 else ""),
                rule=rule,
                remedy=remedy,
            )


def _check_columns(table: Table, columns: Mapping[str, str]) -> None:
    checks = Checks()
    found = list_some(map(quote, table.columns), 20)
    for kind, column in columns.items():
        if column in table.columns:
            continue
        likely = next((name for name in table.columns if name.casefold() in OTHER_NAMES[kind]), "")
        similar = suggest(column, (name for name in table.columns[:100] if len(name) < MAX_NAME))
        remedy = f"rename the column, or add {set_data_option('columns', f'{kind}={likely or OTHER_NAMES[kind][0]}')}"
        if kind == "judgment":
            remedy += f"; to keep data without judgments, add {set_data_option('unjudged', 'keep')}"
        checks.add(
            f"column {quote(column)} is missing{f' (is it {likely}?)' if likely else similar}",
            where=f"{table.shown}, header",
            rule=f"columns needed: {', '.join(columns.values())}; columns found: {found}",
            remedy=remedy,
        )
    checks.raise_if_any()
