"""The questions that the models are asked.

A table is CSV or JSONL. Gap questions are those that an earlier approach left open. `reference` is the right answer
(alternatives separated by ` | `); `subject` is for the report; a column with `right` or `wrong` in it (or another of
VERDICT_WORDS) holds how another approach did. Other columns are ignored, with a line in the log:

    question,reference,rag,best_of_n
    What is worn by a master of the guild?,a crimson sash,right,wrong

Retention questions have the same two first columns and ask for what any model should still know afterwards. A row with
`distractors`, wrong answers separated by ` | `, and a `statement`, a sentence with {} for the answer, is multiple
choice; a row without is answered in full. `subject` is for the report. MMLU instead of an address is a set of its own.

    question,reference,distractors,statement,subject
    What is the capital of France?,Paris,London | Madrid | Berlin,The capital of France is {}.,geography
    How many legs has a spider?,8 | eight,,,biology
"""

import re
from importlib import resources
from typing import Any

from components.data import mmlu
from components.data.normal_form import normal_form
from components.data.tables import SmallTable, clean, read_local_table, read_table
from components.shared import progress
from components.shared.problems import Checks, list_some, quote, suggest
from components.shared.sources import without_credentials

NEEDED = ("question", "reference")
DISTRACTORS, STATEMENT, SUBJECT = "distractors", "statement", "subject"
VERDICT_WORDS = {
    **dict.fromkeys(("right", "correct", "yes", "true", "pass"), True),
    **dict.fromkeys(("wrong", "incorrect", "no", "false", "fail"), False),
}
"""What makes a column an approach: 0 and 1 may be an index or a flag as well."""
VERDICTS = VERDICT_WORDS | {"1": True, "0": False}
BUNDLED_RETENTION = "retention_questions.csv"
SMALL_WORDS = frozenset(  # a text of words reads better than a list of strings
    "a an the is are was were be of to in on at for and or it its by with as that this then".split()  # noqa: SIM905
)
"""Words that are no answer by themselves."""
WORD = re.compile(r"[^\W_]+")


def read_gap_questions(uri: str) -> list[dict[str, Any]]:
    """Each as {"question": ..., "reference": ..., "others": {approach: right?}, "subject": ...}.

    Raises:
        Problems: for questions without text or reference, repeated ones, and cells that are no verdict.
    """
    return _check(read_table(uri, NEEDED), without_credentials(uri), with_verdicts=True)


def read_retention_questions(uri: str) -> list[dict[str, Any]]:
    """Each as {"question": ..., "reference": ..., "choices": [...], "subject": ...}.

    An empty `uri` reads the project's own set, `mmlu` the questions that lm-evaluation-harness carries. The choices are
    statements, the right one first; there are none for questions that are answered in full.

    Raises:
        Problems: as `read_gap_questions`, for misspelled columns and rows that are half a multiple choice, and without
            the harness.
    """
    if uri == mmlu.NAME:
        return mmlu.read()
    if uri:
        return _check(read_table(uri, NEEDED), without_credentials(uri), with_verdicts=False)
    with resources.as_file(resources.files("components.data") / BUNDLED_RETENTION) as path:
        return _check(read_local_table(path, BUNDLED_RETENTION), BUNDLED_RETENTION, with_verdicts=False)


