"""The questions that the models are asked.

Gap questions are those that an earlier approach left open. `reference` is the right answer (alternatives separated by
` | `); further columns hold how other approaches did, each cell `right` or `wrong`:

    question,reference,rag,best_of_n
    What is worn by a master of the guild?,a crimson sash,right,wrong

Retention questions have the same two first columns and ask for what any model should still know afterwards. With the
columns `distractors`, wrong answers separated by ` | `, and `statement`, a sentence with {} for the answer, they are
multiple choice as well:

    question,reference,distractors,statement
    What is the capital of France?,Paris,London | Madrid | Berlin,The capital of France is {}.
"""

from importlib import resources
from typing import TYPE_CHECKING, Any

from components.evaluate.verdicts import words
from components.ingest_sdg.tables import clean, read_table
from components.problems import Checks, list_some, quote, suggest

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("question", "reference")
DISTRACTORS, STATEMENT = "distractors", "statement"
VERDICTS = ("right", "wrong")
BUNDLED_RETENTION = "retention_questions.csv"


def read_gap_questions(uri: str) -> list[dict[str, Any]]:
    """Each as {"question": ..., "reference": ..., "others": {approach: right?}}.

    Raises:
        Problems: for questions without text or reference, repeated ones, and cells that are no verdict.
    """
    return _check(read_table(uri), uri, with_verdicts=True)


def read_retention_questions(uri: str) -> list[dict[str, Any]]:
    """Each as {"question": ..., "reference": ..., "choices": [...]}; an empty `uri` reads the project's own set.

    The choices are statements, the right one first; there are none for questions without distractors.

    Raises:
        Problems: as `read_gap_questions`, and when some questions have distractors and others have not.
    """
    if uri:
        return _check(read_table(uri), uri, with_verdicts=False)
    with resources.as_file(resources.files("components.evaluate") / BUNDLED_RETENTION) as path:
        return _check(read_table(str(path)), BUNDLED_RETENTION, with_verdicts=False)


def _check(table: "pd.DataFrame", uri: str, with_verdicts: bool) -> list[dict[str, Any]]:
    checks = Checks()
    for column in NEEDED:
        if column not in table.columns:
            checks.add(
                f"column {quote(column)} is missing{suggest(column, map(str, table.columns))}",
                where=f"{uri}, header",
                rule=f"columns needed: {', '.join(NEEDED)}; columns found: {list_some(table.columns, 20)}",
                remedy="add the column: without a reference nobody can say whether an answer is right",
            )
    checks.raise_if_any()
    approaches = [str(column) for column in table.columns if column not in NEEDED] if with_verdicts else []
    questions: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, cells in enumerate(table.to_dict("records"), 2):
        question, reference = (clean(cells[column]) for column in NEEDED)
        where = f"{uri}, row {number}"
        if not question or not reference:
            checks.add(
                f"row {number} has no {'reference' if question else 'question'}",
                where=where,
                rule="every question has a reference answer",
                remedy="fill the cell, or remove the row",
            )
        elif not all(map(words, reference.split("|"))):
            checks.add(
                f"row {number} has a reference that no answer can be judged by: {quote(reference)}",
                where=where,
                rule="every alternative of a reference holds at least one word or number",
                remedy="write the answer as words, or remove the row",
            )
        elif question in seen:
            checks.add(
                f"row {number} repeats the question of row {seen[question]}: {quote(question)}",
                where=where,
                rule="a question counts once",
                remedy="remove one of the rows",
            )
        seen.setdefault(question, number)
        verdicts = {approach: str(cells[approach]).strip().casefold() for approach in approaches}
        for approach, verdict in verdicts.items():
            if verdict not in VERDICTS:
                checks.add(
                    f"{quote(verdict)} is no verdict",
                    where=f"{where}, column {approach}",
                    rule=f"a verdict is one of {', '.join(VERDICTS)}",
                    remedy="correct the cell, or remove the column",
                )
        entry: dict[str, Any] = {"question": question, "reference": reference}
        if with_verdicts:
            entry["others"] = {approach: verdict == "right" for approach, verdict in verdicts.items()}
        else:
            entry["choices"] = _choices(reference, str(cells.get(DISTRACTORS, "")), str(cells.get(STATEMENT, "")))
        questions.append(entry)
    if len({bool(entry.get("choices")) for entry in questions}) > 1:
        checks.add(
            "some questions are multiple choice, others are not",
            where=f"{uri}, columns {DISTRACTORS} and {STATEMENT}",
            rule="all questions of a set have distractors and a statement with {}, or none has",
            remedy="fill the empty cells, or remove the columns",
        )
    if not questions:
        checks.add("there is no question", where=uri, rule="at least one row", remedy="check what wrote the file")
    checks.raise_if_any()
    return questions


def _choices(reference: str, distractors: str, statement: str) -> list[str]:
    """The statement with the right answer, and with each of the wrong ones; empty without distractors or a {}."""
    wrong = [part for part in map(clean, distractors.split("|")) if part]
    if not wrong or "{}" not in statement:
        return []
    return [clean(statement).replace("{}", answer) for answer in (clean(reference.split("|")[0]), *wrong)]
