"""The rows of SDG output: a table with a column each for question, response and judgment, or messages."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

from components.data.chat import MESSAGES, read_pair
from components.data.tables import Table, clean, open_table
from components.run.data_options import DataOptions, set_data_option
from components.shared.problems import Checks, list_some, quote, suggest

OTHER_NAMES = {
    "question": ("prompt", "instruction", "query", "input", "user"),
    "response": ("answer", "output", "completion", "assistant"),
    "judgment": ("faithfulness", "judgment", "judgement", "verdict", "faithful"),
}
"""Other usual names of the same columns: what an error proposes when one is missing."""

MAX_NAME = 80  # characters of a column's name that an error repeats
MAX_REASONS = 5  # why messages are not read that are each a problem


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a table after cleaning."""

    line: int
    """In which it begins."""
    question: str
    response: str
    judgment: str | None
    """None where there is none: in data without that column, and in an object without that name."""
    system: str = ""
    """The system message that messages bring with them."""


def read_file(path: Path, shown: str, options: DataOptions, checks: Checks, most: int | None = None) -> Iterator[Row]:
    """The rows of one file, cleaned; at most `most` of them.

    Adds missing columns to the problems, and messages of more than one question and one answer. The rows come all the
    same, with what is there: their judgments may be wrong, too. Raises Problems naming what cannot be read."""
    columns = options.column_names
    table = open_table(path, shown, (*columns.values(), MESSAGES))
    if MESSAGES in table.columns and not {columns["question"], columns["response"]} <= set(table.columns):
        yield from _read_messages(table, columns["judgment"], checks, most)
        return
    refuse = options.unjudged == "refuse"
    needed = {kind: name for kind, name in columns.items() if refuse or kind != "judgment"}
    missing = _check_columns(table, needed, checks)
    must_be_judged = refuse and "judgment" not in missing
    names = [name for name in columns.values() if name in table.columns or table.kind == "jsonl"]
    for line, cells in itertools.islice(table.rows(names), most):
        row = dict(zip(names, cells, strict=True))
        question, response, judgment = (row.get(name) for name in columns.values())
        if judgment is None and must_be_judged:  # an object of JSONL has a judgment or not, whatever the others have
            judgment = ""
        yield Row(line, clean(question or ""), clean(response or ""), None if judgment is None else clean(judgment))


def _read_messages(table: Table, judgment: str, checks: Checks, most: int | None) -> Iterator[Row]:
    """The rows of a table of messages. They need no judgment: whoever writes this form has chosen what to train on."""
    names = [MESSAGES, *([judgment] if judgment in table.columns or table.kind == "jsonl" else [])]
    wrong: dict[str, list[int]] = {}
    for line, (messages, *judged) in itertools.islice(table.rows(names, names[1:]), most):
        try:
            system, question, response = read_pair(messages or "null")
        except ValueError as error:
            wrong.setdefault(str(error) if len(wrong) < MAX_REASONS else "other reasons", []).append(line)
            continue
        verdict = judged[0] if judged else None
        yield Row(line, clean(question), clean(response), None if verdict is None else clean(verdict), clean(system))
    for reason, lines in wrong.items():
        checks.add(
            f"{len(lines)} rows are no question with its answer: {reason}",
            where=f"{table.shown}, lines {list_some(lines, 5)}",
            rule=f"{MESSAGES} is a list of an optional system message, one of the user and one of the assistant",
            remedy="take these rows out, or make a row of each question with its answer",
        )


def _check_columns(table: Table, columns: dict[str, str], checks: Checks) -> Collection[str]:
    """Add a problem for each missing column; gives what they are for."""
    missing = {kind: column for kind, column in columns.items() if column not in table.columns}
    found = list_some(map(quote, table.columns), 20)
    for kind, column in missing.items():
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
    return missing