def _check(table: SmallTable, uri: str, with_verdicts: bool) -> list[dict[str, Any]]:
    checks = Checks()
    for column in NEEDED:
        if column not in table.columns:
            checks.add(
                f"column {quote(column)} is missing{suggest(column, table.columns)}",
                where=f"{uri}, header",
                rule=f"columns needed: {', '.join(NEEDED)}; columns found: {list_some(map(quote, table.columns), 20)}",
                remedy="add the column, or rename the one that holds it: an answer is graded against its reference",
            )
    checks.raise_if_any()
    known = (*NEEDED, SUBJECT, *([] if with_verdicts else [DISTRACTORS, STATEMENT]))
    further = {
        column: {_folded(cells[column]) for cells in table.rows.values()}
        for column in table.columns
        if column not in known
    }
    approaches = [column for column, cells in further.items() if with_verdicts and cells & VERDICT_WORDS.keys()]
    for column in () if with_verdicts else further:
        if meant := suggest(column, known):
            checks.add(
                f"unknown column {quote(column)}{meant}",
                where=f"{uri}, header",
                rule=f"retention questions have {', '.join(known)}",
                remedy="rename the column, or remove it",
            )
    if ignored := [column for column in further if column not in approaches]:
        hint = "; an approach's cells are right or wrong" if with_verdicts else ""
        progress.log(f"{uri}: ignored {list_some(map(quote, ignored), 20)}{hint}")
    questions: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, cells in table.rows.items():
        question, reference = (clean(cells[column]) for column in NEEDED)
        asked, where = normal_form(question), f"{uri}, row {number}"
        if not question or not reference:
            checks.add(
                f"row {number} has no {'reference' if question else 'question'}",
                where=where,
                rule="every question has a reference answer",
                remedy="fill the cell, or remove the row",
            )
        elif not all(map(_is_gradable, reference.split("|"))):
            checks.add(
                f"row {number} has a reference that no answer can be graded against: {quote(reference)}",
                where=where,
                rule="every alternative of a reference has a number, or a word that is an answer by itself",
                remedy="write the answer as words, or remove the row",
            )
        elif asked in seen:
            checks.add(
                f"row {number} repeats the question of row {seen[asked]}: {quote(question)}",
                where=where,
                rule="a question counts once, also in another spelling",
                remedy="remove one of the rows",
            )
        seen.setdefault(asked, number)
        verdicts = {approach: _folded(cells[approach]) for approach in approaches}
        for approach, verdict in verdicts.items():
            if verdict not in VERDICTS:
                checks.add(
                    f"{quote(verdict)} is no verdict",
                    where=f"{where}, column {quote(approach)}",
                    rule=f"a verdict is one of {', '.join(VERDICTS)}",
                    remedy="correct the cell, or remove the column",
                )
        entry: dict[str, Any] = {"question": question, "reference": reference}
        if with_verdicts:
            entry["others"] = {approach: VERDICTS.get(verdict, False) for approach, verdict in verdicts.items()}
        else:
            distractors, statement = clean(cells.get(DISTRACTORS, "")), clean(cells.get(STATEMENT, ""))
            choices = _choices(reference, distractors, statement)
            parts = (distractors, choices, statement, statement.count("{}") == 1)
            if any(parts) and not all(parts):
                checks.add(
                    f"row {number} is half a multiple choice: distractors {quote(distractors)}, "
                    f"statement {quote(statement)}",
                    where=f"{where}, columns {DISTRACTORS} and {STATEMENT}",
                    rule="both are filled, the statement with {} where the answer goes, or both are empty",
                    remedy="fill the other cell, or empty both: the question is answered in full then",
                )
            elif len(set(choices)) < len(choices):
                checks.add(
                    f"row {number} has a choice twice: {quote(reference)}, {quote(distractors)}",
                    where=f"{where}, column {DISTRACTORS}",
                    rule="distractors are wrong answers, each another one",
                    remedy="replace the repeated one",
                )
            entry["choices"] = choices
        entry["subject"] = clean(cells.get(SUBJECT, ""))
        questions.append(entry)
    if not questions:
        checks.add("there is no question", where=uri, rule="at least one row", remedy="check what wrote the file")
    checks.raise_if_any()
    return questions


def _is_gradable(alternative: str) -> bool:
    return any(word not in SMALL_WORDS for word in WORD.findall(alternative.casefold()))


def _folded(cell: str) -> str:
    return cell.strip().casefold()


def _choices(reference: str, distractors: str, statement: str) -> list[str]:
    """The statement with the right answer, and with each of the wrong ones; empty without distractors."""
    wrong = [part for part in map(clean, distractors.split("|")) if part]
    if not wrong:
        return []
    return [statement.replace("{}", answer) for answer in (clean(reference.split("|")[0]), *wrong)]
