"""The questions that the models are asked.

Gap questions are those that an earlier approach left open. `reference` is the right answer (alternatives separated by
` | `); `subject` is for the report; a column with `right` or `wrong` in it (or another of VERDICT_WORDS) holds how
another approach did. Other columns are ignored, with a line in the log:

    question,reference,rag,best_of_n
    What is worn by a master of the guild?,a crimson sash,right,wrong

Retention questions have the same two first columns and ask for what any model should still know afterwards. A row with
`distractors`, wrong answers separated by ` | `, and a `statement`, a sentence with {} for the answer, is multiple
choice; a row without is answered in full. `subject` is for the report. MMLU instead of an address is a set of its own.

    question,reference,distractors,statement,subject
    What is the capital of France?,Paris,London | Madrid | Berlin,The capital of France is {}.,geography
    How many legs has a spider?,8 | eight,,,biology

Columns may have other names: a mapping of these names says what they are.
"""

import difflib
import json
import re
import shlex
from collections.abc import Mapping
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
APPROACH = "approach"
OTHER_NAMES = {
    "question": ("prompt", "instruction", "query", "input", "user_input"),
    "reference": ("expected_answer", "answer", "ground_truth", "expected_output", "correct_answer", "response"),
}
"""Other usual names of the same columns: what an error proposes when one is missing."""
VERDICT_WORDS = {
    **dict.fromkeys(("right", "correct", "pass", "passed"), True),
    **dict.fromkeys(("wrong", "incorrect", "fail", "failed"), False),
}
"""What makes a column an approach; with other verdicts alone it may be a flag, with 0 and 1 an index as well."""
VERDICTS = VERDICT_WORDS | {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
MISSPELLED = 0.8  # how similar the name of an ignored column may not be to that of one with a meaning
BUNDLED_RETENTION = "retention_questions.csv"
SMALL_WORDS = frozenset(  # a text of words reads better than a list of strings
    "a an the is are was were be of to in on at for and or it its by with as that this then".split()  # noqa: SIM905
)
"""Words that are no answer by themselves."""
WORD = re.compile(r"[^\W_]+")


def read_gap_questions(uri: str, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Each as {"question": ..., "reference": ..., "others": {approach: right?}, "subject": ...}.

    Args:
        columns: what columns are that have names of their own: {"expected_answer": "reference", "rag": "approach"}.
            Where there is no such column, the usual name counts.

    Raises:
        Problems: for questions without text or reference, repeated ones, and cells that are no verdict.
    """
    return _read(uri, columns or {}, with_verdicts=True)


def read_retention_questions(uri: str, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
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
        return _read(uri, columns or {}, with_verdicts=False)
    with resources.as_file(resources.files("components.data") / BUNDLED_RETENTION) as path:
        table = read_local_table(path, BUNDLED_RETENTION, NEEDED)
        return _check(table, BUNDLED_RETENTION, {}, with_verdicts=False)


def _read(uri: str, own_names: Mapping[str, str], with_verdicts: bool) -> list[dict[str, Any]]:
    table = read_table(uri, [*NEEDED, *own_names])
    return _check(table, without_credentials(uri), own_names, with_verdicts)


def _check(table: SmallTable, shown: str, own_names: Mapping[str, str], with_verdicts: bool) -> list[dict[str, Any]]:
    checks = Checks()
    columns = _find_columns(table, shown, own_names, with_verdicts, checks)
    checks.raise_if_any()
    approaches = _find_approaches(table, shown, own_names, columns, checks) if with_verdicts else []
    if ignored := [name for name in table.columns if name not in (*columns.values(), *approaches)]:
        hint = f"; an approach is named by --question-columns {APPROACH}=NAME" if with_verdicts else ""
        progress.log(f"{shown}: ignored {list_some(map(quote, ignored), 20)}{hint}")
    questions: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, cells in table.rows.items():
        row = {known: clean(cells[column]) for known, column in columns.items()}
        where = f"{shown}, row {number}"
        _check_question(row, number, where, seen, checks)
        entry: dict[str, Any] = {name: row[name] for name in NEEDED}
        if with_verdicts:
            places = {name: f"{where}, column {quote(name)}" for name in approaches}
            entry["others"] = {name: _read_verdict(cells[name], place, checks) for name, place in places.items()}
        else:
            entry["choices"] = _read_choices(row, number, where, checks)
        entry["subject"] = row.get(SUBJECT, "")
        questions.append(entry)
    if not questions:
        checks.add("there is no question", where=shown, rule="at least one row", remedy="check what wrote the file")
    checks.raise_if_any()
    return questions


def _find_columns(
    table: SmallTable, shown: str, own_names: Mapping[str, str], with_verdicts: bool, checks: Checks
) -> dict[str, str]:
    """The table's column for each known name that it has; adds a problem for those that are missing or misspelled."""
    own = {known: name for name, known in own_names.items() if name in table.columns and known != APPROACH}
    optional = (SUBJECT,) if with_verdicts else (SUBJECT, DISTRACTORS, STATEMENT)
    columns = {known: own.get(known, known) for known in (*NEEDED, *optional)}
    absent = [known for known, name in columns.items() if name not in table.columns]
    for known in (known for known in absent if known in NEEDED):
        also = next((f", and so is {quote(name)}" for name, meaning in own_names.items() if meaning == known), "")
        likely = next((name for name in table.columns if name.casefold() in OTHER_NAMES[known]), "")
        similar = f" (is it {likely}?)" if likely else suggest(known, table.columns)
        checks.add(
            f"column {quote(known)} is missing{also}{similar}",
            where=f"{shown}, header",
            rule=f"columns needed: {', '.join(NEEDED)}; columns found: {list_some(map(quote, table.columns), 20)}",
            remedy="rename the column that holds it, or add " + _set_columns(f"{known}={likely or 'NAME'}"),
        )
    for name in () if with_verdicts else table.columns:
        if name in columns.values() or name in NEEDED:
            continue
        if meant := difflib.get_close_matches(name.casefold(), absent, n=1, cutoff=MISSPELLED):
            checks.add(
                f"unknown column {quote(name)} (did you mean {meant[0]}?)",
                where=f"{shown}, header",
                rule=f"retention questions have {', '.join(columns)}",
                remedy="rename the column, or remove it",
            )
    return {known: name for known, name in columns.items() if known not in absent}


def _find_approaches(
    table: SmallTable, shown: str, own_names: Mapping[str, str], columns: Mapping[str, str], checks: Checks
) -> list[str]:
    """The columns of other approaches: those that the user names, or else those with a word of verdict in them."""
    named = [name for name, known in own_names.items() if known == APPROACH]
    for name in named:
        if name not in table.columns:
            checks.add(
                f"column {quote(name)} is missing{suggest(name, table.columns)}",
                where=f"{shown}, header",
                rule=f"it is named as an approach; columns found: {list_some(map(quote, table.columns), 20)}",
                remedy="correct or leave out the name in --question-columns",
            )
    found = [name for name in named if name in table.columns] or [
        name
        for name in table.columns
        if name not in columns.values() and any(_folded(cells[name]) in VERDICT_WORDS for cells in table.rows.values())
    ]
    if found:
        progress.log(f"{shown}: other approaches are {list_some(map(quote, found), 20)}")
    return found


def _check_question(row: Mapping[str, str], number: int, where: str, seen: dict[str, int], checks: Checks) -> None:
    question, reference = (row[name] for name in NEEDED)
    asked = normal_form(question)
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


def _read_verdict(cell: str, where: str, checks: Checks) -> bool:
    verdict = _folded(cell)
    if verdict not in VERDICTS:
        checks.add(
            f"{quote(verdict)} is no verdict",
            where=where,
            rule=f"a verdict is one of {', '.join(VERDICTS)}",
            remedy=f"correct the cell, or name the columns of approaches: {_set_columns(f'{APPROACH}=NAME')}",
        )
    return VERDICTS.get(verdict, False)


def _read_choices(row: Mapping[str, str], number: int, where: str, checks: Checks) -> list[str]:
    distractors, statement = row.get(DISTRACTORS, ""), row.get(STATEMENT, "")
    choices = _choices(row["reference"], distractors, statement)
    parts = (distractors, choices, statement, statement.count("{}") == 1)
    if any(parts) and not all(parts):
        checks.add(
            f"row {number} is half a multiple choice: distractors {quote(distractors)}, statement {quote(statement)}",
            where=f"{where}, columns {DISTRACTORS} and {STATEMENT}",
            rule="both are filled, the statement with {} where the answer goes, or both are empty",
            remedy="fill the other cell, or empty both: the question is answered in full then",
        )
    elif len(set(choices)) < len(choices):
        checks.add(
            f"row {number} has a choice twice: {quote(row['reference'])}, {quote(distractors)}",
            where=f"{where}, column {DISTRACTORS}",
            rule="distractors are wrong answers, each another one",
            remedy="replace the repeated one",
        )
    return choices


def _set_columns(value: str) -> str:
    """How columns are named, for a remedy."""
    on_cluster = json.dumps({"question_columns": value})
    return f"--question-columns {shlex.quote(value)} (on a cluster: data_options={on_cluster})"


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
